"""Bounded reads of a file's ranges: head and tail are fetched once, and a hostile file cannot ask for more.

Separate from the formats, so that the number of requests and bytes per file is decided in one place.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_360.exceptions import SourceChangedError
from airflow_360.values import KIB, MIB

__all__ = ["BLOCK_BYTES", "HEAD_BYTES", "TAIL_BYTES", "Ranges", "TooMuchToReadError"]

#: Most formats state everything in these.
HEAD_BYTES = 64 * KIB
TAIL_BYTES = 64 * KIB
#: The smallest read elsewhere, so that neighbouring reads share a request.
BLOCK_BYTES = 16 * KIB
MAX_READS = 24
MAX_BYTES = 2 * MIB


class TooMuchToReadError(Exception):
    """Raised when a check would need more requests or bytes than an inspection may use."""


class Ranges:
    """Ranges of one file, each fetched at most once.

    :param read: returns the bytes of a range: offset and length, both in bytes and always inside the file.
    :param size: the file's length in bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self.size = size
        self.reads = 0
        self.bytes_read = 0
        self._blocks: list[tuple[int, bytes]] = []

    def at(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range, without the part of it that lies outside the file.

        :raises TooMuchToReadError: if the file would need more reads or bytes than an inspection may use.
        :raises SourceChangedError: if the file has fewer bytes than its size.
        """
        start, end = max(offset, 0), min(offset + length, self.size)
        if start >= end:
            return b""
        for begin, block in self._blocks:
            if begin <= start and end <= begin + len(block):
                return block[start - begin : end - begin]
        begin, data = self._fetch(start, end)
        return data[start - begin : end - begin]

    def _fetch(self, start: int, end: int) -> tuple[int, bytes]:
        """Fetch a range that contains another: the head, the tail, or at least a block."""
        begin, stop = start, min(max(end, start + BLOCK_BYTES), self.size)
        if end <= HEAD_BYTES:
            begin, stop = 0, min(HEAD_BYTES, self.size)
        elif start >= self.size - TAIL_BYTES:
            begin, stop = max(self.size - TAIL_BYTES, 0), self.size
        self.reads += 1
        self.bytes_read += stop - begin
        if self.reads > MAX_READS or self.bytes_read > MAX_BYTES:
            raise TooMuchToReadError
        data = self._read(begin, stop - begin)
        if len(data) != stop - begin:
            raise SourceChangedError(f"bytes {begin:,} to {stop:,} are missing, because the file has changed")
        self._blocks.append((begin, data))
        return begin, data
