"""Where log lines go and what they look like.

One handler writes to standard output, for every logger of the process, uvicorn's included. Fields
of ``extra={...}`` are part of the line in each of the three forms: text, ``ecs``, ``logstash``.
"""

from __future__ import annotations

import json
import logging
import logging.config
import re
import time
from typing import Any

from ecs_logging import StdlibFormatter
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from cycles_server.settings.common import CommonSettings

SERVICE = "cycles-server"

# What a record has of itself ("taskName" from Python 3.12), and uvicorn's second, coloured message.
_OWN = frozenset(RESERVED_ATTRS) | {"asctime", "color_message", "message", "taskName"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 13: "\\r", 9: "\\t"}
# Level names of Java's logging, where they are others than Python's.
_JAVA_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_BARE = re.compile(r"[\w.:/@+-]+")


def configure_logging(settings: CommonSettings) -> dict[str, Any]:
    """Set up logging for this process and return the configuration, in the form of
    ``logging.config.dictConfig``.

    Hand the result to uvicorn as ``log_config``: it applies it again in each worker process.
    """
    form = settings.logging_structured_format_console or "text"
    # uvicorn brings handlers of its own; without them its lines reach the root's.
    to_root: dict[str, Any] = {"handlers": [], "level": "NOTSET", "propagate": True}
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{__name__}.{_FORMATTERS[form].__name__}"}},
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
            }
        },
        "root": {"handlers": ["console"], "level": settings.log_level},
        "loggers": {
            "uvicorn": to_root,
            "uvicorn.error": to_root,
            # A logger without any handler, and uvicorn does not even compose its access lines.
            "uvicorn.access": {"handlers": [], "level": "WARNING", "propagate": False},
        },
    }
    logging.config.dictConfig(config)
    return config


class TextFormatter(logging.Formatter):
    """``2026-01-31T09:30:00.123Z INFO  logger: message key=value``, a traceback below it."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A message may quote what a client sent: it must not be able to forge a line.
        line = super().formatMessage(record).translate(_CONTROL)
        return " ".join([line, *(f"{key}={_text(value)}" for key, value in _extras(record))])


class EcsFormatter(StdlibFormatter):
    """Elastic Common Schema, the traceback with the causes of the error."""

    def __init__(self) -> None:
        super().__init__(extra={"service.name": SERVICE}, exclude_fields=("color_message",))

    def format_to_ecs(self, record: logging.LogRecord) -> dict[str, Any]:
        record = logging.makeLogRecord(record.__dict__)
        # The library raises, and the line is lost, when an extra field is named like a group of
        # the schema's; the schema's place for names of one's own is "labels".
        for name in ("ecs", "error", "log", "service"):
            if name in record.__dict__:
                record.__dict__[f"labels.{name}"] = record.__dict__.pop(name)
        fields: dict[str, Any] = super().format_to_ecs(record)
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"]["stack_trace"] = self.formatException(record.exc_info)
        return fields


class LogstashFormatter(JsonFormatter):
    """The field names of Logstash's encoder for Java."""

    def __init__(self) -> None:
        super().__init__(
            "%(message)s %(name)s %(threadName)s %(levelname)s %(levelno)s",
            rename_fields={
                "name": "logger_name",
                "threadName": "thread_name",
                "levelname": "level",
                "levelno": "level_value",
                "exc_info": "stack_trace",
            },
            static_fields={"@version": "1"},
            reserved_attrs=sorted(_OWN),
            timestamp="@timestamp",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = _JAVA_LEVELS.get(log_data["level"], log_data["level"])
        log_data["level_value"] *= 1000  # Java counts INFO as 20000, Python as 20
        return log_data


_FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "ecs": EcsFormatter,
    "logstash": LogstashFormatter,
}


def _extras(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in record.__dict__.items() if key not in _OWN]


def _text(value: Any) -> str:
    """The value as it is when no reader could mistake where it ends, else in quotes."""
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
