"""The records of a stored zip: everything except the bytes of its files. Pure.

Separate from the archive, which reads the files. Python's own ``zipfile`` does not guarantee the exact
bytes, and a retry may run under another version of Python.

A file's checksum is not known before its bytes are read, so it follows them in a data descriptor. Names are
UTF-8 and marked as such. Only numbers that do not fit into 32 bits are written to zip64 fields.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime

__all__ = [
    "descriptor",
    "descriptor_size",
    "directory_entry",
    "directory_entry_size",
    "dos_time",
    "end_records",
    "local_header",
    "local_header_size",
]

MAX_32_BITS = 0xFFFFFFFF  # "see the zip64 field"
MAX_ENTRIES = 0xFFFF
FLAGS = 0x0008 | 0x0800  # the checksum comes after the bytes; the name is UTF-8
STORED = 0
UNIX = 3 << 8
FILE_MODE = 0o100644 << 16
EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)
LATEST_TIME = (2107, 12, 31, 23, 59, 58)


def dos_time(modified: float | None) -> int:
    """Return a time in zip's format, exact to two seconds, with the date in the upper 16 bits.

    :param modified: seconds since the epoch, written as UTC so that all workers write the same. None, and a
        time outside of zip's range, become the nearest possible time.
    """
    year, month, day, hour, minute, second = max(EARLIEST_TIME, min(_utc(modified or 0.0), LATEST_TIME))
    return (year - 1980) << 25 | month << 21 | day << 16 | hour << 11 | minute << 5 | second // 2


def local_header(name: bytes, size: int, time: int) -> bytes:
    """Return the record before a file's bytes.

    :param name: the name, in UTF-8.
    :param size: bytes of the file.
    :param time: see :func:`dos_time`.
    """
    large = size >= MAX_32_BITS
    sizes = MAX_32_BITS if large else 0
    extra = _zip64([0, 0]) if large else b""
    fixed = struct.pack(
        "<4sHHHIIIIHH",
        b"PK\3\4",
        _version(large),
        FLAGS,
        STORED,
        time,
        0,
        sizes,
        sizes,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def local_header_size(name: bytes, size: int) -> int:
    """Return the length of a file's :func:`local_header`."""
    return 30 + len(name) + (20 if size >= MAX_32_BITS else 0)


def descriptor(size: int, checksum: int) -> bytes:
    """Return the record after a file's bytes: their checksum and number.

    :param size: bytes of the file.
    :param checksum: their CRC-32.
    """
    return struct.pack("<4sIQQ" if size >= MAX_32_BITS else "<4sIII", b"PK\7\x08", checksum, size, size)


def descriptor_size(size: int) -> int:
    """Return the length of a file's :func:`descriptor`."""
    return 24 if size >= MAX_32_BITS else 16


def directory_entry(name: bytes, size: int, time: int, offset: int, checksum: int) -> bytes:
    """Return a file's entry in the directory at the end.

    :param name: the name, in UTF-8.
    :param size: bytes of the file.
    :param time: see :func:`dos_time`.
    :param offset: the offset of its local header.
    :param checksum: the CRC-32 of its bytes.
    """
    large = ([size, size] if size >= MAX_32_BITS else []) + ([offset] if offset >= MAX_32_BITS else [])
    extra = _zip64(large) if large else b""
    version = _version(bool(large))
    fixed = struct.pack(
        "<4sHHHHIIIIHHHHHII",
        b"PK\1\2",
        UNIX | version,
        version,
        FLAGS,
        STORED,
        time,
        checksum,
        min(size, MAX_32_BITS),
        min(size, MAX_32_BITS),
        len(name),
        len(extra),
        0,
        0,
        0,
        FILE_MODE,
        min(offset, MAX_32_BITS),
    )
    return fixed + name + extra


def directory_entry_size(name: bytes, size: int, offset: int) -> int:
    """Return the length of a file's :func:`directory_entry`."""
    large = 2 * (size >= MAX_32_BITS) + (offset >= MAX_32_BITS)
    return 46 + len(name) + (4 + 8 * large if large else 0)


def end_records(entries: int, offset: int, size: int) -> bytes:
    """Return the records after the directory.

    :param entries: the number of files.
    :param offset: the offset of the directory.
    :param size: bytes of the directory.
    """
    records = b""
    if entries >= MAX_ENTRIES or offset >= MAX_32_BITS or size >= MAX_32_BITS:
        version = _version(True)
        records = struct.pack(
            "<4sQHHIIQQQQ4sIQI",
            b"PK\6\6",
            44,  # bytes that follow in the zip64 record
            UNIX | version,
            version,
            0,
            0,
            entries,
            entries,
            size,
            offset,
            b"PK\6\7",
            0,
            offset + size,  # the offset of the zip64 record
            1,
        )
    count = min(entries, MAX_ENTRIES)
    return records + struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, min(size, MAX_32_BITS), min(offset, MAX_32_BITS), 0
    )


def _zip64(fields: list[int]) -> bytes:
    return struct.pack(f"<HH{len(fields)}Q", 1, 8 * len(fields), *fields)


def _version(zip64: bool) -> int:
    return 45 if zip64 else 20


def _utc(seconds: float) -> tuple[int, ...]:
    try:
        return datetime.fromtimestamp(seconds, UTC).timetuple()[:6]
    except (OverflowError, ValueError, OSError):
        return LATEST_TIME if seconds > 0 else EARLIEST_TIME
