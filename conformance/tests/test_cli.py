"""The command line: verdicts, exit codes, and what it says when something is wrong with the server,
the options or the files. Whatever happens, nobody sees a Python traceback."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import COMMAND, cli, pool
from cycles_conformance import client
from cycles_conformance.cli.replay import replay_line
from fake_cycles import (
    FakeServer,
    Reply,
    Request,
    case_file,
    committed,
    granted,
    refusal,
    reply,
    serving,
)
from standin.admin import ADMIN_KEY, AdminStandIn


def could_not_run(result: Result) -> str:
    """The one line that says why."""
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Error: "), result.output
    assert result.output.count("\n") == 1, result.output
    return result.output.removeprefix("Error: ").rstrip("\n")


@pytest.fixture(autouse=True)
def _no_target_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CYCLES_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    return pool(tmp_path / "pool.json")


@pytest.fixture
def there() -> Iterator[str]:
    """URL of a good server: whether one is there is the first thing that a run finds out."""
    with serving(constantly(granted())) as server:
        yield server.url


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, fixtures: Path) -> Run:
    """``run`` with one small case, against a URL."""

    def against(
        url: str, *arguments: str | Path, steps: str = "- do: reserve", level: str = "MUST"
    ) -> Result:
        cases = case_file(tmp_path / "cases", steps, head="given: shared", level=level)
        return cli("run", "--url", url, "--cases", cases, "--fixtures", fixtures, *arguments)

    return against


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """URL of a server that does no more than accept and ``handle``."""
    server = socket.create_server(("127.0.0.1", 0))
    threads = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            thread = threading.Thread(target=served, args=(connection,))
            thread.start()
            threads.append(thread)

    def served(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            handle(connection)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        # Closing alone would not wake the thread that accepts.
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for thread in [acceptor, *threads]:
            thread.join()


def silent(connection: socket.socket) -> None:
    """Reads for as long as the other side is there, and says nothing."""
    while connection.recv(4096):
        pass


def free_port_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def constantly(answer: Reply) -> Callable[[Request], Reply]:
    return lambda request: answer


# -- verdicts -------------------------------------------------------------------------------------


def test_a_conformant_server(run: Run) -> None:
    with serving(constantly(granted())) as server:
        result = run(server.url, "--seed", "5")
    assert result.exit_code == 0
    assert result.output.rstrip().split("\n")[-1].startswith("CONFORMANT at SHOULD: 2 cases")
    assert "seed 5" in result.output


def test_a_server_that_is_not(run: Run) -> None:
    with serving(constantly(granted(decision="MAYBE"))) as server:
        result = run(server.url)
    assert result.exit_code == 1
    assert "contract: body /decision: 'MAYBE' is not one of" in result.output
    assert result.output.rstrip().split("\n")[-1].startswith("NOT CONFORMANT at MUST: 1 of 2")


@pytest.mark.parametrize(
    ("level", "asked", "code"),
    [("SHOULD", "SHOULD", 1), ("MAY", "MAY", 1), ("MUST", "MAY", 1)],
)
def test_levels(run: Run, level: str, asked: str, code: int) -> None:
    steps = "- {do: reserve, expect: {body: {decision: DENY}}}"
    with serving(constantly(granted())) as server:
        result = run(server.url, "--level", asked, steps=steps, level=level)
    assert result.exit_code == code


def test_a_level_that_leaves_nothing(run: Run, there: str) -> None:
    message = could_not_run(run(there, "--level", "must", level="MAY"))
    assert message == "--level MUST leaves no case: all that are chosen are MAY"


def test_nothing_could_be_tried(run: Run) -> None:
    def script(request: Request) -> Reply:
        return refusal(404, "NOT_FOUND") if request.path.endswith("decide") else granted()

    with serving(script) as server:
        result = run(server.url, steps="- do: decide")
    assert result.exit_code == 2
    assert "the server does not offer decide" in result.output


def test_operations_are_not_missing_because_reserving_fails(run: Run) -> None:
    def script(request: Request) -> Reply:
        if request.method == "POST":
            return refusal(500, "INTERNAL_ERROR")
        return refusal(404, "NOT_FOUND") if "/v1/reservations/" in request.path else granted()

    with serving(script) as server:
        result = run(server.url, steps="- do: reserve\n- do: get")
    # Not "not run": the server was asked for no reservation that it could have had.
    assert result.exit_code == 1
    assert "getReservation" not in result.output


def test_reports_of_a_failing_run(run: Run, tmp_path: Path) -> None:
    reports = [tmp_path / f"report.{suffix}" for suffix in ("json", "xml", "html")]
    options = [part for path in reports for part in ("--report", str(path))]
    steps = "- do: reserve\n- {do: commit, expect: {body: {charged: {amount: 5}}}}"

    def script(request: Request) -> Reply:
        return committed(100) if request.path.endswith("commit") else granted()

    with serving(script) as server:
        result = run(server.url, *options, steps=steps)
    assert result.exit_code == 1
    for path in reports:
        text = path.read_text(encoding="utf-8")
        assert "the-case" in text
        assert "body /charged/amount is 100, expected 5" in text
        assert "s3cret" not in text
        assert f"report written to {path}" in result.output


# -- bad servers ----------------------------------------------------------------------------------


def test_nothing_listens(run: Run) -> None:
    url = free_port_url()
    assert f"{url} cannot be reached: no answer: " in could_not_run(run(url))


def test_a_server_that_never_answers(run: Run) -> None:
    with listening(silent) as url:
        message = could_not_run(run(url, "--timeout", "0.5"))
    assert message == f"{url} cannot be reached: no complete answer within 0.5 s"


def test_a_body_that_never_ends(run: Run) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with listening(drip) as url:
        message = could_not_run(run(url, "--timeout", "0.5"))
    assert message == f"{url} cannot be reached: no complete answer within 0.5 s"


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"",
    ],
)
def test_no_http(run: Run, said: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with listening(say) as url:
        message = could_not_run(run(url))
    assert message.startswith(f"{url} cannot be reached: no answer: ")


def test_a_web_page(run: Run) -> None:
    answer = Reply(200, b"<html>", {"content-type": "text/html; charset=utf-8"})
    with serving(constantly(answer)) as server:
        message = could_not_run(run(server.url))
    assert message == (
        f"{server.url} answers 200 with a web page (text/html; charset=utf-8): "
        "is this the address of the API?"
    )


def test_a_redirect(run: Run) -> None:
    answer = Reply(308, b"", {"location": "https://elsewhere.example/"})
    with serving(constantly(answer)) as server:
        message = could_not_run(run(server.url))
    assert message == (
        f"{server.url} redirects to https://elsewhere.example/: "
        "give the address that answers by itself"
    )


@pytest.mark.parametrize(
    "answer",
    [
        Reply(500, b"oops", {"content-type": "text/plain"}),
        refusal(500, "INTERNAL_ERROR"),
        Reply(200, b'{"decision": "\xff\xfe"}', {"content-type": "application/json"}),
        Reply(200, b"[" * 200_000, {"content-type": "application/json"}),
        Reply(200, b'{"reservation_id": [], "cycles_evidence": 1}', {}),
        Reply(200, b"\x00\x1b[2J\x9b", {"x-odd": "\x7f\xe9"}),
        Reply(200, b"null", {"content-type": "application/json"}),
        reply(200, {"decision": "ALLOW", "affected_scopes": [], "reservation_id": "\ud800/../"}),
    ],
)
def test_nonsense_is_a_verdict(run: Run, answer: Reply, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    steps = "- do: reserve\n- do: commit\n- {ledger: [{spent: 0}]}"
    with serving(constantly(answer)) as server:
        result = run(server.url, "--report", report, steps=steps)
    assert result.exit_code == 1
    assert json.loads(report.read_text(encoding="utf-8"))


def test_an_enormous_body(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1_000_000)
    body = b'["' + b"x" * 5_000_000 + b'"]'
    answer = Reply(200, body, {"content-type": "application/json"})
    report = tmp_path / "report.json"
    with serving(constantly(answer)) as server:
        result = run(server.url, "--report", report)
    assert result.exit_code == 1
    assert "the body is not JSON" in result.output
    assert report.stat().st_size < 2_000_000


# -- provisioning ---------------------------------------------------------------------------------

STRANGER = refusal(401, "UNAUTHORIZED")


def test_keys_that_the_server_does_not_know(
    tmp_path: Path, fixtures: Path, store: Any, redis_url: str
) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve")
    with serving(constantly(STRANGER)) as server, closing(AdminStandIn()) as admin:
        base = ["run", "--url", server.url, "--cases", cases]
        says = f"{server.url} answers 401 to the first key that was made for it: "
        for options, question in (
            (["--redis-url", redis_url], f"does the server read this Redis, {redis_url}?"),
            (["--fixtures", fixtures], f"are the secrets in {fixtures} keys of this server?"),
            (["--provision-command", command_provisioner(tmp_path)],
             "does the provisioning command make its keys where the server looks for them?"),
            (["--admin-url", admin.url.replace("//", "//me:hunter2@"), "--admin-key", ADMIN_KEY],
             f"does the server share its store with the admin API at {admin.url}?"),
        ):  # fmt: skip
            assert could_not_run(cli(*base, *options)) == says + question
        fuzzed = cli("fuzz", "--url", server.url, "--fixtures", fixtures)
        assert could_not_run(fuzzed).startswith(says)


def test_a_redis_that_the_server_does_not_read_by_its_address_alone(
    tmp_path: Path, store: Any, redis_url: str
) -> None:
    """Whatever ends up in a log holds no password."""
    store.config_set("requirepass", "hunter2")
    cases = case_file(tmp_path / "cases", "- do: reserve")
    try:
        with serving(constantly(STRANGER)) as server:
            url = redis_url.replace("unix://", "unix://:hunter2@")
            result = cli("run", "--url", server.url, "--cases", cases, "--redis-url", url)
    finally:
        store.config_set("requirepass", "")
    assert could_not_run(result).endswith(f"does the server read this Redis, {redis_url}?")


def test_keys_that_the_server_does_not_know_are_seen_without_a_shared_tenant(
    tmp_path: Path,
) -> None:
    budgets = "budgets: [{unit: TOKENS, allocated: 1000}]"
    small = tmp_path / "small.yaml"
    small.write_text(f"tenants: [{{id: a, keys: [{{secret: s}}], {budgets}}}]")
    report = tmp_path / "report.json"
    cases = case_file(tmp_path / "cases", "- do: reserve", head=f"given: {{{budgets}}}")
    with serving(constantly(STRANGER)) as server:
        options = ["--cases", cases, "--fixtures", small, "--report", report]
        result = cli("run", "--url", server.url, *options)
    assert result.exit_code == 2
    assert "are the secrets in" in result.output.rstrip().split("\n")[-1]
    told = json.loads(report.read_text())
    assert (told["totals"]["failed"], told["totals"]["not_run"]) == (0, 1)
    assert "are the secrets in" in told["incomplete"]


PROVISIONER = """
import json, sys

