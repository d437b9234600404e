"""Camera and GPS position from EXIF data, which is a small TIFF file inside a photo.

Separate from the photos' formats, which only find it. A damaged EXIF block is no problem of the photo: what
cannot be read is as if it were not there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from airflow_360.inspection.results import plain_text

__all__ = ["Exif", "position", "read_exif"]

#: Bytes at an offset from the start of the EXIF data, fewer at its end.
ReadAt = Callable[[int, int], bytes]
#: The byte orders of :mod:`struct`, by the first bytes.
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
MAX_DIRECTORY_ENTRIES = 512
MAX_NAME_CHARACTERS = 100
ENTRY_BYTES = 12

MAKE, MODEL, GPS_DIRECTORY = 0x010F, 0x0110, 0x8825
LATITUDE_SIDE, LATITUDE, LONGITUDE_SIDE, LONGITUDE = 1, 2, 3, 4
ASCII, RATIONAL, SIGNED_RATIONAL = 2, 5, 10


@dataclass(frozen=True)
class Exif:
    """What EXIF data states.

    :param camera: maker and model; empty if it states none.
    :param position: latitude and longitude in degrees; None if it states none.
    """

    camera: str = ""
    position: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory: a value of at most four bytes is in it, a longer one at an offset."""

    kind: int
    count: int
    value: bytes


def read_exif(at: ReadAt) -> Exif:
    """Return what EXIF data states; all that cannot be read is left out.

    :param at: returns bytes of the EXIF data, or of a whole TIFF file.
    """
    head = at(0, 8)
    order = BYTE_ORDERS.get(head[:4])
    if not order or len(head) < 8:
        return Exif()
    data = _Tiff(at, order)
    main = data.directory(data.number(head[4:]))
    maker, model = data.text(main.get(MAKE)), data.text(main.get(MODEL))
    camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    gps = main.get(GPS_DIRECTORY)
    return Exif(camera, data.position(data.directory(data.number(gps.value))) if gps else None)


def position(latitude: float, longitude: float) -> tuple[float, float] | None:
    """Return a position in degrees if it is one.

    Exactly 0, 0 is what devices without a fix write, so it counts as none.
    """
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180) or latitude == longitude == 0:
        return None
    return latitude, longitude


class _Tiff:
    """Values of EXIF data in one byte order."""

    def __init__(self, at: ReadAt, order: str) -> None:
        self._at = at
        self._order = order

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self._order == "<" else "big")

    def directory(self, offset: int) -> dict[int, _Entry]:
        """Return the entries of a directory by their tags, as far as they are there."""
        count = min(self.number(self._at(offset, 2)), MAX_DIRECTORY_ENTRIES) if offset else 0
        data = self._at(offset + 2, count * ENTRY_BYTES) if count else b""
        data = data[: len(data) // ENTRY_BYTES * ENTRY_BYTES]
        entries = struct.iter_unpack(f"{self._order}HHI4s", data)
        return {tag: _Entry(kind, length, value) for tag, kind, length, value in entries}

    def text(self, entry: _Entry | None) -> str:
        if not entry or entry.kind != ASCII:
            return ""
        length = min(entry.count, 4 * MAX_NAME_CHARACTERS)
        data = entry.value[:length] if entry.count <= 4 else self._at(self.number(entry.value), length)
        return plain_text(data, MAX_NAME_CHARACTERS)

    def position(self, gps: dict[int, _Entry]) -> tuple[float, float] | None:
        latitude = self._degrees(gps.get(LATITUDE), gps.get(LATITUDE_SIDE), b"N", b"S")
        longitude = self._degrees(gps.get(LONGITUDE), gps.get(LONGITUDE_SIDE), b"E", b"W")
        return None if latitude is None or longitude is None else position(latitude, longitude)

    def _degrees(self, entry: _Entry | None, side: _Entry | None, plus: bytes, minus: bytes) -> float | None:
        """Return an angle from degrees, minutes and seconds; None if it or its side is not there."""
        sign = {plus: 1, minus: -1}.get(side.value[:1].upper()) if side else None
        parts = self._rationals(entry) if entry else []
        if sign is None or not parts or None in parts[:2]:
            return None
        return sign * sum((part or 0.0) * 60.0**-power for power, part in enumerate(parts))

    def _rationals(self, entry: _Entry) -> list[float | None]:
        """Return up to three fractions; None for one without a value, such as 0/0."""
        if entry.kind not in (RATIONAL, SIGNED_RATIONAL):
            return []
        data = self._at(self.number(entry.value), 8 * min(entry.count, 3))
        data = data[: len(data) // 8 * 8]
        pairs = struct.iter_unpack(self._order + ("II" if entry.kind == RATIONAL else "ii"), data)
        return [above / below if below else None for above, below in pairs]
