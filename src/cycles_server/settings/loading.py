"""The environment read once, into the settings of one plane."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from cycles_server.settings.common import SECRETS, CommonSettings

_SHOWN_CHARACTERS = 80

S = TypeVar("S", bound=CommonSettings)


class SettingError(ValueError):
    """A setting has a value that is not allowed; ``str()`` is one line for the operator."""


def load_settings(plane: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read a plane's settings from ``environ``, by default the environment of the process.

    A variable with an empty value counts as not set; other variables are left alone.

    Raises:
        SettingError: the first setting, in the order of the class, with a value not allowed.
    """
    source = EnvSettingsSource(plane)
    given = os.environ if environ is None else environ
    source.env_vars = {
        name.lower(): value for name, value in given.items() if value and name.isupper()
    }
    try:
        return plane(**source())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # Outside the except block: the traceback of a SettingError must not carry the value either.
    raise SettingError(_line(str(first["loc"][0]), first["input"], first["msg"]))


def _line(field: str, value: Any, message: str) -> str:
    allowed = message.removeprefix("Value error, ")
    shown = " (value not shown)" if _is_secret(field, str(value)) else f"={_short(value)}"
    return f"{field.upper()}{shown} is not allowed: it must be {allowed}"


def _is_secret(field: str, value: str) -> bool:
    # A URL with its password also ends up in the wrong one of Redis's settings.
    login = field.startswith("redis_") and ("@" in value or "password" in value.lower())
    return login or field in SECRETS


def _short(value: Any) -> str:
    """The value in quotes, its control characters escaped, cut when it is long."""
    text = str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
