"""Secrets in texts that are kept: they are left out of them."""

from __future__ import annotations

import re

# Of this server's making, and of others': with the signs of URL-safe and plain base64.
_SECRET = re.compile(r"(?:cyc_[a-z]+|whsec)_[\w+/=-]{6,}|\$2[abxy]\$\d\d\$[./0-9A-Za-z]{53}")
_HIDDEN = "…"


def without_secrets(text: str, operators_key: str = "") -> str:
    """A text with a sign in place of each API key, signing secret and bcrypt hash.

    Args:
        operators_key: the one that is configured, to be hidden too.
    """
    if operators_key:
        text = text.replace(operators_key, _HIDDEN)
    return _SECRET.sub(_HIDDEN, text)


def json_without_secrets(text: bytes) -> bytes:
    """The same of JSON, which stays such: no secret has a sign that JSON gives a meaning."""
    return without_secrets(text.decode()).encode()