request = json.load(sys.stdin)
if request["action"] == "capabilities":
    print('{"lacks": []}')
elif request.get("shared") or "broken" not in sys.argv:
    print(json.dumps({
        "tenants": {spec["name"]: spec["name"] for spec in request["tenants"]},
        "secrets": {spec["name"]: spec["name"] for spec in request["keys"]},
    }))
else:
    sys.exit("the database is full")
"""


def command_provisioner(folder: Path, *arguments: str) -> str:
    path = folder / "provisioner.py"
    path.write_text(PROVISIONER)
    return " ".join([sys.executable, str(path), *arguments])


def test_provisioning_that_fails(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve")
    with serving(constantly(granted())) as server:
        options = ["run", "--url", server.url, "--cases", cases, "--provision-command"]
        fine = cli(*options, command_provisioner(tmp_path))
        broken = cli(*options, command_provisioner(tmp_path, "broken"))
        dead = cli(*options, f"{sys.executable} -c 'raise SystemExit(3)'")
        missing = cli(*options, "/no/such/command")
    assert fine.exit_code == 0
    assert broken.exit_code == 2
    assert "setup failed: the provisioning command (prepare) failed with status 1" in broken.output
    assert "the database is full" in broken.output
    assert "(capabilities) failed with status 3" in could_not_run(dead)
    assert "/no/such/command" in could_not_run(missing)


def test_an_admin_api_that_is_down(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve")
    with serving(constantly(granted())) as server:
        result = cli(
            "run", "--url", server.url, "--cases", cases,
            "--admin-url", free_port_url(), "--admin-key", "k",
        )  # fmt: skip
    assert "admin" in could_not_run(result)


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "localhost:7878"], "--url: 'localhost:7878' is not an http:// or https://"),
        (["--url", "ftp://h"], "--url: 'ftp://h' is not an http:// or https:// address"),
        (["--url", ""], "--url: give the base URL of the server under test"),
        (["--url", "http://"], "http: cannot be reached: no answer: "),
        (["--url", "http://localhost:99999"], "cannot be reached: no answer: "),
        (["--url", "http://[::1"], "cannot be reached: no answer: "),
        (["--url", "http://a b/"], "cannot be reached: no answer: "),
        (["--url", "http://.../"], "cannot be reached: no answer: "),
        (["--report", "a.pdf"], "--report: a.pdf: a report ends in .xml, .json, .html"),
        (["--report", "no/such/a.xml"], "--report: no/such/a.xml: there is no folder no/such"),
        (["--admin-key", "geheim\xfc"], "--admin-key: no text that a header can carry"),
        (["--admin-key", "two\nlines"], "--admin-key: no text that a header can carry"),
    ],
)
def test_options_with_a_fault(run: Run, arguments: list[str], says: str) -> None:
    assert says in could_not_run(run("http://127.0.0.1:1", *arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "no-such-*"], "--only: no area and no case is called 'no-such-*' (see --list)"),
        (["--spec", "none.yaml"], "none.yaml cannot be read: No such file or directory"),
    ],
)
def test_options_with_a_fault_that_shows_once_the_server_answered(
    run: Run, there: str, arguments: list[str], says: str
) -> None:
    assert says in could_not_run(run(there, *arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout", "0"],
        ["--timeout", "inf"],
        ["--jobs", "0"],
        ["--level", "perhaps"],
        ["--seed", "x"],
        ["--report", "."],
        ["--cases", __file__],
        ["--colour"],
    ],
)
def test_options_that_click_refuses(run: Run, arguments: list[str]) -> None:
    result = run("http://127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output


@pytest.mark.parametrize("option", ["--no-rate-limit", "--no-throttle"])
def test_cases_that_use_up_the_rate_limit_can_be_left_out(
    tmp_path: Path, fixtures: Path, option: str
) -> None:
    head = "requires: [rate_limit]\ngiven: shared"
    cases = case_file(tmp_path / "cases", "- do: reserve", head=head)
    with serving(constantly(granted())) as server:
        options = ["run", "--url", server.url, "--cases", cases, "--fixtures", fixtures]
        assert cli(*options).exit_code == 0
        result = cli(*options, option)
    assert result.exit_code == 2
    assert "--no-rate-limit was given" in result.output
    assert "--throttle" not in cli("run", "--help").output


def test_a_report_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "report.json"
    with serving(constantly(granted())) as server:

        def script(request: Request) -> Reply:
            # Becomes impossible only while the run is under way.
            folder.mkdir(exist_ok=True)
            return granted()

        with serving(script) as server:
            result = run(server.url, "--report", folder)
    assert result.exit_code == 2
    assert result.output.rstrip().endswith(f"Error: --report: {folder}: Is a directory")


def test_paths_are_no_markup(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "[bold][/red]"
    odd.mkdir(parents=True)
    with serving(constantly(granted())) as server:
        result = run(server.url, "--report", odd / "a.json")
    assert result.exit_code == 0
    assert f"report written to {odd}/a.json" in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("paths: [", "is not YAML: line 2, column 1: "),
        ("openapi: 3.1.0", "is not an OpenAPI document: it has no paths"),
        ('{"paths": {}}', "it has no operation createReservation"),
    ],
)
def test_a_spec_with_a_fault(run: Run, there: str, tmp_path: Path, text: str, says: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    assert says in could_not_run(run(there, "--spec", spec))
    assert says in could_not_run(cli("coverage", "--spec", spec))


def test_ways_to_provision(there: str, tmp_path: Path, fixtures: Path) -> None:
    base = [
        "run",
        "--url",
        there,
        "--cases",
        case_file(tmp_path / "c", "- do: list"),
    ]
    assert could_not_run(cli(*base)).startswith("nothing says how tenants come into being")
    both = cli(*base, "--fixtures", fixtures, "--provision-command", "x")
    assert could_not_run(both).startswith("give only one of")
    assert "--admin-key" in could_not_run(cli(*base, "--admin-url", "http://127.0.0.1:1"))
    unquoted = cli(*base, "--provision-command", "a 'b")
    assert could_not_run(unquoted) == "the provisioning command: No closing quotation"
    gone = cli(*base, "--redis-url", "unix:///no/such/socket")
    assert could_not_run(gone)
    assert could_not_run(cli(*base, "--redis-url", "nonsense"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenants: [", "line 2, column 1"),
        ("tenants: []", "/tenants: "),
        ("{tenants: [{id: a}]}", "/tenants/0: 'keys' is a required property"),
        ("{tenants: [], tenants: []}", "the name 'tenants' comes twice"),
    ],
)
def test_fixtures_with_a_fault(run: Run, there: str, fixtures: Path, text: str, says: str) -> None:
    fixtures.write_text(text)
    assert says in could_not_run(run(there))
    fixtures.unlink()
    assert could_not_run(run(there)) == f"{fixtures}: No such file or directory"


def test_cases_with_faults(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- {do: list, as: x}\n- {do: commit}")
    for command in (["run", "--url", "http://127.0.0.1:1", "--list"], ["coverage"]):
        result = cli(*command, "--cases", cases)
        assert result.exit_code == 2
        assert result.output.split("\n") == [
            "Error: tests.yaml: case the-case: step 1: as: no key is called x",
            "tests.yaml: case the-case: step 2: path: nothing sets ${reservation}",
            "",
        ]


def test_a_proxy_that_cannot_be_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy")
    assert "no HTTP client by this environment: " in could_not_run(run("http://127.0.0.1:1"))


# -- properties -----------------------------------------------------------------------------------


def test_a_failing_property_prints_the_line_that_replays_it(
    tmp_path: Path, store: Any, redis_url: str
) -> None:
    reports = [tmp_path / f"report.{suffix}" for suffix in ("json", "xml", "html")]
    written = [part for path in reports for part in ("--report", str(path))]
    with serving(constantly(granted())) as server:
        target = ["--url", server.url, "--redis-url", redis_url]
        only = ["--only", "property-walk-*", "--only", "property-replays-*"]
        first = cli("run", *target, *only, "--seed", "5", *written)
        lines = [
            line.split("Replay: ")[1] for line in first.output.split("\n") if "Replay: " in line
        ]
        assert len(lines) == 4, first.output
        again = cli(*shlex.split(lines[0])[1:])
    assert first.exit_code == again.exit_code == 1
    # The same choices: the same reservation was asked for first.
    assert f"Replay: {lines[0]}" in again.output
    assert what_went_wrong(lines[0], again.output) in first.output
    for path in reports:
        told = path.read_text(encoding="utf-8")
        assert all(line in told for line in lines), path


def what_went_wrong(line: str, output: str) -> str:
    """The first problem below a replay line."""
    return output.split(f"Replay: {line}\n")[1].split("\n")[0]


def test_a_replay_line_holds_no_secret() -> None:
    options: dict[str, Any] = dict.fromkeys(
        ("url", "admin_url", "redis_url", "admin_key", "provision_command", "spec", "admin_spec")
    )
    options |= {"fixtures": Path("a pool.yaml"), "timeout": 10.0, "url": "https://u:hunter2@host"}
    options |= {"admin_key": "hunter2", "provision_command": "PGPASSWORD=hunter2 make-tenants"}
    options["redis_url"] = "redis://:hunter2@host"
    assert replay_line(options, "property-x", 7) == (
        'cycles-conformance run --url "$CYCLES_URL" --redis-url "$CYCLES_REDIS_URL" '
        '--admin-key "$CYCLES_ADMIN_KEY" --provision-command "$CYCLES_PROVISION_COMMAND" '
        "--fixtures 'a pool.yaml' --timeout 10 --only property-x --seed 7"
    )


# -- what only tells ------------------------------------------------------------------------------


def test_list(run: Run, tmp_path: Path) -> None:
    # Neither a server nor a provisioner is asked for anything.
    result = run("http://127.0.0.1:1", "--list")
    assert result.exit_code == 0
    assert result.output.split("\t")[:3] == ["the-case", "MUST", "tests"]
    assert run("http://127.0.0.1:1", "--list", "--only", "the-*").output == result.output


LOADED = """
import sys
from cycles_conformance.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = ("schemathesis", "hypothesis", "jsonschema", "httpx", "jinja2", "yaml", "redis")
print(*(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("arguments", "loads"),
    [
        (["run", "--help"], ""),
        (["--help"], ""),
        (["run", "--url", "localhost"], ""),
        (["run", "--url", "http://127.0.0.1:1", "--redis-url", "redis://127.0.0.1:1"], "httpx"),
        (["run", "--list"], "yaml"),
    ],
)
def test_what_only_tells_something_loads_little(arguments: list[str], loads: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split("\n")[-2] == loads, told.stderr


def test_the_list_of_the_bundled_cases_is_that_of_the_files() -> None:
    by_glance = cli("run", "--list", "--level", "MAY").output.split("\n")
    folder = Path(__file__).parents[1] / "cases"
    by_file = cli("run", "--list", "--level", "MAY", "--cases", folder).output.split("\n")
    assert len(by_file) > 1000
    *cases, declared, _ = by_file
    assert by_glance[: len(cases)] == cases
    *properties, last, _ = by_glance[len(cases) :]
    assert properties
    assert all("\tproperties\t" in line for line in properties)
    assert last == declared
    assert declared.startswith("answers-as-declared\tMUST\tanswers\t")


def test_help_and_version() -> None:
    for arguments in (["--help"], ["run", "--help"], ["fuzz", "-h"], ["coverage", "--help"]):
        result = cli(*arguments)
        assert result.exit_code == 0
        assert "Exit codes: 0" in result.output
    assert cli("--version").output.startswith("cycles-conformance, version ")


def test_coverage_of_other_cases(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve")
    result = cli("coverage", "--cases", cases, "--unclaimed")
    assert result.exit_code == 0
    assert "the-case" in result.output
    assert "commitReservation: no case sends a request to it" in result.output
    assert "Normative sentences that no case claims" in result.output
    path = cases / "clauses.yaml"
    path.write_text(
        path.read_text().replace(
            "declares: something, shape: {/operationId: createReservation}", "says: '[/x] is said'"
        )
    )
    message = could_not_run(cli("coverage", "--cases", cases))
    fault = "clause tests.one: 'createReservation' does not say: [/x] is said"
    assert message == f"clauses.yaml: {fault}"


def test_coverage_of_another_edition(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve", level="SHOULD")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "openapi: 3.1.0\npaths: {/x: {post: {operationId: createReservation}}}\n"
        "info: {title: Other, version: '2', description: '# Rules'}"
    )
    path = cases / "clauses.yaml"
    path.write_text("runtime: {Purpose: {tests.one: {declares: '[/x] is said'}}}")
    result = cli("coverage", "--cases", cases, "--spec", spec)
    # What the bundled contract says need not be in every edition.
    assert result.exit_code == 0
    assert "clause tests.one: 'Purpose' does not say: [[/x] is said]" in result.output


def shell(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_output_that_knows_only_ascii(tmp_path: Path) -> None:
    cases = case_file(tmp_path / "cases", "- do: reserve")
    path = cases / "clauses.yaml"
    path.write_text(path.read_text().replace("something", "'„über“ \u2028'"), encoding="utf-8")
    told = shell("coverage", "--cases", cases, PYTHONIOENCODING="ascii")
    assert (told.returncode, told.stderr) == (0, "")
    assert r"\u201e\xfcber\u201c" in told.stdout
    path = cases / "tests.yaml"
    path.write_bytes(b"area: \xc3\xbc\nabout: x\ncases: [1]\n")
    told = shell("run", "--url", "http://x", "--list", "--cases", cases, PYTHONIOENCODING="ascii")
    assert told.returncode == 2
    assert told.stderr.startswith("Error: tests.yaml: area: ")
    assert "Traceback" not in told.stderr


def test_an_output_that_nobody_reads_to_the_end() -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--url", "http://x", "--list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


# -- fuzz -----------------------------------------------------------------------------------------


def test_fuzzing_that_cannot_begin(fixtures: Path, tmp_path: Path) -> None:
    def fuzz(url: str, pool: Path = fixtures) -> Any:
        return could_not_run(cli("fuzz", "--url", url, "--fixtures", pool, "--seed", "1"))

    assert "cannot be reached" in fuzz(free_port_url())
    with serving(constantly(refusal(500, "INTERNAL_ERROR"))) as server:
        assert fuzz(server.url) == "no reservation could be made: run the cases first"
        assert all("pool" not in request.path for request in server.requests)
        small = tmp_path / "small.yaml"
        small.write_text("tenants: [{id: a, keys: [{secret: s}]}]")
        message = fuzz(server.url, small)
    assert message.startswith("fuzzing needs a tenant with budgets: the fixtures have no shared")


def test_fuzzing_of_the_admin_plane_that_cannot_begin() -> None:
    def fuzz(*options: str) -> Any:
        return could_not_run(cli("fuzz", "--plane", "admin", "--seed", "1", *options))

    assert fuzz("--admin-key", "k").startswith("--admin-url: ")
    nobody = free_port_url()
    assert fuzz("--admin-url", nobody).startswith("--admin-key: ")
    assert "cannot be reached" in fuzz("--admin-url", nobody, "--admin-key", "k")
    with serving(constantly(refusal(401, "UNAUTHORIZED"))) as server:
        message = fuzz("--admin-url", server.url, "--admin-key", "wrong")
    assert message.startswith("POST /v1/admin/tenants answered 401")


def test_the_server_is_asked_as_the_options_say(run: Run) -> None:
    with serving(constantly(granted())) as server:
        result = run(f"{server.url}/v1/")
    assert result.exit_code == 0
    assert_asked(server)


def assert_asked(server: FakeServer) -> None:
    paths = {request.path for request in server.requests}
    assert "/v1/reservations" in paths
    assert not any(path.startswith("/v1/v1") or "//" in path for path in paths)
    keyed = [r for r in server.requests if "x-cycles-api-key" in r.headers]
    assert {request.headers["x-cycles-api-key"] for request in keyed} == {"s3cret"}
    # The first question, whether anybody is there, gives no key away.
    assert server.requests[0] not in keyed
