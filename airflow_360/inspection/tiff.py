"""TIFF, BigTIFF and GeoTIFF: the chain of images, where their pixels are, and the coordinate system.

Separate because TIFF has its own two byte orders and offsets of two sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import zip_longest

from airflow_360.inspection.coordinate_systems import (
    GEO_KEY_ASCII,
    GEO_KEY_DIRECTORY,
    MAX_WKT_CHARACTERS,
    read_geo_keys,
)
from airflow_360.inspection.ranges import Ranges, TooMuchToReadError
from airflow_360.inspection.results import CoordinateSystem, DamagedError, Inspection
from airflow_360.inspection.signatures import wrong_format

__all__ = ["inspect_tiff"]

BYTE_ORDERS = {b"II": "<", b"MM": ">"}
CLASSIC = 42
BIG = 43
MAX_IMAGES = 4_096
MAX_FIELDS = 4_096  # of an image
#: Strips and tiles of an image that are checked: the last ones, because a cut file lacks these.
MAX_PIECES = 2_048
MAX_GEO_KEY_NUMBERS = 1_024

#: Bytes of a value by its type; others have no meaning here.
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 12: 8, 13: 4, 16: 8, 18: 8}
NUMBER_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

WIDTH = 256
LENGTH = 257
BITS = 258
COMPRESSION = 259
STRIP_OFFSETS = 273
SAMPLES = 277
STRIP_ROWS = 278
STRIP_BYTES = 279
LAYOUT = 284
TILE_OFFSETS = 324
TILE_BYTES = 325
UNCOMPRESSED = 1
SAMPLES_TOGETHER = 1  # not one plane for each colour


@dataclass(frozen=True)
class _Kind:
    """How the numbers of a file are written.

    :param order: the byte order, for :mod:`struct`.
    :param is_big: whether offsets have 64 bits.
    """

    order: str
    is_big: bool

    @property
    def offset_bytes(self) -> int:
        """Return the length of an offset, and so of a value that a field holds itself."""
        return 8 if self.is_big else 4

    @property
    def count_bytes(self) -> int:
        """Return the length of the number of fields."""
        return 8 if self.is_big else 2

    @property
    def field(self) -> struct.Struct:
        """Return the layout of a field: tag, type, number of values, value or offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.is_big else "HHI4s"))

    def number(self, data: bytes) -> int:
        """Return an unsigned number; 0 if the file ends before it."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")


@dataclass(frozen=True)
class _Field:
    """A field of an image: the type and number of its values, and where they are."""

    kind: int
    count: int
    value: bytes
    offset: int

    @property
    def length(self) -> int:
        """Return the bytes of its values."""
        return self.count * TYPE_BYTES.get(self.kind, 0)


class _Image:
    """The fields of one image, and what their values say."""

    def __init__(self, ranges: Ranges, kind: _Kind, fields: dict[int, _Field]) -> None:
        self._ranges = ranges
        self._kind = kind
        self._fields = fields

    def is_outside(self, tag: int, size: int) -> bool:
        """Return whether a field's values lie outside the file."""
        field = self._fields.get(tag)
        return bool(field and field.length > self._kind.offset_bytes and field.offset + field.length > size)

    def raw(self, tag: int, limit: int) -> bytes:
        """Return the first bytes of a field's values; empty if the image has no such field."""
        field = self._fields.get(tag)
        if not field:
            return b""
        if field.length <= self._kind.offset_bytes:
            return field.value[: field.length]
        return self._ranges.at(field.offset, min(field.length, limit))

    def number(self, tag: int, default: int) -> int:
        """Return the first value of a field."""
        return next(iter(self.numbers(tag, 0, 1)), default)

    def count(self, tag: int) -> int:
        """Return the number of values of a field."""
        field = self._fields.get(tag)
        return field.count if field else 0

    def numbers(self, tag: int, start: int, limit: int) -> tuple[int, ...]:
        """Return some values of a field, from one on; fewer if the file ends before them."""
        field = self._fields.get(tag)
        letter = NUMBER_FORMATS.get(field.kind, "") if field else ""
        if not field or not letter:
            return ()
        size = TYPE_BYTES[field.kind]
        count = max(min(field.count - start, limit), 0)
        if field.length <= self._kind.offset_bytes:
            data = field.value[start * size : (start + count) * size]
        else:
            data = self._ranges.at(field.offset + start * size, count * size)
        return struct.unpack_from(f"{self._kind.order}{len(data) // size}{letter}", data)


