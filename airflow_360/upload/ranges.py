"""Content-Range arithmetic and chunk sizing. Pure, so that tables test it."""

from __future__ import annotations

__all__ = ["FIRST_CHUNK", "ChunkSizer", "content_range", "next_chunk_size"]

MIB = 1024 * 1024
FIRST_CHUNK = 8 * MIB  #: bytes of the first chunk; what fits in it goes as one whole-file PUT
SMALLEST_CHUNK = MIB
LARGEST_CHUNK = 1024 * MIB
QUICK, AIM, SLOW = 2.5, 5.0, 10.0  # seconds that a chunk should take: between the outer two, it is left alone
GROWTH = 8  # at most; the short time of a small chunk says more of the round trip than of the line


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
    break can cost. The size goes straight to what the line carries in five seconds: a gibibyte on a fast line
    takes few chunks, and a line that became slow is not held for minutes.

    :param size: bytes of the last chunk.
    :param seconds: how long it took; None when it failed.
    """
    if seconds is None:
        return max(SMALLEST_CHUNK, size // 2)
    if QUICK <= seconds <= SLOW:
        return size
    factor = min(GROWTH, AIM / max(seconds, 0.001))
    return min(LARGEST_CHUNK, max(SMALLEST_CHUNK, int(size * factor)))


class ChunkSizer:
    """Hold the chunk size of one task, which its files share.

    :param fixed: bytes that every chunk has; None lets the size follow the line.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.size = fixed or FIRST_CHUNK
        self._adaptive = fixed is None
        self._ceiling = LARGEST_CHUNK

    def took(self, length: int, seconds: float) -> None:
        """Learn from a chunk that arrived."""
        if self._adaptive and length == self.size:
            self.size = min(self._ceiling, next_chunk_size(length, seconds))

    def failed(self) -> None:
        """Learn from a chunk that failed."""
        if self._adaptive:
            self.size = next_chunk_size(self.size, None)

    def too_large(self, length: int) -> bool:
        """Learn from a request body that a proxy found too large, and tell whether a smaller one is left.

        :param length: bytes of the refused body. Half of it is the most that is sent from now on, but no
            less than a mebibyte is tried.
        """
        if length <= SMALLEST_CHUNK:
            return False
        self._ceiling = min(self._ceiling, max(SMALLEST_CHUNK, length // 2))
        self.size = min(self.size, self._ceiling)
        return True
