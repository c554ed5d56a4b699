"""Whose fault it is when a check cannot go on: the server's or the kit's."""

from __future__ import annotations


class UnusableAnswer(Exception):
    """The server's answers pass for valid, and no later step can work with them; one line."""


class KitFailed(Exception):
    """A mistake of the kit or of a case file, which says nothing of the server.

    ``step`` is where it happened; ``__cause__`` is what was raised there.
    """

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


def described(error: BaseException) -> str:
    """``AttributeError: …`` in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
