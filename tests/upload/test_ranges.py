"""Content-Range arithmetic and chunk sizing, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.upload.ranges import FIRST_CHUNK, content_range, next_chunk_size

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
        (8 * MIB, 0.1, 16 * MIB),
        (8 * MIB, 2.49, 16 * MIB),
        (8 * MIB, 2.5, 8 * MIB),
        (8 * MIB, 5.0, 8 * MIB),
        (8 * MIB, 10.0, 8 * MIB),
        (8 * MIB, 10.1, 4 * MIB),
        (8 * MIB, 600.0, 4 * MIB),
        (8 * MIB, None, 4 * MIB),
        (8 * MIB, 0.0, 16 * MIB),
        (GIB, 1.0, GIB),
        (800 * MIB, 1.0, GIB),
        (MIB, 60.0, MIB),
        (MIB, None, MIB),
        (MIB + 1, None, MIB),
        (3 * MIB, None, 3 * MIB // 2),
    ],
)
def test_next_chunk_size(size: int, seconds: float | None, following: int) -> None:
    """A quick chunk is followed by one twice its size, a slow or broken one by half, within bounds."""
    assert next_chunk_size(size, seconds) == following


@given(times=st.lists(st.none() | st.floats(0, 1000), max_size=60))
def test_chunk_sizes_are_bounded(times: list[float | None]) -> None:
    """However the line behaves, a chunk is between a mebibyte and a gibibyte."""
    size = FIRST_CHUNK
    for seconds in times:
        size = next_chunk_size(size, seconds)
        assert MIB <= size <= GIB


@pytest.mark.parametrize("rate", [0.2 * MIB, MIB, 30 * MIB, 100 * MIB], ids=["slow", "DSL", "fast", "fibre"])
def test_chunk_sizes_settle(rate: float) -> None:
    """On a line of any steady rate the chunks come to take between 2.5 and 10 seconds, and stay there."""
    size = FIRST_CHUNK
    sizes = []
    for _ in range(20):
        size = next_chunk_size(size, size / rate)
        sizes.append(size)
    assert len(set(sizes[10:])) == 1
    assert 2.5 <= size / rate <= 10
