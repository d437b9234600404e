"""Content-Range arithmetic and chunk sizing, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.upload.ranges import FIRST_CHUNK_BYTES, ChunkSizer, content_range, next_chunk_size

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("start", "length", "total", "header"),
    [
        (0, 1, 1, "bytes 0-0/1"),
        (0, 8, 8, "bytes 0-7/8"),
        (8, 8, 17, "bytes 8-15/17"),
        (16, 1, 17, "bytes 16-16/17"),
        (4 * GIB, MIB, 5 * GIB, f"bytes 4294967296-4296015871/{5 * GIB}"),
    ],
    ids=["one byte", "all", "middle", "last byte", "beyond four gibibytes"],
)
def test_content_range(start: int, length: int, total: int, header: str) -> None:
    """The end of a Content-Range is its last byte, not the one after it."""
    assert content_range(start, length, total) == header


@pytest.mark.parametrize(
    ("size", "seconds", "following"),
    [
        (8 * MIB, 0.1, 64 * MIB),
        (8 * MIB, 0.625, 64 * MIB),
        (8 * MIB, 1.25, 32 * MIB),
        (8 * MIB, 2.0, 20 * MIB),
        (8 * MIB, 2.5, 8 * MIB),
        (8 * MIB, 5.0, 8 * MIB),
        (8 * MIB, 10.0, 8 * MIB),
        (8 * MIB, 20.0, 2 * MIB),
        (8 * MIB, 600.0, MIB),
        (8 * MIB, 0.0, 64 * MIB),
        (GIB, 1.0, GIB),
        (800 * MIB, 1.0, GIB),
        (GIB, 50.0, GIB // 10),
        (MIB, 60.0, MIB),
    ],
)
def test_next_chunk_size(size: int, seconds: float, following: int) -> None:
    """A quick or slow chunk is followed by one of five seconds, within bounds."""
    assert next_chunk_size(size, seconds) == following


@pytest.mark.parametrize(
    ("fixed", "lengths", "size"),
    [
        (None, [8 * MIB], 4 * MIB),
        (None, [8 * MIB, 4 * MIB], MIB),
        (None, [8 * MIB, 4 * MIB, MIB, 256 * KIB, 64 * KIB], 64 * KIB),
        (None, [8 * MIB, 8 * MIB, 8 * MIB], 4 * MIB),
        (None, [3 * MIB], 3 * MIB // 2),
        (None, [MIB + 1], MIB),
        (None, [1000] * 9, 8 * MIB),
        (32 * MIB, [32 * MIB], 32 * MIB),
        (32 * MIB, [32 * MIB] * 2, 8 * MIB),
        (32 * MIB, [32 * MIB, 32 * MIB, 8 * MIB], 2 * MIB),
        (32 * MIB, [32 * MIB] * 5, 8 * MIB),
        (1000, [1000] * 9, 1000),
    ],
    ids=[
        "once",
        "twice",
        "down to the floor",
        "under way together",
        "a small file",
        "no less than a mebibyte for one break",
        "so small that it says nothing",
        "given size, once",
        "given size, twice",
        "given size, three times",
        "given size, under way together",
        "given size below the floor",
    ],
)
def test_breaks_make_chunks_smaller(fixed: int | None, lengths: list[int], size: int) -> None:
    """A broken chunk is followed by half, or the given size once more; from the second on by a quarter."""
    chunks = ChunkSizer(fixed)
    for length in lengths:
        chunks.failed(length)
    assert chunks.size == size


def behind_a_proxy(chunks: ChunkSizer, limit: int, count: int) -> tuple[int, int]:
    """Send chunks through a proxy that ends large requests; return how many bytes passed and broke."""
    passed = broken = 0
    while count:
        length = chunks.size
        if length > limit:
            chunks.failed(length)
            broken += length
        else:
            chunks.took(length, 0.01)
            passed += length
            count -= 1
    return passed, broken


@pytest.mark.parametrize("fixed", [None, 5 * MIB, 64 * MIB], ids=["adaptive", "5 MiB", "64 MiB"])
@pytest.mark.parametrize("limit", [100 * KIB, 700 * KIB, 3 * MIB])
def test_a_size_that_passes_is_kept(fixed: int | None, limit: int) -> None:
    """Behind a proxy that ends large requests, few larger ones are tried, also in the long run."""
    chunks = ChunkSizer(fixed)
    behind_a_proxy(chunks, limit, 30)
    passed, broken = behind_a_proxy(chunks, limit, 1000)
    assert broken <= 0.25 * passed


def test_a_given_size_may_be_larger_than_any_other() -> None:
    """A given chunk size is kept, also if it is larger than the adaptive one."""
    chunks = ChunkSizer(2 * GIB)
    chunks.took(2 * GIB, 600.0)
    chunks.took(1000, 0.1)
    assert chunks.size == 2 * GIB


@pytest.mark.parametrize(("fixed", "size"), [(None, GIB), (32 * MIB, 32 * MIB)])
def test_a_size_that_passes_is_left_again(fixed: int | None, size: int) -> None:
    """If the reason was not the size, chunks become as large again as they were."""
    chunks = ChunkSizer(fixed)
    for _ in range(4):
        chunks.failed(chunks.size)
    behind_a_proxy(chunks, GIB, 200)
    assert chunks.size == size


def test_a_proxy_limit_holds_after_breaks() -> None:
    """A size that a proxy has refused is not tried again, with any results of smaller chunks."""
    chunks = ChunkSizer()
    assert chunks.too_large(8 * MIB)
    for _ in range(3):
        chunks.failed(chunks.size)
    behind_a_proxy(chunks, GIB, 200)
    assert chunks.size == 4 * MIB


@given(
    fixed=st.none() | st.integers(1, 2 * GIB),
    steps=st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1000)), max_size=60),
)
def test_chunk_sizes_are_bounded(fixed: int | None, steps: list[tuple[float, float | None]]) -> None:
    """On any line, a chunk is between 64 KiB and a gibibyte, or at most the given size."""
    chunks = ChunkSizer(fixed)
    for part, seconds in steps:
        length = max(1, int(chunks.size * part))
        chunks.failed(length) if seconds is None else chunks.took(length, seconds)
        assert min(64 * KIB, fixed or GIB) <= chunks.size <= (fixed or GIB)


@pytest.mark.parametrize("rate", [0.2 * MIB, MIB, 30 * MIB, 100 * MIB], ids=["slow", "DSL", "fast", "fibre"])
def test_chunk_sizes_settle(rate: float) -> None:
    """On a line of any steady rate the chunks reach between 2.5 and 10 seconds, and stay there."""
    size = FIRST_CHUNK_BYTES
    sizes = []
    for _ in range(20):
        size = next_chunk_size(size, size / rate)
        sizes.append(size)
    assert len(set(sizes[10:])) == 1
    assert 2.5 <= size / rate <= 10


def sent_in(rate: float, round_trip: float, size: int) -> tuple[float, int]:
    """Return the seconds and PUTs that a file takes on a link, its GET and connection included."""
    seconds, chunks, puts = 2 * round_trip, ChunkSizer(), 0
    while size:
        length = min(size, chunks.size)
        took = length / rate + round_trip
        chunks.took(length, took)
        seconds, size, puts = seconds + took, size - length, puts + 1
    return seconds, puts


def test_long_link() -> None:
    """A gibibyte fills 90 % of a link of 100 ms and 1 Gbit/s, at least twice the guide's example."""
    rate = 1e9 / 8
    seconds, _ = sent_in(rate, 0.1, GIB)
    assert GIB / seconds >= 0.9 * rate
    example = GIB / rate + (2 + GIB // FIRST_CHUNK_BYTES) * 0.1
    assert seconds <= example / 2


@pytest.mark.parametrize("rate", [MIB, 100 * MIB, GIB, 10 * GIB])
def test_puts_a_minute(rate: float) -> None:
    """Up to 10 GiB a second, without any round trip, chunks stay below 1200 PUTs a minute."""
    seconds, puts = sent_in(rate, 0.0, int(60 * rate))
    assert puts / seconds <= 1200 / 60


def test_cost_of_a_break() -> None:
    """If a line becomes a hundred times slower, only one chunk takes longer than ten seconds."""
    chunks, times = ChunkSizer(), []
    for rate in [100 * MIB] * 6 + [MIB] * 6:
        times.append(chunks.size / rate)
        chunks.took(chunks.size, times[-1])
    assert [seconds > 10 for seconds in times[6:]] == [True, False, False, False, False, False]
