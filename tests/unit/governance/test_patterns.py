"""Patterns: which scopes they match, and which is the more precise."""

from __future__ import annotations

import pytest

from cycles_server.governance.patterns import matching, read_pattern
from cycles_server.scopes import derive_scopes

TENANT = {"tenant": "acme"}
BOT = {"tenant": "acme", "agent": "Bot"}
ENG_BOT = {"tenant": "acme", "workspace": "eng", "agent": "bot"}
BOTS_TOOL = {"tenant": "acme", "agent": "bot", "toolset": "web"}


@pytest.mark.parametrize(
    ("pattern", "subject", "scope"),
    [
        ("tenant:acme", TENANT, "tenant:acme"),
        ("tenant:ACME", BOT, "tenant:acme"),
        ("tenant:acme/agent:bot", BOTS_TOOL, "tenant:acme/agent:bot"),
        ("tenant:acme/agent:bot", ENG_BOT, None),
        ("tenant:acme/*", TENANT, None),
        ("tenant:acme/*", BOT, "tenant:acme/agent:bot"),
        ("tenant:acme/*", BOTS_TOOL, "tenant:acme/agent:bot/toolset:web"),
        ("tenant:acme/agent:bot/*", BOT, None),
        ("tenant:acme/agent:bot/*", BOTS_TOOL, "tenant:acme/agent:bot/toolset:web"),
        ("tenant:acme/agent:bo/*", BOTS_TOOL, None),
        ("tenant:acme/agent:*", TENANT, None),
        ("tenant:acme/agent:*", BOT, "tenant:acme/agent:bot"),
        ("tenant:acme/agent:*", BOTS_TOOL, "tenant:acme/agent:bot"),
        ("tenant:acme/agent:*", ENG_BOT, None),
        ("tenant:acme/workspace:eng/agent:*", ENG_BOT, "tenant:acme/workspace:eng/agent:bot"),
        ("agent:*", TENANT, None),
        ("agent:*", BOTS_TOOL, "tenant:acme/agent:bot"),
        ("*/agent:*", ENG_BOT, "tenant:acme/workspace:eng/agent:bot"),
        ("*/agent:BOT", ENG_BOT, "tenant:acme/workspace:eng/agent:bot"),
        ("*/agent:bo", ENG_BOT, None),
        ("*/workspace:eng", ENG_BOT, "tenant:acme/workspace:eng"),
        ("toolset:*", ENG_BOT, None),
    ],
)
def test_what_is_matched(pattern: str, subject: dict[str, str], scope: str | None) -> None:
    assert matching(derive_scopes(subject).all).get(read_pattern(pattern).text) == scope


def test_the_more_precise_is_the_greater() -> None:
    from_vague_to_precise = [
        "agent:*",
        "*/agent:bot",
        "tenant:acme/agent:*",
        "tenant:acme/agent:bot",
        "tenant:acme/workspace:eng/agent:*",
        "tenant:acme/workspace:eng/agent:bot",
    ]
    ranks = [read_pattern(text).precision for text in from_vague_to_precise]
    assert ranks == sorted(set(ranks))
    assert read_pattern("tenant:acme/*").precision < read_pattern("tenant:acme").precision
