"""The sample data follows its formats, and is the same every time."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from demo.scans import make_scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    make_scans(folder, points=500, pictures=2)
    return folder


def test_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    """Making the data twice makes the same files with the same bytes."""
    again = make_scans(tmp_path, points=500, pictures=2)
    assert [file.read_bytes() for file in again] == [(folder / file.name).read_bytes() for file in again]
    assert len(again) == 3


def test_point_cloud_follows_the_las_specification(folder: Path) -> None:
    """The LAS header's counts, offsets and bounds fit the records that follow."""
    data = (folder / "lighthouse.las").read_bytes()
    assert data[:4] == b"LASF"
    assert data[24:26] == bytes([1, 2])
    header_size, offset = struct.unpack_from("<HI", data, 94)
    point_format, record_size, count = struct.unpack_from("<BHI", data, 104)
    assert (header_size, offset, point_format, record_size, count) == (227, 227, 2, 26, 500)
    assert len(data) == offset + count * record_size
    scale = struct.unpack_from("<d", data, 131)[0]
    bounds = struct.unpack_from("<6d", data, 179)
    points = [struct.unpack_from("<3i", data, offset + number * record_size) for number in range(count)]
    for axis, values in enumerate(zip(*points, strict=True)):
        assert max(values) * scale == pytest.approx(bounds[2 * axis], abs=scale)
        assert min(values) * scale == pytest.approx(bounds[2 * axis + 1], abs=scale)


def test_pictures_follow_the_png_specification(folder: Path) -> None:
    """Every PNG chunk's checksum is right, and the number of pixels is that of the header."""
    data = (folder / "panorama_01.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, position = {}, 8
    while position < len(data):
        length = struct.unpack_from(">I", data, position)[0]
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        position += length + 12
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    assert width == 2 * height
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + 3 * width)
