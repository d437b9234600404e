"""JPEG: end markers, padding and trailers, EXIF positions, and damage."""

from __future__ import annotations

import io
import random
import struct
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import Severity
from tests.inspection.files import SAMPLES, inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

Image = pytest.importorskip("PIL.Image")
TiffImagePlugin = pytest.importorskip("PIL.TiffImagePlugin")

PHOTOS = sorted((SAMPLES / "photoset").glob("*.jpg"))
PLACE = (48.1374, -11.5755)
NOISE = random.Random(360).randbytes


def noise(mode: str = "RGB", side: int = 64) -> Any:
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (side, side), NOISE(side * side * bands))


def saved(image: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, options.pop("format", "JPEG"), **options)
    return out.getvalue()


def exif(latitude: Any = None, longitude: Any = None, sides: tuple[str, str] = ("N", "W")) -> Any:
    """Return EXIF data with a camera and perhaps a position, as Pillow writes it."""
    data = Image.Exif()
    data[0x010F], data[0x0110] = "Ricoh", "Theta Z1"
    if latitude is not None:
        data[0x8825] = {1: sides[0], 2: latitude, 3: sides[1], 4: longitude}
    return data


def angle(degrees: float) -> tuple[Any, Any, Any]:
    value = abs(degrees)
    minutes = (value - int(value)) * 60
    fraction = TiffImagePlugin.IFDRational
    return (
        fraction(int(value), 1),
        fraction(int(minutes), 1),
        fraction(round((minutes - int(minutes)) * 600_000), 10_000),
    )


def big_endian_exif() -> bytes:
    """Return a segment with EXIF data in the other byte order, with one fraction per angle."""
    gps = struct.pack(">HHHI4s", 4, 1, 2, 2, b"S\0\0\0") + struct.pack(">HHII", 2, 5, 1, 98)
    gps += struct.pack(">HHI4s", 3, 2, 2, b"E\0\0\0") + struct.pack(">HHII", 4, 5, 1, 106)
    main = struct.pack(">HHHII", 1, 0x8825, 4, 1, 26) + bytes(4)
    tiff = b"MM\0*" + struct.pack(">I", 8) + main + gps + bytes(4)
    tiff = tiff.ljust(98, b"\0") + struct.pack(">4I", 3345, 100, 15125, 100)
    return segment(0xE1, b"Exif\0\0" + tiff)


def part_of(data: memoryview, offset: int, length: int) -> bytes:
    return bytes(data[offset : offset + length])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(photo: bytes, *segments: bytes) -> bytes:
    return photo[:2] + b"".join(segments) + photo[2:]


