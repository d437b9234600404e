"""LAS, LAZ and COPC: the header, the records with the coordinate system, and where the points end.

Separate because these three share one header. Offsets and counts are those of LAS 1.4 (R15); older versions
have a shorter header.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_360.inspection.coordinate_systems import (
    GEO_KEY_ASCII,
    GEO_KEY_DIRECTORY,
    MAX_WKT_CHARACTERS,
    read_geo_keys,
    read_wkt,
)
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import CoordinateSystem, DamagedError, Inspection
from airflow_360.inspection.signatures import wrong_format
from airflow_360.texts import count_text, size_text
from airflow_360.values import KIB

__all__ = ["inspect_las"]

SIGNATURE = b"LASF"
HEADER = struct.Struct("<4s2xH16xBB68xHIIBHI20x12d")
HEADER_BYTES = 227
#: The additions of LAS 1.3 (offset of the waveforms) and 1.4 (extended records, count of points).
WAVEFORMS = struct.Struct("<227xQ")
ADDITIONS = struct.Struct("<235xQIQ")
WKT_BIT = 1 << 4
INTERNAL_WAVEFORMS_BIT = 1 << 1
WAVEFORM_FORMATS = (4, 5, 9, 10)

#: The two bits of the point format that say that the points are compressed.
COMPRESSED_BITS = 0xC0
#: Bytes of a point in each of the formats 0 to 10; a writer may add bytes of its own.
POINT_BYTES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)
#: Versions after this one may have formats that are not known here.
KNOWN_MINOR_VERSION = 4

RECORD = struct.Struct("<2x16sHH32x")
EXTENDED_RECORD = struct.Struct("<2x16sHQ32x")
MAX_RECORDS = 400  # waveforms alone may have 255
#: Records before the points are read up to here.
MAX_RECORDS_END = 256 * KIB
PROJECTION = b"LASF_Projection"
WKT_RECORD = 2_112
LASZIP = (b"laszip encoded", 22_204)
LASZIP_HEAD = struct.Struct("<H10xI")
COPC = (b"copc", 1)
COPC_HIERARCHY = struct.Struct("<40xQQ")

CHUNK_OFFSET = struct.Struct("<q")
CHUNK_TABLE = struct.Struct("<II")
CHUNKED_COMPRESSORS = (2, 3)
VARIABLE_CHUNKS = (0, 0xFFFFFFFF)


@dataclass(frozen=True)
class _Header:
    """The numbers of the header that are used here, as the file states them."""

    encoding: int
    minor: int
    size: int
    points_offset: int
    records: int
    point_format: int
    point_bytes: int
    points: int
    legacy_points: int
    compressed: bool
    numbers: tuple[float, ...]
    waveforms_offset: int
    extended_offset: int
    extended_records: int

    @property
    def compact_bytes(self) -> int:
        """Return the length of the points if they are not compressed."""
        return self.points * self.point_bytes


@dataclass(frozen=True)
class _Record:
    """A variable length record: who defined it, its number, and where its content is."""

    user: bytes
    number: int
    offset: int
    length: int


def inspect_las(ranges: Ranges, result: Inspection) -> None:
    """Inspect a LAS, LAZ or COPC file.

    :param ranges: the file's bytes.
    :param result: the result to fill.
    """
    header = _read_header(ranges, result)
    result.format = "LAZ" if header.compressed else "LAS"
    result.counts["points"] = header.points
    _check_header(header, ranges.size)
    _check_counts(header, result)
    _check_bounds(header, result)
    _check_waveforms(header, ranges.size, result)
    if not header.compressed:
        _check_size(header, ranges.size, result)
    records = _short_records(header, ranges, result)
    if header.compressed:
        _check_compressed(header, records, ranges, result)
    _check_copc(records, ranges, result)
    result.coordinate_system = _coordinate_system(header, records, ranges)
    extended = _extended_records(header, ranges, result)
    if extended:
        result.coordinate_system = _coordinate_system(header, [*records, *extended], ranges)


def _read_header(ranges: Ranges, result: Inspection) -> _Header:
    head = ranges.at(0, ADDITIONS.size)
    if head[:4] != SIGNATURE:
        raise wrong_format(ranges, "a LAS or LAZ file")
    if len(head) < HEADER_BYTES:
        raise DamagedError("truncated", f"its header needs 227 bytes, and the file has {len(head)}")
    _, encoding, major, minor, size, offset, records, form, length, count, *numbers = HEADER.unpack_from(head)
    result.version = f"{major}.{minor}"
    if major != 1:
        raise DamagedError("damaged", f"its header states version {major}.{minor}, which does not exist")
    waveforms = extended_offset = extended = points = 0
    if minor >= 3 and min(size, len(head)) >= WAVEFORMS.size:
        (waveforms,) = WAVEFORMS.unpack_from(head)
    if minor >= 4 and min(size, len(head)) >= ADDITIONS.size:
        extended_offset, extended, points = ADDITIONS.unpack_from(head)
    return _Header(
        encoding=encoding,
        minor=minor,
        size=size,
        points_offset=offset,
        records=records,
        point_format=form & ~COMPRESSED_BITS,
        point_bytes=length,
        points=points or count,
        legacy_points=count,
        compressed=bool(form & COMPRESSED_BITS),
        numbers=tuple(numbers),
        waveforms_offset=waveforms,
        extended_offset=extended_offset,
        extended_records=extended,
    )


def _check_header(header: _Header, size: int) -> None:
    """Check the numbers without which the rest makes no sense."""
    if header.size < HEADER_BYTES:
        raise DamagedError(
            "damaged", f"its header states its own length as {count_text(header.size, 'byte')}"
        )
    if header.points_offset < header.size:
        raise DamagedError("damaged", "its header states that the points begin inside the header")
    known = header.point_format < len(POINT_BYTES)
    if not known and header.minor <= KNOWN_MINOR_VERSION:
        raise DamagedError(
            "damaged", f"its header states point format {header.point_format}, which does not exist"
        )
    if known and header.point_bytes < POINT_BYTES[header.point_format]:
        raise DamagedError(
            "damaged",
            f"its header states {count_text(header.point_bytes, 'byte')} per point, and point format"
            f" {header.point_format} needs {POINT_BYTES[header.point_format]}",
        )
    if header.points_offset > size:
        raise DamagedError(
            "truncated",
            f"its header states that the points begin after {size_text(header.points_offset)},"
            f" and the file has {size_text(size)}",
        )


def _check_counts(header: _Header, result: Inspection) -> None:
    """Warn about no points, and about two different numbers of points."""
    if not header.points:
        result.warn("counts", "its header states that it has no points")
    if header.legacy_points not in (0, header.points):
        result.warn(
            "counts",
            f"its header states two numbers of points: {header.legacy_points:,} and {header.points:,}",
        )


def _check_bounds(header: _Header, result: Inspection) -> None:
    """Check the scale and the bounds; a file without points may state any."""
    scales, (max_x, min_x, max_y, min_y, max_z, min_z) = header.numbers[:6], header.numbers[6:]
    bounds = (min_x, min_y, min_z, max_x, max_y, max_z)
    if not all(map(math.isfinite, bounds)) or min_x > max_x or min_y > max_y or min_z > max_z:
        if header.points:
            result.warn(
                "damaged", "its header states bounds that are not numbers, or a minimum above its maximum"
            )
    else:
        result.bounds = bounds
    if not all(map(math.isfinite, scales)) or 0 in scales[:3]:
        result.warn("damaged", "its header states a scale that is zero or no number")


def _records(ranges: Ranges, offset: int, count: int, layout: struct.Struct, end: int) -> Iterator[_Record]:
    """Return the records of a chain that begin before an offset."""
    for _ in range(min(count, MAX_RECORDS)):
        head = ranges.at(offset, layout.size)
        if len(head) < layout.size or offset >= end:
            return
        user, number, length = layout.unpack(head)
        offset += layout.size
        yield _Record(user.partition(b"\0")[0].rstrip(), number, offset, length)
        offset += length


def _short_records(header: _Header, ranges: Ranges, result: Inspection) -> list[_Record]:
    """Return the records before the points; check that they end before the points begin."""
    end = min(header.points_offset, MAX_RECORDS_END)
    records = list(_records(ranges, header.size, header.records, RECORD, end))
    behind = any(record.offset + record.length > header.points_offset for record in records)
    all_read = end == header.points_offset and len(records) < MAX_RECORDS
    if behind or (all_read and len(records) < header.records):
        result.warn("damaged", "its variable length records do not end before its points begin")
    elif len(records) < header.records:
        result.unchecked.append("some of its variable length records")
    return records


def _extended_records(header: _Header, ranges: Ranges, result: Inspection) -> list[_Record]:
    """Return the records behind the points; check that they lie inside the file."""
    start, count = header.extended_offset, header.extended_records
    if count and start < header.points_offset:
        result.warn("damaged", "its header states that its extended records begin before its points")
    if not count or start < header.points_offset:
        return []
    records = list(_records(ranges, start, count, EXTENDED_RECORD, ranges.size))
    inside = all(record.offset + record.length <= ranges.size for record in records)
    if not inside or len(records) < min(count, MAX_RECORDS):
        result.error(
            "truncated",
            f"its header states extended records ({count:,}) from byte {start:,} on, which do not fit in the"
            f" file's {size_text(ranges.size)}",
        )
    return records


def _check_size(header: _Header, size: int, result: Inspection) -> None:
    """Check that points that are not compressed fit in the file."""
    if header.points_offset + header.compact_bytes > size:
        result.error(
            "truncated",
            f"its header states {count_text(header.points, 'point')}, which need"
            f" {size_text(header.compact_bytes)}, and the file is"
            f" {size_text(header.points_offset + header.compact_bytes - size)} too short",
        )


def _check_compressed(header: _Header, records: list[_Record], ranges: Ranges, result: Inspection) -> None:
    """Check that the table of the compressed chunks is there; writers write it last."""
    laszip = _content(ranges, _find(records, *LASZIP), LASZIP_HEAD.size)
    if len(laszip) < LASZIP_HEAD.size:
        if len(records) == header.records:
            result.error("damaged", "its points are compressed, and the record that says how is missing")
        return
    compressor, chunk_points = LASZIP_HEAD.unpack(laszip)
    if not header.points or compressor not in CHUNKED_COMPRESSORS:
        return
    at = _chunk_table_offset(header, ranges, result)
    if at:
        _check_chunk_table(ranges.at(at, CHUNK_TABLE.size), header.points, chunk_points, result)


def _chunk_table_offset(header: _Header, ranges: Ranges, result: Inspection) -> int:
    """Return where the table of the chunks is; 0 if it is not inside the file."""
    first = header.points_offset + CHUNK_OFFSET.size
    stated = _signed(ranges.at(header.points_offset, CHUNK_OFFSET.size))
    # A writer that cannot seek leaves -1, and writes the offset into the file's last bytes.
    at = _signed(ranges.at(ranges.size - CHUNK_OFFSET.size, CHUNK_OFFSET.size)) if stated == -1 else stated
    if first < at <= ranges.size - CHUNK_TABLE.size:
        return at
    if stated == -1:
        result.warn("truncated", "its chunk table is not at its end")
    elif at in (0, header.points_offset):
        result.error("truncated", "it was not finished: its chunk table was not written")
    elif at <= first:
        result.error("damaged", "the offset of its chunk table makes no sense")
    else:
        result.error(
            "truncated",
            f"its chunk table should be at byte {at:,}, and the file has {ranges.size:,} bytes",
        )
    return 0


def _check_chunk_table(head: bytes, points: int, chunk_points: int, result: Inspection) -> None:
    """Check the head of the table: its version is 0, and its chunks hold all points."""
    version, chunks = CHUNK_TABLE.unpack(head)
    if version:
        result.error("damaged", "its chunk table makes no sense")
    elif not chunks or (chunk_points not in VARIABLE_CHUNKS and chunks * chunk_points < points):
        result.error(
            "counts",
            f"its header states {count_text(points, 'point')}, and it has {count_text(chunks, 'chunk')} of at"
            f" most {count_text(chunk_points, 'point')}",
        )


def _check_waveforms(header: _Header, size: int, result: Inspection) -> None:
    """Warn if the waveforms, which the points can do without, should begin behind the file's end."""
    internal = header.encoding & INTERNAL_WAVEFORMS_BIT and header.point_format in WAVEFORM_FORMATS
    if internal and header.waveforms_offset > size:
        result.warn(
            "truncated",
            f"its waveforms should be at byte {header.waveforms_offset:,}, and the file has {size:,} bytes",
        )


