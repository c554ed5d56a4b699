"""Errors that end a command with one clear line."""

from __future__ import annotations

import click


class _Fatal(click.ClickException):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        # The base class has it as an attribute of the class, the same for every error.
        self.exit_code = status  # type: ignore[misc]


def fatal(message: str, status: int = 2) -> click.ClickException:
    """An error to raise: its message is all that is printed, ``status`` the exit status."""
    return _Fatal(message, status)
