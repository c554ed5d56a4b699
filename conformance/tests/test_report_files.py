"""Reports written to files, read back by their own parsers."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cycles_conformance import report
from cycles_conformance.results import RunResult
from report_samples import HUGE, KEY, case, hostile_run, mixed_run, passing_run, run_of


def written(run: RunResult, folder: Path, suffix: str) -> str:
    path = folder / f"report{suffix}"
    report.write(run, path)
    assert [entry.name for entry in folder.iterdir()] == [path.name]
    return path.read_bytes().decode("utf-8")


# -- writing --------------------------------------------------------------------------------------


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"report\.txt: a report ends in \.xml, \.json, \.html"):
        report.write(passing_run(), tmp_path / "report.txt")
    with pytest.raises(ValueError, match="a report ends in"):
        report.check(tmp_path / "report")
    report.check(tmp_path / "REPORT.HTML")


def test_an_unwritable_path_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "report.json"
    with pytest.raises(FileNotFoundError) as raised:
        report.write(passing_run(), path)
    assert raised.value.filename == str(path)


def test_a_folder_in_the_way_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    with pytest.raises(OSError, match=r"report\.json"):
        report.write(passing_run(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_an_old_report_is_replaced_with_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    before = os.umask(0o022)
    try:
        report.write(passing_run(), path)
    finally:
        os.umask(before)
    assert json.loads(path.read_text())["conformant"] is True
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("suffix", [".xml", ".json", ".html"])
def test_no_report_holds_a_key(tmp_path: Path, suffix: str) -> None:
    assert KEY not in written(hostile_run(), tmp_path, suffix)


@pytest.mark.parametrize("suffix", [".xml", ".json", ".html"])
def test_no_report_holds_the_password_of_a_url_that_was_lost(tmp_path: Path, suffix: str) -> None:
    lost = "the server was lost: http://user:hunter2@127.0.0.1:7878 cannot be reached"
    untried = case(verdict="not run", reason=lost)
    run = run_of(untried, target="http://user:hunter2@127.0.0.1:7878", incomplete=lost)
    page = written(run, tmp_path, suffix)
    assert "hunter2" not in page
    assert "the server was lost: http://***@127.0.0.1:7878" in page


@pytest.mark.parametrize("suffix", [".json", ".html"])
def test_a_run_without_cases(tmp_path: Path, suffix: str) -> None:
    assert "NO VERDICT" in written(run_of(), tmp_path, suffix)


# -- JUnit ----------------------------------------------------------------------------------------


def test_junit(tmp_path: Path) -> None:
    root = ET.fromstring(written(mixed_run(), tmp_path, ".xml"))
    assert root.tag == "testsuites"
    counts = {name: root.get(name) for name in ("tests", "failures", "skipped", "errors", "time")}
    assert counts == {"tests": "7", "failures": "2", "skipped": "2", "errors": "1", "time": "83.2"}
    assert [suite.get("name") for suite in root] == ["commit", "evidence", "balances"]
    suite = root[0]
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["target"] == "http://127.0.0.1:7878"
    assert (properties["seed"], properties["level"]) == ("4242", "SHOULD")
    assert properties["provisioning"] == "redis"
    failed = suite.find("testcase")
    assert failed is not None
    assert failed.attrib == {"name": "fails-at-must", "classname": "commit", "time": "0.25"}
    failure = failed.find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "body /amount: expected 250, got 240", "type": "MUST"}
    text = failure.text or ""
    assert "POST http://127.0.0.1:7878/v1/reservations/r-1/commit" in text
    assert HUGE in text
    assert "$CYCLES_API_KEY" in text
    skipped = root[1].find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no evidence is sent"


def test_junit_of_hostile_answers(tmp_path: Path) -> None:
    root = ET.fromstring(written(hostile_run(), tmp_path, ".xml"))
    failures = list(root.iter("failure"))
    assert len(failures) == 1
    message = failures[0].get("message") or ""
    assert message.startswith("</script><script>alert(1)</script>")
    assert "\\x1b[31m" in message
    assert message.endswith("(and 3 more)")
    assert failures[0].get("type") == "MUST"
    assert "Replay: cycles-conformance run --only x --seed 77" in (failures[0].text or "")


def test_junit_of_nothing(tmp_path: Path) -> None:
    root = ET.fromstring(written(run_of(), tmp_path, ".xml"))
    assert (root.get("tests"), root.get("failures")) == ("0", "0")


# -- JSON -----------------------------------------------------------------------------------------


def test_json(tmp_path: Path) -> None:
    told = json.loads(written(mixed_run(), tmp_path, ".json"))
    assert told["format"] == 1
    assert told["conformant"] is False
    assert told["verdict"] == (
        "NOT CONFORMANT at MUST: 1 of 3 cases failed, 1 of 1 at SHOULD, "
        "3 not run (1 could not be set up)"
    )
    assert told["totals"] == {
        "passed": 2,
        "failed": 2,
        "not_run": 3,
        "kit_failed": 0,
        "setup_failed": 1,
    }
    assert told["levels"] == {
        "MUST": {"state": "failed", "failed": 1, "tried": 3, "not_run": 2},
        "SHOULD": {"state": "failed", "failed": 1, "tried": 1, "not_run": 0},
        "MAY": {"state": "not run", "failed": 0, "tried": 0, "not_run": 1},
    }
    assert told["areas"]["evidence"] == {
        "MUST": {"passed": 0, "failed": 0, "not_run": 2, "kit_failed": 0}
    }
    assert told["readings"] == {"any debt blocks new work": ["passes", "passes-too"]}
    assert told["not_run"]["no evidence is sent"] == ["untried", "untried-2"]
    assert told["not_offered"] == {"getEvidence": "404 NOT_FOUND"}
    problem = told["results"][0]["problems"][0]
    assert HUGE in problem["exchange"]["response_body"]
    assert problem["curl"].startswith("curl ")


def test_json_cuts_nothing(tmp_path: Path) -> None:
    run = hostile_run()
    told = json.loads(written(run, tmp_path, ".json"))
    shown = told["results"][0]["exchanges"][1]
    assert shown["response_body"] == run.results[0].exchanges[1].response_body
    assert told["results"][1]["reason"] == run.results[1].reason
    assert told["results"][0]["problems"][3] == {
        "level": "MAY",
        "message": "without an exchange",
        "step": "step 4",
        "exchange": None,
        "curl": None,
    }


def test_json_verdicts(tmp_path: Path) -> None:
    good = json.loads(written(passing_run(), tmp_path, ".json"))
    assert good["verdict"] == "CONFORMANT at SHOULD: 2 cases passed, 1 not run"
    assert good["levels"]["MUST"]["state"] == good["levels"]["SHOULD"]["state"] == "conformant"
    clean = mixed_run()
    clean.results = [clean.results[0], case(level="SHOULD")]
    told = json.loads(written(clean, tmp_path, ".json"))
    assert told["levels"]["SHOULD"]["state"] == "clean"


# -- HTML -----------------------------------------------------------------------------------------

VOID = {"meta", "link", "input", "br", "hr", "img"}
LOADS = {"src", "srcset", "href", "action", "data", "poster", "background", "formaction"}


class Page(HTMLParser):
    """Checks that tags balance, and gathers what the page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.visible = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in LOADS:
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.visible += data