def _check_copc(records: list[_Record], ranges: Ranges, result: Inspection) -> None:
    """Check that the hierarchy of a COPC file, whose first record says so, lies inside the file."""
    info = _content(ranges, _find(records[:1], *COPC), COPC_HIERARCHY.size)
    if len(info) < COPC_HIERARCHY.size:
        return
    result.format = "COPC"
    offset, length = COPC_HIERARCHY.unpack(info)
    if offset + length > ranges.size:
        result.error(
            "truncated",
            f"its hierarchy should end at byte {offset + length:,}, and the file has {ranges.size:,} bytes",
        )


def _coordinate_system(header: _Header, records: list[_Record], ranges: Ranges) -> CoordinateSystem | None:
    """Return the stated system; if WKT and GeoKeys differ, the kind that the header announces is right."""
    wkt = read_wkt(
        _content(ranges, _find(records, PROJECTION, WKT_RECORD), 4 * MAX_WKT_CHARACTERS), "WKT record"
    )
    keys = _geo_keys(records, ranges)
    return (wkt or keys) if header.encoding & WKT_BIT else (keys or wkt)


def _geo_keys(records: list[_Record], ranges: Ranges) -> CoordinateSystem | None:
    directory = _content(ranges, _find(records, PROJECTION, GEO_KEY_DIRECTORY), MAX_WKT_CHARACTERS)
    values = struct.unpack_from(f"<{len(directory) // 2}H", directory)
    text = _content(ranges, _find(records, PROJECTION, GEO_KEY_ASCII), MAX_WKT_CHARACTERS)
    return read_geo_keys(values, text, "GeoKeys record")


def _find(records: list[_Record], user: bytes, number: int) -> _Record | None:
    return next((record for record in records if (record.user, record.number) == (user, number)), None)


def _content(ranges: Ranges, record: _Record | None, limit: int) -> bytes:
    """Return the content of a record up to a limit; empty if there is no such record."""
    return ranges.at(record.offset, min(record.length, limit)) if record else b""


def _signed(data: bytes) -> int:
    return CHUNK_OFFSET.unpack(data)[0] if len(data) == CHUNK_OFFSET.size else 0
