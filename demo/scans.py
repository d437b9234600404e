"""Sample data: a small point cloud and pictures; valid files with the same bytes every time.

Separate because it is pure: numbers in, bytes out, with only the standard library.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

Point = tuple[float, float, float]
Colour = tuple[int, int, int]

POINTS = 24_000
PICTURES = 5
_WIDTH, _HEIGHT = 1024, 512  # equirectangular: twice as wide as high
_SCALE = 0.001  # LAS stores millimetres as integers
_HEADER_SIZE, _RECORD_SIZE, _FORMAT_WITH_COLOUR = 227, 26, 2
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def make_scans(folder: Path, points: int = POINTS, pictures: int = PICTURES) -> list[Path]:
    """Write one point cloud and several pictures into a folder, and return their paths.

    :param folder: created if missing
    :param points: size of the point cloud, 26 bytes each
    :param pictures: the number of pictures
    """
    folder.mkdir(parents=True, exist_ok=True)
    cloud = folder / "lighthouse.las"
    cloud.write_bytes(las(list(lighthouse(points))))
    files = [cloud]
    for number in range(pictures):
        picture = folder / f"panorama_{number + 1:02}.png"
        picture.write_bytes(png(_WIDTH, _HEIGHT, panorama(number / max(pictures, 1))))
        files.append(picture)
    return files


def lighthouse(count: int) -> Iterator[tuple[Point, Colour]]:
    """Yield the points of a striped tower with a lamp, on a round island in the sea."""
    for number in range(count):
        share, angle = number / count, number * _GOLDEN_ANGLE
        if share < 0.5:
            yield _tower(share * 2, angle)
        elif share < 0.6:
            yield _lamp((share - 0.5) * 10, angle)
        else:
            yield _ground((share - 0.6) * 2.5, angle)


def _tower(share: float, angle: float) -> tuple[Point, Colour]:
    radius = 3.0 - 1.2 * share
    stripe = (220, 40, 40) if int(share * 6) % 2 == 0 else (245, 245, 240)
    return (radius * math.cos(angle), radius * math.sin(angle), 2 + 18 * share), stripe


def _lamp(share: float, angle: float) -> tuple[Point, Colour]:
    height = 2 * share - 1
    radius = 1.5 * math.sqrt(1 - height * height)
    return (radius * math.cos(angle), radius * math.sin(angle), 21.5 + 1.5 * height), (255, 220, 80)


def _ground(share: float, angle: float) -> tuple[Point, Colour]:
    radius = 14 * math.sqrt(share)
    height = max(0.0, 2 - radius * 0.25)
    return (radius * math.cos(angle), radius * math.sin(angle), height), (
        (90, 140, 70) if height else (40, 90, 160)
    )


def las(points: list[tuple[Point, Colour]]) -> bytes:
    """Return a LAS 1.2 file of coloured points (ASPRS point data record format 2)."""
    records = b"".join(_las_record(point, colour) for point, colour in points)
    return _las_header([point for point, _ in points]) + records


def _las_record(point: Point, colour: Colour) -> bytes:
    x, y, z = (round(value / _SCALE) for value in point)
    red, green, blue = (value * 257 for value in colour)  # 8 bits to 16
    first_of_one_return, unclassified = 0b001_001, 1
    return struct.pack(
        "<iiiHBBbBHHHH", x, y, z, 0, first_of_one_return, unclassified, 0, 0, 1, red, green, blue
    )


def _las_header(points: list[Point]) -> bytes:
    extremes = [limit for axis in zip(*points, strict=True) for limit in (max(axis), min(axis))]
    count = len(points)
    return struct.pack(
        "<4sHH16sBB32s32sHHHIIBHI5I3d3d6d",
        b"LASF",
        1,  # source
        0,  # global encoding
        bytes(16),  # project
        1,
        2,  # version
        b"demo",
        b"airflow-provider-360 demo",
        1,  # day and year of creation, fixed: the same bytes every time
        2026,
        _HEADER_SIZE,
        _HEADER_SIZE,  # offset of the points: no variable records between
        0,
        _FORMAT_WITH_COLOUR,
        _RECORD_SIZE,
        count,
        *(count, 0, 0, 0, 0),  # by return
        *(_SCALE, _SCALE, _SCALE),
        *(0.0, 0.0, 0.0),  # offset
        *extremes,
    )


def panorama(hue: float) -> Iterator[bytes]:
    """Yield the rows of a gradient that closes seamlessly around the viewer: bright above, dark below.

    :param hue: from 0 to 1, the position of each colour around the viewer
    """
    around = bytes(value for column in range(_WIDTH) for value in _colour(column / _WIDTH + hue))
    for row in range(_HEIGHT):
        light = 1 - 0.5 * row / _HEIGHT if row < _HEIGHT // 2 else 0.5 - 0.3 * row / _HEIGHT
        # One table per row, because arithmetic per pixel would take seconds.
        yield around.translate(bytes(round(value * light) for value in range(256)))


def _colour(turn: float) -> Colour:
    red, green, blue = (
        round(127.5 + 127.5 * math.cos(2 * math.pi * (turn + shift))) for shift in (0.0, 1 / 3, 2 / 3)
    )
    return red, green, blue


def png(width: int, height: int, rows: Iterator[bytes]) -> bytes:
    """Return a PNG of 8-bit RGB rows."""
    unfiltered = b"".join(b"\0" + row for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
