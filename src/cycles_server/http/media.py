"""What a request's headers say about its body."""

from __future__ import annotations

import re

from cycles_server.jsontext import shown
from cycles_server.refusal import invalid

_JSON = "application/json"
_UTF_8 = ("utf-8", "utf8")

# One parameter of a media type (RFC 9110, 5.6.6). No two branches match the same text, so that
# the time is linear in the header's length.
_PARAMETER = re.compile(r';[ \t]*([^;="]*)(?:=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)[ \t]*)?')


def check_json_body(content_type: str | None, content_encoding: str | None) -> None:
    """Only JSON in UTF-8 is read, and only as it is, not compressed.

    Parameters of the media type other than ``charset`` say nothing about that.

    Raises:
        Refusal: 400 that names the header.
    """
    if content_encoding is not None:
        _check_encoding(content_encoding)
    if content_type == _JSON:
        return
    media_type, _, _ = (content_type or "").partition(";")
    if content_type is None or media_type.strip(" \t").lower() != _JSON:
        raise invalid("Content-Type", f"must be {_JSON}")
    for name, value in _PARAMETER.findall(content_type, len(media_type)):
        charset = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' else value.strip(" \t")
        if name.strip(" \t").lower() == "charset" and charset.lower() not in _UTF_8:
            raise invalid("Content-Type", f"charset {shown(charset)} is not read, only UTF-8")


def _check_encoding(content_encoding: str) -> None:
    for coding in content_encoding.split(","):
        name = coding.strip(" \t")
        if name and name.lower() != "identity":
            raise invalid("Content-Encoding", f"{shown(name)} is not read: send the body as it is")
