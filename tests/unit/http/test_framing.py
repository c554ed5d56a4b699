"""What the bytes of one connection cost: work in one piece, and memory afterwards."""

from __future__ import annotations

import gc
import weakref

from cycles_server.http.framing import SLICE_BYTES, HeadLimits, RequestHead, RequestReader


class Counter:
    heads = 0

    def head_begun(self) -> None: ...

    def head_read(self, head: RequestHead) -> None:
        self.heads += 1

    def body_read(self, data: bytes) -> None: ...

    def request_read(self) -> None: ...


def test_one_slice_makes_few_requests() -> None:
    # Whoever has a full slice of the smallest requests in a segment, on each of many connections,
    # holds up everybody for as long as it takes to read them.
    shortest = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    counter = Counter()
    reader = RequestReader(HeadLimits(target_bytes=16_384, bytes=32_768, lines=100), counter)
    reader.feed(memoryview((shortest * SLICE_BYTES)[:SLICE_BYTES]))
    assert 1 <= counter.heads <= 100


def test_a_reader_that_has_ended_waits_for_no_collector() -> None:
    # The server lets it come by seldom, and connections end by the thousand.
    reader = RequestReader(HeadLimits(target_bytes=100, bytes=1_000, lines=10), Counter())
    reader.feed(memoryview(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"))
    there = weakref.ref(reader)
    gc.disable()
    try:
        reader.end()
        del reader
        assert there() is None
    finally:
        gc.enable()
