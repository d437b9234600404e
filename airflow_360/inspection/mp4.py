"""MP4 and MOV: the boxes from the first to the last one, the index, and the place of the recording.

A recorder writes the index (the box ``moov``) when it stops, so an interrupted recording or copy has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_360.inspection.exif import position
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import DamagedError, Inspection, plain_text, shortage_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.values import KIB

__all__ = ["inspect_mp4"]

#: Names with which a file of this family starts; the oldest MOV files have no ``ftyp``.
STARTS = frozenset(
    b"ftyp moov mdat wide free skip pnot uuid styp junk PICT sidx moof emsg prft pdin meta".split()
)
INDEX, MEDIA, FRAGMENT = b"moov", b"mdat", b"moof"
#: The boxes without which a video cannot be played.
NEEDED = frozenset({INDEX, MEDIA, FRAGMENT})
QUICKTIME = b"qt  "
NAME = re.compile(rb"[\x20-\x7e\xa9][\x20-\x7e]{3}")

MAX_BOXES = 512
#: For the boxes of the file; fragmented recordings have thousands of them.
MAX_WALK_READS = 12
MAX_INDEX_BOXES = 128
MAX_METADATA_BYTES = 64 * KIB

#: ISO 6709: latitude and longitude in degrees, or in degrees, minutes and seconds without separators. The
#: fractions are required, because a date such as 2026-08-01 looks similar.
PLACE = re.compile(rb"([+-])(\d{1,6}\.\d{1,15})([+-])(\d{1,7}\.\d{1,15})(?![\d.])")
PLACE_BOX = b"\xa9xyz"
PLACE_KEY = b"location.ISO6709"


@dataclass(frozen=True)
class _Box:
    """A box.

    :param name: its four bytes of name.
    :param offset: the offset of its content.
    :param stop: the offset after its content.
    """

    name: bytes
    offset: int
    stop: int


def inspect_mp4(ranges: Ranges, result: Inspection) -> None:
    """Inspect an MP4 or MOV video."""
    if ranges.at(4, 4) not in STARTS:
        raise wrong_format(ranges, "an MP4 or MOV video")
    result.format = "MOV" if ranges.at(4, 4) != b"ftyp" or ranges.at(8, 4) == QUICKTIME else "MP4"
    if ranges.at(4, 4) == b"ftyp":
        result.version = plain_text(ranges.at(8, 4), 4)
    seen: dict[bytes, _Box] = {}
    complete = _walk(ranges, seen)
    if complete:
        _check_needed(seen)
    elif not _ends_with_fragment_index(ranges):
        result.unchecked.append("the fragments after the first ones")
    if INDEX in seen:
        _read_index(ranges, result, seen[INDEX])


def _walk(ranges: Ranges, seen: dict[bytes, _Box]) -> bool:
    """Walk over the boxes of the file; return whether the walk reached its end.

    :param seen: gets the first box of each name.
    :raises DamagedError: if a box goes beyond the file's end, or bytes that are no box come too early.
    """
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > ranges.size:
            return True
        if ranges.reads >= MAX_WALK_READS:
            return False
        box = _box(ranges, at, ranges.size)
        playable = INDEX in seen and (MEDIA in seen or FRAGMENT in seen)
        if box is None:
            if playable:  # a trailer of the camera, or padding
                return True
            raise DamagedError("damaged", f"no box starts at byte {at:,}, where one should")
        if box.stop > ranges.size and (box.name in NEEDED or not playable):
            name = plain_text(box.name.decode("latin-1"), 4)
            raise DamagedError("truncated", f"its box {name} needs {shortage_text(box.stop, ranges.size)}")
        seen.setdefault(box.name, box)
        at = box.stop
    return False


def _box(ranges: Ranges, at: int, limit: int) -> _Box | None:
    """Return the box at an offset; None if there is none.

    :param limit: where a box ends that has no size of its own.
    """
    head = ranges.at(at, 8)
    size, name, header = int.from_bytes(head[:4], "big"), head[4:], 8
    if not NAME.fullmatch(name):
        return None
    if size == 1:
        size, header = int.from_bytes(ranges.at(at + 8, 8), "big"), 16
    elif size == 0:
        size = limit - at
    return _Box(name, at + header, at + size) if size >= header else None


def _check_needed(seen: dict[bytes, _Box]) -> None:
    if INDEX not in seen:
        raise DamagedError(
            "truncated", "its index (box moov) is missing: the recording or a copy was interrupted"
        )
    if MEDIA not in seen and FRAGMENT not in seen:
        raise DamagedError("truncated", "its media data (box mdat) is missing")


def _ends_with_fragment_index(ranges: Ranges) -> bool:
    """Return whether the file ends with an index of its fragments, whose last bytes are its size."""
    end = ranges.at(ranges.size - 16, 16)
    if end[4:8] != b"mfro":
        return False
    at = ranges.size - int.from_bytes(end[12:], "big")
    return ranges.at(at + 4, 4) == b"mfra"


def _read_index(ranges: Ranges, result: Inspection, index: _Box) -> None:
    """Count the tracks, and find the place of the recording."""
    tracks = 0
    for box in _children(ranges, index):
        tracks += box.name == b"trak"
        if box.name in (b"udta", b"meta") and not result.position:
            length = min(box.stop - box.offset, MAX_METADATA_BYTES)
            result.position = _place(ranges.at(box.offset, length))
    result.counts["tracks"] = tracks


def _children(ranges: Ranges, parent: _Box) -> Iterator[_Box]:
    at = parent.offset
    for _ in range(MAX_INDEX_BOXES):
        box = _box(ranges, at, parent.stop) if at + 8 <= parent.stop else None
        if box is None or box.stop > parent.stop:
            return
        yield box
        at = box.stop


def _place(metadata: bytes) -> tuple[float, float] | None:
    """Return the place in a metadata box: after the name of its own box, or anywhere if its key is there."""
    start = metadata.find(PLACE_BOX)
    if start < 0 and PLACE_KEY not in metadata:
        return None
    found = PLACE.search(metadata, max(start, 0))
    if not found:
        return None
    north, latitude, east, longitude = found.groups()
    return position(_degrees(north, latitude, 2), _degrees(east, longitude, 3))


def _degrees(sign: bytes, number: bytes, width: int) -> float:
    """Return an angle in degrees.

    :param number: degrees, or degrees, minutes and perhaps seconds of two digits each.
    :param width: the digits of the degrees.
    """
    whole, _, fraction = number.decode().partition(".")
    parts = [whole[:width], whole[width : width + 2], whole[width + 2 :]]
    parts = [part for part in parts if part]
    parts[-1] += f".{fraction or 0}"
    angle = sum(float(part) * 60.0**-power for power, part in enumerate(parts))
    return -angle if sign == b"-" else angle
