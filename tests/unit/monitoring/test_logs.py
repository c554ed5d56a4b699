"""Log lines: the three forms, fields of ``extra``, exceptions, uvicorn's loggers."""

from __future__ import annotations

import json
import logging
import logging.config
import pickle
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn

from cycles_server.monitoring.logs import configure_logging
from cycles_server.settings.loading import load_settings
from cycles_server.settings.runtime import RuntimeSettings

EXTRA = {"trace_id": "4bf92f35", "request_id": "req-1", "tenant": "acme", "operation": "commit"}
log = logging.getLogger("cycles_server.test")


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.level, one.handlers[:], one.propagate) for one in loggers]
    yield
    for one, level, handlers, propagate in before:
        one.handlers[:] = handlers
        one.setLevel(level)
        one.propagate = propagate


def configure(form: str, level: str = "INFO") -> dict[str, Any]:
    environ = {"LOGGING_STRUCTURED_FORMAT_CONSOLE": form, "LOG_LEVEL": level}
    return configure_logging(load_settings(RuntimeSettings, environ))


def fail() -> None:
    try:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise ValueError("what came of it") from error
    except ValueError:
        log.exception("it failed", extra=EXTRA)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


def assert_now(timestamp: str) -> None:
    assert abs(datetime.now(UTC) - datetime.fromisoformat(timestamp)) < timedelta(minutes=1)


# -- text ------------------------------------------------------------------------------------------


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure("")
    log.warning("refused %d times", 3, extra=EXTRA)
    (line,) = lines(capsys)
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert_now(time)
    assert rest == (
        "WARNING  cycles_server.test: refused 3 times "
        "trace_id=4bf92f35 request_id=req-1 tenant=acme operation=commit"
    )


def test_text_quotes_what_could_be_misread(capsys: pytest.CaptureFixture[str]) -> None:
    configure("")
    log.info("hi", extra={"a": "b c=d", "e": "", "f": None, "g": "\n", "h": 'say "x"'})
    (line,) = lines(capsys)
    assert line.endswith(r'hi a="b c=d" e="" f=None g="\n" h="say \"x\""')


def test_text_keeps_a_message_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("")
    log.info("no such path: %s", "/x\n2026-01-01T00:00:00.000Z ERROR forged\r\x1b[2J")
    (line,) = lines(capsys)
    assert line.endswith(r"/x\n2026-01-01T00:00:00.000Z ERROR forged\r\x1b[2J")


def test_text_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure("")
    fail()
    first, *traceback = lines(capsys)
    assert first.endswith(
        "it failed trace_id=4bf92f35 request_id=req-1 tenant=acme operation=commit"
    )
    assert "KeyError: 'the cause'" in traceback
    assert traceback[-1] == "ValueError: what came of it"


# -- ecs -------------------------------------------------------------------------------------------


def test_ecs(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ecs")
    log.warning("refused %d\ntimes", 3, extra=EXTRA)
    (line,) = objects(capsys)
    assert_now(line["@timestamp"])
    assert line["log.level"] == "warning"
    assert line["message"] == "refused 3\ntimes"
    assert line["log"]["logger"] == "cycles_server.test"
    assert line["process"]["thread"]["name"] == "MainThread"
    assert line["service"]["name"] == "cycles-server"
    assert "ecs.version" in line
    assert {key: line[key] for key in EXTRA} == EXTRA


def test_ecs_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ecs")
    fail()
    (line,) = objects(capsys)
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["message"] == "what came of it"
    assert "KeyError: 'the cause'" in line["error"]["stack_trace"]
    assert line["trace_id"] == EXTRA["trace_id"]


def test_ecs_fields_named_like_groups_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ecs")
    log.info("kept", extra={"error": "a", "log": "b", "service": "c", "ecs": "d"})
    (line,) = objects(capsys)
    assert line["message"] == "kept"
    assert line["labels"] == {"error": "a", "log": "b", "service": "c", "ecs": "d"}


# -- logstash --------------------------------------------------------------------------------------


def test_logstash(capsys: pytest.CaptureFixture[str]) -> None:
    configure("logstash")
    log.warning("refused %d\ntimes", 3, extra=EXTRA)
    (line,) = objects(capsys)
    assert_now(line.pop("@timestamp"))
    assert line == {
        "@version": "1",
        "message": "refused 3\ntimes",
        "logger_name": "cycles_server.test",
        "thread_name": "MainThread",
        "level": "WARN",
        "level_value": 30000,
        **EXTRA,
    }


def test_logstash_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure("logstash")
    fail()
    (line,) = objects(capsys)
    assert (line["level"], line["level_value"]) == ("ERROR", 40000)
    assert "KeyError: 'the cause'" in line["stack_trace"]
    assert line["stack_trace"].endswith("ValueError: what came of it")
    assert "exc_info" not in line
    assert line["trace_id"] == EXTRA["trace_id"]


# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ecs", "logstash"])
def test_any_value_makes_a_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(form)
    log.info("odd", extra={"object": object(), "bytes": b"\xff", "big": 2**70, "lone": "\ud800"})
    assert objects(capsys)[0]["message"] == "odd"


@pytest.mark.parametrize("form", ["", "ecs", "logstash"])
def test_the_level_counts(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(form, "WARNING")
    log.info("quiet")
    logging.getLogger("uvicorn.error").info("quiet, too")
    log.warning("loud")
    (line,) = lines(capsys)
    assert "loud" in line


@pytest.mark.parametrize("form", ["", "ecs", "logstash"])
def test_uvicorn_takes_the_configuration(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = pickle.loads(pickle.dumps(configure(form)))  # this is how a worker gets it
    logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)  # whatever was there before
    uvicorn.Config("unused:app", log_config=config)
    logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[1mstarted"})
    (line,) = lines(capsys)
    assert "started" in line
    assert "color_message" not in line
    if form:
        json.loads(line)


@pytest.mark.parametrize("form", ["", "ecs", "logstash"])
def test_uvicorn_writes_no_access_log(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn.Config("unused:app", log_config=configure(form))
    access = logging.getLogger("uvicorn.access")
    access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/", "1.1", 200)
    assert not access.hasHandlers()  # uvicorn asks this before it composes a line
    assert lines(capsys) == []
