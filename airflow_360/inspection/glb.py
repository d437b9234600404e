"""GLB, the binary form of glTF: the length that it states, and its chunks."""

from __future__ import annotations

import struct

from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.reading import require_bytes
from airflow_360.inspection.results import DamagedError, Inspection, shortage_text
from airflow_360.inspection.signatures import wrong_format

__all__ = ["inspect_glb"]

MAGIC = b"glTF"
HEADER_BYTES = CHUNK_HEADER_BYTES = 8
FIRST_CHUNK = 12
JSON = b"JSON"
MAX_CHUNKS = 16
MAX_READS = 8


def inspect_glb(ranges: Ranges, result: Inspection) -> None:
    """Inspect a GLB model."""
    if ranges.at(0, 4) != MAGIC:
        raise wrong_format(ranges, "a GLB file")
    result.format = "GLB"
    version, length = struct.unpack("<II", require_bytes(ranges, 4, HEADER_BYTES, "its header"))
    result.version = str(version)
    if length > ranges.size:
        raise DamagedError("truncated", f"its header states a length of {shortage_text(length, ranges.size)}")
    if version == 2:
        _check_chunks(ranges, result, length)


def _check_chunks(ranges: Ranges, result: Inspection, length: int) -> None:
    """Check that the chunks add up to the length, and that the first one is the JSON text.

    :raises DamagedError: if they do not.
    """
    at = FIRST_CHUNK
    for number in range(MAX_CHUNKS):
        if at + CHUNK_HEADER_BYTES > length and number:
            return
        if ranges.reads >= MAX_READS:
            break
        size, kind = struct.unpack("<I4s", require_bytes(ranges, at, CHUNK_HEADER_BYTES, "its first chunk"))
        if number == 0:
            _check_json(ranges, at + CHUNK_HEADER_BYTES, kind)
        at += CHUNK_HEADER_BYTES + size
        if at > length:
            raise DamagedError(
                "damaged", f"its chunk {number + 1} ends at byte {at:,}, and the file at {length:,}"
            )
    result.unchecked.append(f"its chunks after byte {at:,}")


def _check_json(ranges: Ranges, offset: int, kind: bytes) -> None:
    if kind != JSON:
        raise DamagedError("damaged", "its first chunk is not the JSON text that describes the model")
    if not ranges.at(offset, 64).lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{"):
        raise DamagedError("damaged", "the text of its first chunk is not JSON")
