"""7z: the header at the start, and the directory at the end with its checksum.

The names in the directory are compressed, so they are not read.
"""

from __future__ import annotations

import struct
from binascii import crc32

from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.reading import require_bytes
from airflow_360.inspection.results import DamagedError, Inspection, shortage_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.values import MIB

__all__ = ["inspect_7z"]

SIGNATURE = b"7z\xbc\xaf\x27\x1c"
HEADER_BYTES = 32
#: The first byte of a directory: plain, or compressed.
DIRECTORY_KINDS = (1, 0x17)
#: The encryption (AES-256) in a directory: a name of four bytes with settings.
ENCRYPTION = b"\x24\x06\xf1\x07\x01"
MAX_DIRECTORY_BYTES = MIB


def inspect_7z(ranges: Ranges, result: Inspection) -> None:
    """Inspect a 7z archive."""
    if ranges.at(0, 6) != SIGNATURE:
        raise wrong_format(ranges, "a 7z archive")
    result.format = "7z"
    header = require_bytes(ranges, 0, HEADER_BYTES, "its header")
    major, minor, checksum, offset, size, directory_checksum = struct.unpack_from("<BBIQQI", header, 6)
    result.version = f"{major}.{minor}"
    if not any(header[8:]):
        raise DamagedError(
            "no_directory", "its directory is missing: the program that wrote it was interrupted"
        )
    if crc32(header[12:]) != checksum:
        raise DamagedError("checksum", "the checksum of its header is wrong")
    if HEADER_BYTES + offset + size > ranges.size:
        needed = shortage_text(HEADER_BYTES + offset + size, ranges.size)
        raise DamagedError("truncated", f"its header states {needed}")
    if not size:
        result.warn("empty", "the archive has no members")
    elif size > MAX_DIRECTORY_BYTES:
        result.unchecked.append("its directory")
    else:
        _check_directory(ranges.at(HEADER_BYTES + offset, size), directory_checksum, result)


def _check_directory(directory: bytes, checksum: int, result: Inspection) -> None:
    if crc32(directory) != checksum:
        raise DamagedError("checksum", "the checksum of its directory is wrong")
    if directory[0] not in DIRECTORY_KINDS:
        raise DamagedError("damaged", "its directory does not start like one")
    if ENCRYPTION in directory:
        result.error("encrypted", "it needs a password")
