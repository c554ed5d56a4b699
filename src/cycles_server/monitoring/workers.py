"""How several workers count as one.

With one worker the numbers live in memory. With several, each worker keeps them in files of a
directory that all share, and any of them can add up the whole::

    prepare_multiprocess(directory)           # the parent, once, before it starts workers
    join_multiprocess(directory)              # each worker, before it makes its Metrics
    metrics = Metrics()
    registry = render_registry(directory, metrics.registry)

A worker's files are named after its slot, not its process id. A slot is a locked file: the kernel
gives it up when the process dies, however it dies, and the replacement takes it and goes on
counting where the dead one stopped. So no count is ever lost, and no file is ever left behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

# Only counters and histograms are made here; a gauge would need a rule for how to add it up.
_FILES = ("counter_*.db", "histogram_*.db")


def prepare_multiprocess(directory: Path) -> None:
    """Make the directory ready for a new run of the server, counting from 0.

    The parent calls this once before it starts the first worker. The directory stays this
    process's until it ends.

    Raises:
        RuntimeError: another server that is still running has the directory.
        OSError: the directory cannot be made or written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _claim(directory / "server.lock"):
        raise RuntimeError(f"another running server keeps its metrics in {directory}")
    # The workers' lock files stay: one that outlived its parent still counts in its slot, and
    # must not come to share it.
    for file in _files(directory):
        file.unlink()


def join_multiprocess(directory: Path | None) -> int:
    """Count in this directory from now on; without one, in this process alone.

    To be called in each worker before it makes its ``Metrics`` (metrics made earlier stay as
    they are). The slot is this process's until it ends.

    Returns:
        The number of the slot: 0 for the first worker; 0 without a directory.

    Raises:
        OSError: the directory is not there or cannot be written.
    """
    if directory is None:
        # Even if the environment asks prometheus_client for files: those would be named after
        # the process id, and a container's first process always has the same one.
        values.ValueClass = values.MutexValue
        return 0
    slot = next(number for number in count() if _claim(directory / f"worker-{number}.lock"))
    # prometheus_client reads this anew whenever it opens a file.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        process_identifier=lambda: slot
    )
    return slot


def render_registry(directory: Path | None, own: CollectorRegistry) -> CollectorRegistry:
    """The registry to expose: the sum over all workers, or this process's own."""
    if directory is None:
        return own
    registry = CollectorRegistry()
    registry.register(_AllWorkers(directory))
    return registry


class _AllWorkers(MultiProcessCollector):
    """The sum over the files of all workers, the living and the dead."""

    def __init__(self, directory: Path) -> None:
        super().__init__(None, str(directory))  # type: ignore[no-untyped-call]
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        # A worker may have made its file and not yet, or never, written the first byte.
        filled = [str(file) for file in _files(self._directory) if file.stat().st_size]
        merged: Iterable[Metric] = self.merge(filled)  # type: ignore[no-untyped-call]
        return merged


def _files(directory: Path) -> list[Path]:
    return [file for pattern in _FILES for file in directory.glob(pattern)]


def _claim(path: Path) -> bool:
    """Lock a file for the life of this process; False while another process holds it."""
    # The descriptor is never closed on success, and no child inherits it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
