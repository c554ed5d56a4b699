"""Value readers: each takes the text of the environment and says what would be allowed.

A reader raises ``ValueError`` with the allowed values alone, such as ``true or false``; the name
and the value are put before it where settings are loaded.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from cycles_server.settings.cron import check_cron

INT32 = 2**31 - 1
INT64 = 2**63 - 1
_MOST_DAYS = 1_000_000  # a date that far ahead still has a four-digit year
_DAY_S = 86_400
_ISO_TIME = r"pt(?=[0-9])(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?"


def whole(lowest: int, highest: int, unit: str = "") -> BeforeValidator:
    """Whole numbers from ``lowest`` to ``highest``, both included."""
    allowed = f"a whole number{unit and f' of {unit}'} from {lowest} to {highest}"

    def read(value: Any) -> int:
        # int() alone would also take 1_000 and other scripts' digits.
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text := str(value).strip()):
            raise ValueError(allowed)
        if not lowest <= (number := int(text)) <= highest:
            raise ValueError(allowed)
        return number

    return BeforeValidator(read)


def choice(*words: str, also: Mapping[str, str] | None = None) -> BeforeValidator:
    """One of ``words`` in any case; ``also`` maps further spellings to one of them."""
    known = {word.lower(): word for word in words} | dict(also or {})
    allowed = f"{', '.join(words[:-1])} or {words[-1]}"

    def read(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in known:
            raise ValueError(allowed)
        return known[text]

    return BeforeValidator(read)


def _switch(value: Any) -> bool:
    # The further words are those that the reference takes for a boolean.
    text = str(value).strip().lower()
    if text in ("true", "on", "yes", "1"):
        return True
    if text in ("false", "off", "no", "0"):
        return False
    raise ValueError("true or false")


def _cron(value: str) -> str:
    allowed = "six fields (second, minute, hour, day of month, month, day of week), or - for never"
    fields = value.split()
    if value.strip() == "-":
        return "-"
    if len(fields) != 6 or not all(re.fullmatch(r"[0-9A-Za-z*?,/#-]+", part) for part in fields):
        raise ValueError(allowed)
    cron = " ".join(fields)
    try:
        check_cron(cron)
    except ValueError:
        raise ValueError(allowed) from None
    return cron


def _host(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_.:-]+", text := value.strip()):
        raise ValueError("a host name or an IP address (a URL goes into REDIS_URL)")
    return text


def _redis_url(value: str) -> str:
    allowed = (
        "a URL: redis:// or rediss:// with [user:password@]host[:port][/database], or unix:// "
        "with the path of a socket; user and password percent-encoded"
    )
    if not value:
        return value
    try:
        parts = urlsplit(value.strip())
        port = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    if parts.scheme == "unix":
        fits = len(parts.path) > 1
    else:
        fits = (
            parts.scheme in ("redis", "rediss")
            and bool(parts.hostname)
            and port != 0
            and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
        )
    if not fits:
        raise ValueError(allowed)
    return value.strip()


def _aes_key(value: str) -> str:
    allowed = "the base64 text of 32 bytes"
    if not value:
        return value
    padded = value.strip() + "=" * (-len(value.strip()) % 4)  # the reference does without, too
    try:
        size = len(base64.b64decode(padded, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(allowed) from None
    if size != 32:
        raise ValueError(allowed)
    return padded


def _json_array(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list):
        raise ValueError("a JSON array")
    return value


def _spring_seconds(value: Any) -> int | None:
    """Spring's duration (``30s``, ``500ms``, ``1m``, ``PT30S``; a bare number is milliseconds) in
    seconds, rounded up."""
    if value is None:
        return None
    text = str(value).strip().lower()
    seconds = -1
    if match := re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|)", text):
        factor = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
        seconds = -(-int(match[1]) * factor[match[2]] // 1000)
    elif match := re.fullmatch(_ISO_TIME, text):
        hours, minutes, rest = (int(digits or 0) for digits in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not 0 <= seconds <= _DAY_S:
        raise ValueError(
            "a time of at most a day, such as 30s, 500ms, 1m or PT30S (a bare number is "
            "milliseconds)"
        )
    return seconds


Switch = Annotated[bool, BeforeValidator(_switch)]
Port = Annotated[int, whole(1, 65535)]
Host = Annotated[str, BeforeValidator(_host)]
RedisUrl = Annotated[str, BeforeValidator(_redis_url)]
Days = Annotated[int, whole(1, _MOST_DAYS, "days")]
DaysOrForEver = Annotated[int, whole(0, _MOST_DAYS, "days")]
Milliseconds = Annotated[int, whole(1, INT64, "milliseconds")]
Delay = Annotated[int, whole(0, INT64, "milliseconds")]
# Redis and the event loop take these as the time of one call or key: 24 days are plenty.
CallMilliseconds = Annotated[int, whole(1, INT32, "milliseconds")]
GraceSeconds = Annotated[int, whole(0, _DAY_S, "seconds")]
SpringSeconds = Annotated[int | None, BeforeValidator(_spring_seconds)]
WaitSeconds = Annotated[int, whole(1, _DAY_S, "seconds")]
Cron = Annotated[str, BeforeValidator(_cron)]
PoolSize = Annotated[int, whole(-1, INT32)]
AesKey = Annotated[str, BeforeValidator(_aes_key)]
# NoDecode: pydantic-settings would parse the text itself, and its error names no setting of ours.
JsonArray = Annotated[list[Any], NoDecode, BeforeValidator(_json_array)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    choice(
        "DEBUG",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
        also={"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"},
    ),
]