def inspect_tiff(ranges: Ranges, result: Inspection) -> None:
    """Inspect a TIFF, BigTIFF or GeoTIFF file.

    :param ranges: the file's bytes.
    :param result: the result to fill.
    """
    kind, offset = _read_header(ranges)
    result.format, result.version = ("BigTIFF" if kind.is_big else "TIFF"), ""
    seen: set[int] = set()
    result.counts["images"] = 0
    try:
        while offset and offset not in seen and len(seen) < MAX_IMAGES:
            seen.add(offset)
            image, offset = _read_image(ranges, kind, offset, len(seen))
            result.counts["images"] += 1
            result.coordinate_system = result.coordinate_system or _coordinate_system(image)
            _check_pieces(image, ranges.size, len(seen), result)
            if result.errors:
                return
    except TooMuchToReadError:
        result.unchecked.append(f"the images after the first {result.counts['images']:,}")
        return
    if offset in seen:
        result.warn("damaged", "its list of images is circular: an image refers back to an earlier one")


def _read_header(ranges: Ranges) -> tuple[_Kind, int]:
    """Return how numbers are written, and where the first image is."""
    head = ranges.at(0, 16)
    order = BYTE_ORDERS.get(head[:2], "")
    # Some old writers wrote the version in the other byte order.
    version = {head[2:4], head[3:1:-1]} & {b"\0\x2a", b"\0\x2b"}
    if not order or not version:
        raise wrong_format(ranges, "a TIFF image")
    kind = _Kind(order, version == {b"\0\x2b"})
    at = 8 if kind.is_big else 4
    offset = kind.number(head[at : at + kind.offset_bytes])
    if not offset:
        raise DamagedError("damaged", "its header states no image")
    return kind, offset


def _read_image(ranges: Ranges, kind: _Kind, offset: int, number: int) -> tuple[_Image, int]:
    """Return an image, and where the next one is; 0 if there is none."""
    count = kind.number(ranges.at(offset, kind.count_bytes))
    start, field_bytes = offset + kind.count_bytes, kind.field.size
    if offset + kind.count_bytes > ranges.size or (
        count <= MAX_FIELDS and start + count * field_bytes > ranges.size
    ):
        raise DamagedError(
            "truncated",
            f"the description of image {number:,} is at byte {offset:,}, and the file has {ranges.size:,}"
            " bytes",
        )
    if not 0 < count <= MAX_FIELDS:
        raise DamagedError("damaged", f"image {number:,} has {count:,} fields")
    data = ranges.at(start, count * field_bytes + kind.offset_bytes)
    fields: dict[int, _Field] = {}
    for tag, form, values, value in kind.field.iter_unpack(data[: count * field_bytes]):
        fields.setdefault(tag, _Field(form, values, value, kind.number(value)))
    return _Image(ranges, kind, fields), kind.number(data[count * field_bytes :])


def _check_pieces(image: _Image, size: int, number: int, result: Inspection) -> None:
    """Check that the strips or tiles of an image lie inside the file."""
    is_tiled = bool(image.count(TILE_OFFSETS))
    offsets_tag, lengths_tag = (TILE_OFFSETS, TILE_BYTES) if is_tiled else (STRIP_OFFSETS, STRIP_BYTES)
    if image.is_outside(offsets_tag, size) or image.is_outside(lengths_tag, size):
        result.error("truncated", f"the list of the strips of image {number:,} is not inside the file")
        return
    start = max(image.count(offsets_tag) - MAX_PIECES, 0)
    offsets = image.numbers(offsets_tag, start, MAX_PIECES)
    lengths = image.numbers(lengths_tag, start, MAX_PIECES)
    if not is_tiled and len(lengths) == len(offsets) > 0:
        lengths = (*lengths[:-1], min(lengths[-1], _last_strip_bytes(image, lengths[-1])))
    pieces = zip_longest(offsets, lengths[: len(offsets)], fillvalue=0)
    end = max((offset + length for offset, length in pieces if offset), default=0)
    if end > size:
        result.error(
            "truncated",
            f"the pixels of image {number:,} end at byte {end:,}, and the file has {size:,} bytes",
        )


def _last_strip_bytes(image: _Image, stated: int) -> int:
    """Return the bytes of the last strip; some writers state a full strip although fewer rows are left."""
    length = image.number(LENGTH, 0)
    rows = min(image.number(STRIP_ROWS, length), length)
    if image.number(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED or not rows:
        return stated
    samples = image.number(SAMPLES, 1) if image.number(LAYOUT, SAMPLES_TOGETHER) == SAMPLES_TOGETHER else 1
    row_bytes = -(-image.number(WIDTH, 0) * image.number(BITS, 1) * samples // 8)
    return row_bytes * ((length - 1) % rows + 1)


def _coordinate_system(image: _Image) -> CoordinateSystem | None:
    """Return the coordinate system of an image."""
    values = image.numbers(GEO_KEY_DIRECTORY, 0, MAX_GEO_KEY_NUMBERS)
    return read_geo_keys(values, image.raw(GEO_KEY_ASCII, MAX_WKT_CHARACTERS)) if values else None
