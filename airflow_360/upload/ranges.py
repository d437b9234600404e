"""Content-Range arithmetic and chunk sizing. Pure, so that tables test it."""

from __future__ import annotations

__all__ = ["FIRST_CHUNK", "content_range", "next_chunk_size"]

MIB = 1024 * 1024
FIRST_CHUNK = 8 * MIB  #: bytes of the first chunk; what fits in it goes as one whole-file PUT
SMALLEST_CHUNK = MIB
LARGEST_CHUNK = 1024 * MIB
QUICK, SLOW = 2.5, 10.0  # seconds between which a chunk's duration is left alone


def content_range(start: int, length: int, total: int) -> str:
    """Return the Content-Range of a chunk; its end is inclusive.

    :param start: offset of the first byte.
    :param length: bytes in the chunk, at least one.
    :param total: bytes in the file.
    """
    return f"bytes {start}-{start + length - 1}/{total}"


def next_chunk_size(size: int, seconds: float | None) -> int:
    """Return how large the next chunk should be, so that one takes some seconds.

    Chunks of some seconds keep a long link full, since each boundary costs a round trip, and bound what a
    break can cost.

    :param size: bytes of the last chunk.
    :param seconds: how long it took; None when it failed.
    """
    if seconds is None or seconds > SLOW:
        return max(SMALLEST_CHUNK, size // 2)
    return min(LARGEST_CHUNK, size * 2) if seconds < QUICK else size