LARGE = saved(noise(side=400), quality=95)
SMALL = saved(noise(side=16))
TRAILER = NOISE(200_000).replace(b"\xff\xd9", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("quality", [1, 50, 95, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_photos_of_every_mode_and_quality_pass(mode: str, quality: int, progressive: bool) -> None:
    """Pillow's photos have no problems, and their size is the image's."""
    photo = saved(noise(mode), quality=quality, progressive=progressive)
    result = inspect_bytes("a.JPG", photo)
    assert (result.format, result.problems, result.unchecked) == ("JPEG", [], [])
    assert result.pixels == (64, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 2, "optimize": True},
        {"comment": b"a comment"},
        {"dpi": (300, 300)},
        {"icc_profile": NOISE(150_000)},
        {"restart_marker_blocks": 4},
        {"restart_marker_rows": 1, "progressive": True},
        {"exif": exif()},
        {"xmp": b"<x:xmpmeta/>"},
        {"keep_rgb": True},
        {"streamtype": 0},
    ],
)
def test_photos_with_every_option_of_pillow_pass(options: dict[str, Any]) -> None:
    """Comments, profiles, restart markers and metadata are no problems."""
    result = inspect_bytes("a.jpeg", saved(noise(side=200), **options))
    assert (result.problems, result.unchecked, result.pixels) == ([], [], (200, 200))


@pytest.mark.parametrize(
    "photo",
    [
        pytest.param(saved(Image.new("RGB", (1, 1))), id="one pixel"),
        pytest.param(saved(Image.new("L", (3000, 2000), 255)), id="white"),
        pytest.param(LARGE, id="large"),
        pytest.param(LARGE + bytes(1000), id="some zeros"),
        pytest.param(LARGE + bytes(300_000), id="many zeros"),
        pytest.param(LARGE + b"\n", id="a line end"),
        pytest.param(LARGE + TRAILER, id="a large trailer"),
        pytest.param(LARGE + TRAILER + bytes(500_000), id="a trailer and zeros"),
        pytest.param(LARGE + b"\0\xff" * 50_000, id="a mask"),
        pytest.param(with_segments(SMALL, b"\xff\xff\xff"), id="fill bytes"),
        pytest.param(with_segments(SMALL, segment(0xE0, b"JFIF\0\1\1"), bytes(3)), id="stray bytes"),
        pytest.param(with_segments(SMALL, *[segment(0xE2, bytes(60_000))] * 3), id="large segments"),
        pytest.param(with_segments(SMALL, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), id="bad EXIF"),
        pytest.param(saved(noise(), format="MPO", save_all=True, append_images=[noise(), noise()]), id="MPO"),
    ],
)
def test_padding_trailers_and_odd_headers_pass(photo: bytes) -> None:
    """What follows the end marker, and what readers skip, is no problem."""
    assert inspect_bytes("a.jpg", photo).problems == []


def test_thermal_photos_with_megabytes_of_segments_pass() -> None:
    """The walk over the segments gives up after a few reads, without an alarm."""
    photo = with_segments(SMALL, *[segment(0xE3, NOISE(65_000))] * 40)
    result = inspect_bytes("a.jpg", photo)
    assert result.problems == []
    assert len(result.unchecked) == 1


@pytest.mark.skipif(not PHOTOS, reason="the real photos are not on this machine")
def test_real_photos_pass() -> None:
    """Real photos have no problems, their size is Pillow's, and each takes two reads."""
    for path in PHOTOS:
        data = memoryview(path.read_bytes())
        ranges = Ranges(partial(part_of, data), len(data))
        result = inspect_file(path.name, ranges)
        assert (result.problems, result.unchecked) == ([], [])
        assert result.pixels == Image.open(path).size
        assert (ranges.reads, ranges.bytes_read) == (2, 128 * 1024)


@pytest.mark.skipif(not PHOTOS, reason="the real photos are not on this machine")
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_real_photos_that_were_cut_have_no_end(share: float) -> None:
    """A cut real photo is an error wherever it was cut."""
    for path in PHOTOS[:8]:
        data = path.read_bytes()
        cut = inspect_bytes(path.name, data[: int(len(data) * share)])
        assert [problem.code for problem in cut.errors] in (["no_end_marker"], ["truncated"])


@pytest.mark.parametrize(
    ("photo", "code"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(LARGE[:-1], "no_end_marker", id="without the last byte"),
        pytest.param(LARGE[:-2], "no_end_marker", id="without the end marker"),
        pytest.param(LARGE[: len(LARGE) // 2], "no_end_marker", id="half"),
        pytest.param(LARGE[: len(LARGE) // 2] + bytes(5000), "no_end_marker", id="half, some zeros"),
        pytest.param(LARGE[: len(LARGE) // 2] + bytes(900_000), "no_end_marker", id="half, many zeros"),
        pytest.param(LARGE[:300], "truncated", id="within the header"),
        pytest.param(LARGE[:3], "truncated", id="three bytes"),
        pytest.param(LARGE[:100] + bytes(len(LARGE) - 100), "damaged", id="zeros in the header"),
        pytest.param(bytes(len(LARGE)), "damaged", id="only zeros"),
        pytest.param(b"\xff\xd8\xff\xd9", "damaged", id="no image"),
        pytest.param(b"\xff\xd8\xff\xe0\0\0" + LARGE[2:], "damaged", id="a segment of no length"),
        pytest.param(b"<!DOCTYPE html><p>404", "wrong_format", id="a web page"),
        pytest.param(saved(noise(side=900), progressive=True)[:-60_000], "no_end_marker", id="progressive"),
        pytest.param(saved(noise(side=300), exif=exif())[:-2], "no_end_marker", id="with EXIF"),
    ],
)
def test_damaged_photos_are_errors(photo: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [problem.code for problem in inspect_bytes("a.jpg", photo).errors] == [code]


def test_the_end_marker_of_a_preview_does_not_count() -> None:
    """A cut photo whose EXIF preview is complete has no end marker."""
    photo = with_segments(LARGE[:20_000], segment(0xE1, b"Exif\0\0" + SMALL))
    assert [problem.code for problem in inspect_bytes("a.jpg", photo).errors] == ["no_end_marker"]


@pytest.mark.parametrize("north", [PLACE[0], -33.45, 0.5, 90])
@pytest.mark.parametrize("east", [PLACE[1], 151.25, 0, 180])
def test_positions_are_those_that_pillow_wrote(north: float, east: float) -> None:
    """Latitude and longitude have the sign of their sides."""
    sides = ("N" if north >= 0 else "S", "E" if east >= 0 else "W")
    photo = saved(noise(), exif=exif(angle(north), angle(east), sides))
    result = inspect_bytes("a.jpg", photo)
    assert result.position == pytest.approx((north, east), abs=1e-7)
    assert result.camera == "Ricoh Theta Z1"
    judge = Image.open(io.BytesIO(photo)).getexif().get_ifd(0x8825)
    assert float(judge[2][0]) == int(abs(north))


def test_positions_are_read_in_both_byte_orders() -> None:
    """Big-endian EXIF data with one fraction per angle is read."""
    assert inspect_bytes("a.jpg", with_segments(SMALL, big_endian_exif())).position == (-33.45, 151.25)


@pytest.mark.parametrize(
    ("latitude", "longitude", "sides"),
    [
        pytest.param((0, 0, 0), (0, 0, 0), ("N", "E"), id="no fix"),
        pytest.param((91, 0, 0), (8, 0, 0), ("N", "E"), id="latitude"),
        pytest.param((48, 0, 0), (181, 0, 0), ("N", "E"), id="longitude"),
        pytest.param((48, 0, 0), (8, 0, 0), ("?", "E"), id="side"),
    ],
)
def test_impossible_positions_are_none(latitude: Any, longitude: Any, sides: tuple[str, str]) -> None:
    """A position outside the earth, without a side, or at 0, 0 is no position, and no problem."""
    result = inspect_bytes("a.jpg", saved(noise(), exif=exif(latitude, longitude, sides)))
    assert (result.position, result.problems) == (None, [])


def test_fractions_without_a_value_are_no_position() -> None:
    """Degrees of 0/0 state no position."""
    segments = big_endian_exif()
    nothing = segments.replace(struct.pack(">II", 3345, 100), bytes(8))
    assert inspect_bytes("a.jpg", with_segments(SMALL, nothing)).position is None


@given(mutations([with_segments(SMALL, big_endian_exif()), saved(noise(), exif=exif((1, 2, 3), (4, 5, 6)))]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.jpg", data)


@given(st.binary(max_size=300))
def test_any_bytes_after_the_start_end_in_a_result(data: bytes) -> None:
    """No header breaks the inspection."""
    assert_ends_in_a_result("a.jpg", b"\xff\xd8" + data)


def test_a_picture_of_another_format_is_doubtful() -> None:
    """A PNG image with the name of a JPEG is a warning, because most programs recognize it."""
    (problem,) = inspect_bytes("a.jpg", saved(noise(), format="PNG")).problems
    assert (problem.code, problem.severity) == ("wrong_format", Severity.WARNING)
    assert "PNG" in problem.text
