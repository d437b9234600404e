"""Content-Range arithmetic and chunk sizing. Pure, so that tables can test it."""

from __future__ import annotations

from airflow_360.values import KIB, MIB

__all__ = ["FIRST_CHUNK_BYTES", "ChunkSizer", "content_range", "next_chunk_size"]

FIRST_CHUNK_BYTES = 8 * MIB  #: a file that fits in it is sent as one whole-file PUT
MIN_CHUNK_BYTES = MIB
MAX_CHUNK_BYTES = 1024 * MIB
MIN_CHUNK_BYTES_AFTER_BREAKS = 64 * KIB  # for a slow line behind a proxy that ends requests after seconds
BREAKS_TO_SHRINK = 2  # after this many breaks, the size may be the reason
CHUNKS_TO_RECOVER = 16  # chunks that must pass before one of twice the size is tried
MIN_CHUNK_SECONDS, MAX_CHUNK_SECONDS = 2.5, 10.0  # a size whose chunks take between these is kept
TARGET_CHUNK_SECONDS = 5.0
MAX_GROWTH_FACTOR = 8  # the time of a small chunk depends more on the round trip than on the line


def content_range(start: int, length: int, total: int) -> str:
    """Return the Content-Range of a chunk; its end is inclusive.

    :param start: offset of the first byte.
    :param length: bytes in the chunk, at least one.
    :param total: bytes in the file.
    """
    return f"bytes {start}-{start + length - 1}/{total}"


def next_chunk_size(size: int, seconds: float) -> int:
    """Return the size of the next chunk, so that it takes a few seconds.

    Chunks of a few seconds keep a long link full, because each boundary costs a round trip, and limit the
    loss from a break. The size changes directly to the amount that the line carries in five seconds: a
    gibibyte on a fast line takes few chunks, and a line that became slow is not blocked for minutes.

    :param size: bytes of the last chunk.
    :param seconds: its duration.
    """
    if MIN_CHUNK_SECONDS <= seconds <= MAX_CHUNK_SECONDS:
        return size
    factor = min(MAX_GROWTH_FACTOR, TARGET_CHUNK_SECONDS / max(seconds, 0.001))
    return min(MAX_CHUNK_BYTES, max(MIN_CHUNK_BYTES, int(size * factor)))


class ChunkSizer:
    """The chunk size of one task, shared by its files.

    If chunks break again and again, a proxy may end all requests of their size. So chunks become smaller
    until one passes, and the next ones keep its size.

    :param fixed: bytes of every chunk, unless chunks break; None to adapt the size to the line.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.size = fixed or FIRST_CHUNK_BYTES
        self._fixed = fixed
        self._floor = min(MIN_CHUNK_BYTES_AFTER_BREAKS, self.size)
        self._ceiling = fixed or MAX_CHUNK_BYTES  # less if a proxy found a chunk too large
        self._breaks = 0
        self._broken = 0  # bytes of the smallest chunk that broke; its size may be the reason
        self._passing: int | None = None  # bytes of the largest chunk that passes, if larger ones break
        self._passed = 0  # chunks of this size in a row

    def took(self, length: int, seconds: float) -> None:
        """Adapt the size after a chunk that arrived."""
        is_full = length == self.size
        if self._breaks and length >= self._broken:
            self._breaks, self._passing = 0, None  # their size was not the reason
        elif is_full and self._breaks >= BREAKS_TO_SHRINK:
            self._passes(length)
        if is_full or not self._breaks:
            wanted = self._fixed or (next_chunk_size(length, seconds) if is_full else self.size)
            self.size = min(wanted, self._ceiling, self._passing or wanted)

    def _passes(self, length: int) -> None:
        """Keep a size that passes; after many chunks, try twice the size, as the reason may be gone."""
        if self._passing is None:
            self._passing, self._passed = length, 0
        if length == self._passing:
            self._passed += 1
        if self._passed == CHUNKS_TO_RECOVER:
            self._passing, self._passed = 2 * self._passing, 0

    def failed(self, length: int) -> None:
        """Adapt the size after a chunk that failed.

        :param length: its bytes. Ignored if chunks have become smaller since it was sent, or if it already
            has the smallest size.
        """
        if length > self.size or length <= self._floor:
            return
        self._broken = min(self._broken, length) if self._breaks else length
        self._breaks += 1
        if self._passing is not None:
            self._passing, self._passed = max(self._floor, length // 2), 0
            self.size = self._passing
        elif self._breaks >= BREAKS_TO_SHRINK:
            self.size = max(self._floor, length // 4)
        elif not self._fixed:
            self.size = max(min(MIN_CHUNK_BYTES, length), length // 2)

    def too_large(self, length: int) -> bool:
        """Reduce the size after a proxy refused a request body, and tell whether a smaller size is left.

        :param length: bytes of the refused body. Half of it is the new limit for chunks, but at least 1 MiB.
        """
        if length <= MIN_CHUNK_BYTES:
            return False
        self._ceiling = min(self._ceiling, max(MIN_CHUNK_BYTES, length // 2))
        self.size = min(self.size, self._ceiling)
        return True
