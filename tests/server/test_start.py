"""What a server that has just started leaves behind."""

from __future__ import annotations

from support.running import Running


def test_no_file_stays_open(running: Running) -> None:
    """Pages that are made at the start are read from files; Python tells of those left open."""
    assert "ResourceWarning" not in running.server.log.read_text()