@pytest.mark.parametrize("run", [mixed_run(), passing_run(), hostile_run(), run_of()])
def test_page_is_sound_and_loads_nothing(tmp_path: Path, run: RunResult) -> None:
    text = written(run, tmp_path, ".html")
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert page.tags.count("script") == page.tags.count("style") == page.tags.count("h1") == 1
    assert "img" not in page.tags
    assert not page.handlers
    assert all(link.startswith("#") or link == "data:," for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_page_tells_all_of_a_run(tmp_path: Path) -> None:
    seen = Page(written(mixed_run(), tmp_path, ".html")).visible
    for told in (
        "Not conformant at MUST",
        "http://127.0.0.1:7878",
        "Cycles runtime API 0.1.25.16",
        "9f86d081" * 8,
        "14 March 2026, 09:26 UTC",
        "1 min 23 s",
        "4242",
        "redis",
        "any debt blocks new work",
        "body /amount: expected 250, got 240",
        "commit.returns-rest",
        '"amount": ' + HUGE,
        "$CYCLES_API_KEY",
        "no evidence is sent",
        "getEvidence",
        "passes-too",
        "the budget could not be made",
    ):
        assert told in seen, told


def test_page_of_a_conformant_run(tmp_path: Path) -> None:
    seen = Page(written(passing_run(), tmp_path, ".html")).visible
    assert "Conformant at SHOULD" in seen
    assert "What went wrong" not in seen
    assert "No case of this level was asked for" in seen


def test_page_cuts_long_bodies_and_shows_an_exchange_once(tmp_path: Path) -> None:
    page = Page(written(hostile_run(), tmp_path, ".html"))
    assert "THE END" not in page.visible
    assert "more characters (all are in a JSON report)" in page.visible
    assert "too long to repeat here" in page.visible
    assert "The exchange above shows this too." in page.visible
    assert "{{ 7*7 }}" in page.visible


def test_page_policy_names_its_own_script(tmp_path: Path) -> None:
    text = written(passing_run(), tmp_path, ".html")
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_a_strange_date_stays_as_it_is(tmp_path: Path) -> None:
    run: Any = passing_run(started_at="yesterday")
    assert "yesterday" in Page(written(run, tmp_path, ".html")).visible
