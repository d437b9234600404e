"""JPEG: the segments before the image data, the end marker, and what EXIF states.

A JPEG file has no length field, so a cut one is known by its missing end marker. The end marker may be
followed by anything: padding, further images, a video. If the last bytes are such a trailer without an end
marker of its own, nothing is reported; if they are compressed image data, the file is cut.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_360.inspection.exif import read_exif
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.reading import ends_with_zeros, last_bytes, require_bytes
from airflow_360.inspection.results import DamagedError, Inspection
from airflow_360.inspection.signatures import wrong_format

__all__ = ["inspect_jpeg"]

START = b"\xff\xd8"
END = b"\xff\xd9"
SCAN = 0xDA
APP1 = 0xE1
EXIF = b"Exif\0"
#: Markers that state the size of the image: all kinds of frames.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers that have no length: temporary, restart 0 to 7, and a start.
WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])

MAX_SEGMENTS = 512
#: Some thermal cameras keep megabytes in segments before the image.
MAX_READS = 6
#: Readers skip bytes between segments; more than these are a hole.
MAX_JUNK_BYTES = 4096
MARKER = re.compile(rb"\xff[\x01\xc0-\xfe]")

#: What follows 0xFF in compressed data: a stuffed zero, a restart, fill bytes, and segments between scans.
NOT_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff\xc4\xcc\xda\xdc\xdd\xfe]")
STUFFED = b"\xff\x00"
MIN_STUFFED = 8
#: In compressed data about one of 256 bytes is 0xFF; in masks and depth images it may be every second one.
MAX_SHARE_OF_FF = 1 / 16


@dataclass(frozen=True)
class _Segment:
    """A segment before the image data.

    :param marker: its kind.
    :param offset: the offset of its content.
    :param length: the length of its content in bytes.
    """

    marker: int
    offset: int
    length: int


def inspect_jpeg(ranges: Ranges, result: Inspection) -> None:
    """Inspect a JPEG photo."""
    if ranges.at(0, 2) != START:
        raise wrong_format(ranges, "a JPEG image")
    result.format = "JPEG"
    at = 2
    for segment in _segments(ranges):
        at = segment.offset + segment.length
        if segment.marker == APP1 and not result.position:
            _read_exif(ranges, result, segment)
        elif segment.marker in FRAMES:
            _read_frame(ranges, result, segment)
        elif segment.marker == SCAN:
            _check_end(ranges, result, at, scan_found=True)
            return
    result.unchecked.append("the segments before its image data")
    _check_end(ranges, result, at, scan_found=False)


def _segments(ranges: Ranges) -> Iterator[_Segment]:
    """Yield the segments up to the image data, or until they are too many or too far away."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if ranges.reads > MAX_READS:
            return
        at = _next_marker(ranges, at)
        marker = ranges.at(at, 2)[1]
        if marker in WITHOUT_LENGTH:
            at += 2
            continue
        if marker == END[1]:
            raise DamagedError("damaged", "it ends before any image data")
        length = int.from_bytes(require_bytes(ranges, at + 2, 2, "its header"), "big")
        if length < 2:
            raise DamagedError("damaged", f"a segment of its header states a length of {length}")
        yield _Segment(marker, at + 4, length - 2)
        at += 2 + length


def _next_marker(ranges: Ranges, at: int) -> int:
    """Return the offset of the next marker; it should be where it is expected."""
    two = require_bytes(ranges, at, 2, "its header")
    if MARKER.fullmatch(two):
        return at
    found = MARKER.search(ranges.at(at, MAX_JUNK_BYTES))
    if not found:
        if at + MAX_JUNK_BYTES >= ranges.size:
            raise DamagedError("truncated", "it ends before its image data")
        raise DamagedError("damaged", f"no segment of its header starts at byte {at:,}, where one should")
    return at + found.start()


def _read_exif(ranges: Ranges, result: Inspection, segment: _Segment) -> None:
    data = ranges.at(segment.offset, segment.length)
    if data.startswith(EXIF):
        block = data[6:]
        exif = read_exif(lambda offset, length: block[offset : offset + length])
        result.camera, result.position = exif.camera, exif.position


def _read_frame(ranges: Ranges, result: Inspection, segment: _Segment) -> None:
    frame = require_bytes(ranges, segment.offset, 5, "its header")
    _, height, width = struct.unpack(">BHH", frame)
    if not width:
        raise DamagedError("damaged", "its header states a width of 0 pixels")
    if height:  # 0 means that it follows after the first scan
        result.pixels = (width, height)


def _check_end(ranges: Ranges, result: Inspection, at: int, *, scan_found: bool) -> None:
    """Look for the end marker after the header.

    :param at: the offset after the header, whose preview has an end marker too.
    :param scan_found: whether the image data starts there.
    """
    start, tail = last_bytes(ranges)
    shown = tail[max(at - start, 0) :]
    if END in shown:
        return
    all_shown = scan_found and at >= start
    if all_shown or _is_scan_data(shown):
        zeros = ends_with_zeros(ranges, start + len(tail))
        result.error("no_end_marker", f"it ends within its image data, without an end marker{zeros}")


def _is_scan_data(data: bytes) -> bool:
    """Return whether bytes are compressed image data, by what follows each 0xFF."""
    return (
        data.count(STUFFED) >= MIN_STUFFED
        and data.count(0xFF) < len(data) * MAX_SHARE_OF_FF
        and not NOT_IN_SCAN.search(data)
    )
