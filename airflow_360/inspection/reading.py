"""Reads that several formats share: a header that must be there, and the end of a file without its padding.

Separate from the ranges, which do not know what a damaged file is.
"""

from __future__ import annotations

from airflow_360.inspection.ranges import BLOCK_BYTES, TAIL_BYTES, Ranges
from airflow_360.inspection.results import DamagedError, shortage_text
from airflow_360.texts import size_text

__all__ = ["ends_with_zeros", "last_bytes", "require_bytes"]

#: More zeros than these at the end of a file are worth a word: a copy was begun and not finished.
NOTABLE_ZEROS_BYTES = 4096


def require_bytes(ranges: Ranges, offset: int, length: int, what: str) -> bytes:
    """Return the bytes of a range that must lie inside the file.

    :param ranges: the file's bytes.
    :param offset: the offset in bytes.
    :param length: the length in bytes.
    :param what: the part of the file for people, such as "its header".
    :raises DamagedError: if the file ends before.
    """
    data = ranges.at(offset, length)
    if len(data) < length:
        raise DamagedError("truncated", f"{what} needs {shortage_text(offset + length, ranges.size)}")
    return data


def last_bytes(ranges: Ranges) -> tuple[int, bytes]:
    """Return the last bytes of a file without the zeros at its end, and their offset.

    A camera, a tape or a file system may have padded the file, and a copy that was not finished may have
    left zeros.

    :param ranges: the file's bytes.
    """
    offset = max(ranges.size - TAIL_BYTES, 0)
    tail = ranges.at(offset, TAIL_BYTES)
    kept = tail.rstrip(b"\0")
    if not offset or len(kept) >= TAIL_BYTES // 2:
        return offset, kept
    end = offset + len(kept) if kept else _content_end(ranges, offset)
    start = max(end - TAIL_BYTES, 0)
    return start, ranges.at(start, end - start)


def ends_with_zeros(ranges: Ranges, end: int) -> str:
    """Return how many zeros follow a file's content, as an addition to a sentence; empty if there are few.

    :param ranges: the file's bytes.
    :param end: the offset after the content.
    """
    zeros = ranges.size - end
    return f"; its last {size_text(zeros)} are zeros" if zeros >= NOTABLE_ZEROS_BYTES else ""


def _content_end(ranges: Ranges, high: int) -> int:
    """Return the offset after the last byte that is not zero: a binary search over blocks.

    :param high: an offset from which on all bytes are zeros.
    """
    low = 0
    while high - low > BLOCK_BYTES:
        middle = (low + high) // 2
        kept = ranges.at(middle, min(BLOCK_BYTES, high - middle)).rstrip(b"\0")
        if kept:
            low = middle + len(kept)
        else:
            high = middle
    return low + len(ranges.at(low, high - low).rstrip(b"\0"))
