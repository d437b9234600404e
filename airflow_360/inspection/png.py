"""PNG: the header, the chunks up to the image data, and the end chunk.

The image data has thousands of chunks in large images, so only the first and the last ones are looked at.
"""

from __future__ import annotations

import struct
from binascii import crc32

from airflow_360.inspection.exif import read_exif
from airflow_360.inspection.ranges import HEAD_BYTES, Ranges
from airflow_360.inspection.reading import ends_with_zeros, last_bytes, require_bytes
from airflow_360.inspection.results import DamagedError, Inspection, shortage_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.values import KIB

__all__ = ["inspect_png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: A chunk is its length, its name, its content and a checksum of name and content.
CHUNK_BYTES = 12
HEADER, IMAGE, EXIF, END = b"IHDR", b"IDAT", b"eXIf", b"IEND"
#: The first chunk of images that Apple's tools optimized, before the header.
APPLE = b"CgBI"
#: The whole end chunk.
END_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"
#: Bit depths by colour type.
BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
MAX_SIDE_PIXELS = 2**31 - 1
MAX_EXIF_BYTES = 64 * KIB


def inspect_png(ranges: Ranges, result: Inspection) -> None:
    """Inspect a PNG image."""
    if ranges.at(0, 8) != SIGNATURE:
        raise wrong_format(ranges, "a PNG image")
    result.format = "PNG"
    at = len(SIGNATURE)
    if ranges.at(at + 4, 4) == APPLE:
        at += CHUNK_BYTES + int.from_bytes(ranges.at(at, 4), "big")
    _read_header(ranges, result, at)
    if not _walk(ranges, result, at):
        _check_end(ranges, result, at)


def _read_header(ranges: Ranges, result: Inspection, at: int) -> None:
    chunk = require_bytes(ranges, at, CHUNK_BYTES + 13, "its header")
    if chunk[4:8] != HEADER:
        raise DamagedError("damaged", "its header is missing")
    if crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        raise DamagedError("checksum", "the checksum of its header is wrong")
    width, height, depth, colour = struct.unpack_from(">IIBB", chunk, 8)
    if not (0 < width <= MAX_SIDE_PIXELS and 0 < height <= MAX_SIDE_PIXELS):
        raise DamagedError("damaged", f"its header states {width:,} × {height:,} pixels")
    if depth not in BIT_DEPTHS.get(colour, ()):
        raise DamagedError(
            "damaged", f"its header states colour type {colour} with {depth} bits, which PNG does not allow"
        )
    result.pixels = (width, height)


def _walk(ranges: Ranges, result: Inspection, at: int) -> bool:
    """Walk over the chunks in the head; return whether they reach the end chunk.

    :raises DamagedError: if a chunk goes beyond the file's end.
    """
    while at + 8 <= HEAD_BYTES:
        head = ranges.at(at, 8)
        if len(head) < 8:
            return False
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        stop = at + CHUNK_BYTES + length
        if not name.isalpha():
            raise DamagedError("damaged", f"no chunk starts at byte {at:,}, where one should")
        if stop > ranges.size:
            raise _cut(name, stop, ranges.size)
        if name == END:
            return True
        if name == EXIF:
            _read_exif(ranges, result, at + 8, length)
        at = stop
    return False


def _check_end(ranges: Ranges, result: Inspection, header: int) -> None:
    start, tail = last_bytes(ranges)
    exif = tail.rfind(EXIF)
    if exif >= 4:
        _read_exif(ranges, result, start + exif + 4, int.from_bytes(tail[exif - 4 : exif], "big"))
    if END_CHUNK in tail[max(header - start, 0) :]:
        return
    image = tail.rfind(IMAGE)
    if image >= 4:
        stop = start + image - 4 + CHUNK_BYTES + int.from_bytes(tail[image - 4 : image], "big")
        if stop > ranges.size:
            raise _cut(IMAGE, stop, ranges.size)
    zeros = ends_with_zeros(ranges, start + len(tail))
    result.error("no_end_marker", f"it ends within its image data, without the end chunk (IEND){zeros}")


def _cut(name: bytes, needed: int, size: int) -> DamagedError:
    return DamagedError("truncated", f"its chunk {name.decode()} needs {shortage_text(needed, size)}")


def _read_exif(ranges: Ranges, result: Inspection, offset: int, length: int) -> None:
    data = ranges.at(offset, min(length, MAX_EXIF_BYTES))
    exif = read_exif(lambda start, count: data[start : start + count])
    result.camera, result.position = exif.camera or result.camera, exif.position or result.position
