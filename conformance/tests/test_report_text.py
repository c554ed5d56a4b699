"""Text made harmless, secrets masked, and the curl line."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace

import pytest
from cycles_conformance.report.curl import curl
from cycles_conformance.report.mask import MASK, masked, masked_exchange
from cycles_conformance.report.text import duration, one_line, pretty, shortened, visible
from cycles_conformance.results import Problem
from report_samples import KEY, case, exchange, hostile_run, run_of


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\tb\nc é 漢 😀 �", "a\tb\nc é 漢 😀 �"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("a\r\nb", "a\\r\nb"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ud800\uffff\x85", "\\ud800\\uffff\\x85"),
    ],
)
def test_visible(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_pretty_changes_nothing_but_space() -> None:
    body = '{"a":90071992547409931234567890,"b":[1.50,1e400,[],{}],"a":"\\u00e9 \\"{[,:]}"}'
    shown = pretty(body)
    assert shown == (
        '{\n  "a": 90071992547409931234567890,\n  "b": [\n    1.50,\n    1e400,\n    [],\n    {}\n'
        '  ],\n  "a": "\\u00e9 \\"{[,:]}"\n}'
    )
    assert json.loads(shown) == json.loads(body)


@pytest.mark.parametrize(
    "body", ["", "{", "NaN", '{"a":Infinity}', "<b>", "[" * 100_000, "\ufeff{}"]
)
def test_pretty_leaves_what_is_no_json(body: str) -> None:
    assert pretty(body) == body


def test_pretty_takes_integers_beyond_the_limit_of_int() -> None:
    assert pretty("[" + "9" * 10_000 + "]") == "[\n  " + "9" * 10_000 + "\n]"


def test_lengths() -> None:
    assert shortened("x" * 4_000) == "x" * 4_000
    assert "1,000 more characters" in shortened("x" * 5_000)
    assert one_line("a\n b", 10) == "a b"
    assert one_line("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3720, "1 h 2 min")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_mask_hides_a_key_wherever_it_turns_up() -> None:
    sent = exchange(
        url=f"http://u:pw@host/v1?key={KEY}",
        request_body=f'{{"key":"{KEY}"}}',
        response_headers={"X-Echo": KEY, "Set-Cookie": "session=1"},
        response_body=f"no such key {KEY}",
    )
    found = case(problems=[Problem("MUST", f"got {KEY}", "s", sent)], exchanges=[sent])
    clean = masked(replace(run_of(found), target="http://u:pw@host", not_offered={"x": KEY}))
    assert KEY not in repr(clean)
    assert "pw@" not in repr(clean)
    assert "session=1" not in repr(clean)
    shown = clean.results[0].exchanges[0]
    assert shown.request_headers["x-cycles-API-key"] == MASK
    assert shown.response_body == f"no such key {MASK}"
    assert KEY in repr(found), "the run itself must stay as it was"


def test_mask_hides_a_key_that_is_handed_out() -> None:
    made = exchange(response_body='{"key_id":"k-1","key_secret": "cyc_live_fresh"}')
    told = replace(made, response_body='{"name":"cyc_live_fresh"}')
    found = masked(run_of(case(exchanges=[made, told])))
    assert [one.response_body for one in found.results[0].exchanges] == [
        f'{{"key_id":"k-1","key_secret": "{MASK}"}}',
        f'{{"name":"{MASK}"}}',
    ]


def test_mask_spares_short_and_empty_keys_in_other_text() -> None:
    sent = exchange(request_headers={"X-Cycles-API-Key": "a"}, response_body="a banana")
    assert masked_exchange(sent).response_body == "a banana"
    assert masked_exchange(sent).request_headers == {"X-Cycles-API-Key": MASK}
    empty = exchange(request_headers={"X-Cycles-API-Key": ""})
    assert masked_exchange(empty).request_headers == {"X-Cycles-API-Key": ""}


def test_mask_longer_key_that_begins_like_another() -> None:
    sent = exchange(
        request_headers={
            "X-Cycles-API-Key": "secret-key",
            "X-Admin-API-Key": "secret-key-of-admin",
        },
        response_body="secret-key-of-admin secret-key",
    )
    assert masked_exchange(sent).response_body == f"{MASK} {MASK}"


def test_curl_reads_keys_from_the_environment() -> None:
    line = curl(
        exchange(
            method="GET",
            url="http://h/v1/balances?tenant=a&x=it's",
            request_headers={"x-cycles-api-key": KEY, "X-Admin-API-Key": "admin-key", "Host": "h"},
            request_body=None,
        )
    )
    assert line == (
        "curl -sS -i 'http://h/v1/balances?tenant=a&x=it'\"'\"'s' "
        '-H "x-cycles-api-key: $CYCLES_API_KEY" -H "X-Admin-API-Key: $CYCLES_ADMIN_KEY"'
    )


def test_curl_options_for_odd_requests() -> None:
    assert "--globoff" in curl(exchange(url="http://h/{x}[1]"))
    assert "--path-as-is" in curl(exchange(url="http://h/a/../b"))
    assert "--head" in curl(exchange(method="HEAD", request_body=None))
    assert "-X HEAD" not in curl(exchange(method="HEAD", request_body=None))
    assert "-H 'X-A;'" in curl(exchange(request_headers={"X-A": ""}))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "body",
    [
        "",
        '{"a":"it\'s $HOME `x` \\"q\\" \\\\ !"}',
        "@/etc/hostname",
        "line\nline\ttab\\n",
        "nul \x00 esc \x1b[2J \\0011 é 漢 \u202e %s %b",
    ],
)
def test_curl_repeats_the_request_exactly(body: str) -> None:
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers), content))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        sent = exchange(
            url=f"http://127.0.0.1:{server.server_port}/v1/x?y=%7B1%7D&z=a b".replace(" ", "%20"),
            request_headers={"X-Cycles-API-Key": KEY, "X-Odd": "a 'b' $c", "X-Empty": ""},
            request_body=body,
        )
        done = subprocess.run(
            ["/bin/sh", "-c", curl(sent)],
            env={"PATH": os.environ["PATH"], "CYCLES_API_KEY": "from-environment"},
            capture_output=True,
            timeout=20,
        )
    assert done.returncode == 0, done.stderr
    method, path, headers, content = seen[0]
    assert (method, path) == ("POST", "/v1/x?y=%7B1%7D&z=a%20b")
    assert headers["X-Cycles-API-Key"] == "from-environment"
    assert (headers["X-Odd"], headers["X-Empty"]) == ("a 'b' $c", "")
    assert "Content-Type" not in headers
    assert content == body.encode()


def test_masking_keeps_everything_else() -> None:
    run = hostile_run()
    assert masked(masked(run)) == masked(run)
    assert [result.case for result in masked(run).results] == [one.case for one in run.results]
