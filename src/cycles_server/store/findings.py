"""What a check of the store or of the books finds."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, ADVICE = "error", "warning", "advice"
"""Levels of findings; advice alone leaves a store healthy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        level: ``error``, ``warning`` or ``advice``.
        code: its kind, e.g. ``HOLDS``.
        key: the Redis key or setting concerned.
        message: what is wrong with it, for people.
    """

    level: str
    code: str
    key: str
    message: str

    @property
    def sentence(self) -> str:
        """Both in one line; the message of a setting begins with its value."""
        return f"{self.key} is {self.message}"
