"""PNG: modes and chunks of several writers, positions, and damage."""

from __future__ import annotations

import io
import random
import struct
from binascii import crc32
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

Image = pytest.importorskip("PIL.Image")
PngImagePlugin = pytest.importorskip("PIL.PngImagePlugin")

NOISE = random.Random(360).randbytes
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


def noise(mode: str = "RGB", side: int = 32) -> Any:
    if mode in ("1", "P", "I;16"):
        return Image.effect_noise((side, side), 50).convert("L").convert(mode)
    return Image.frombytes(mode, (side, side), NOISE(side * side * len(mode)))


def saved(image: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc32(name + content))


def exif() -> Any:
    data = Image.Exif()
    data[0x8825] = {1: "N", 2: (48, 30, 0), 3: "E", 4: (11, 0, 36)}
    return data


def information() -> Any:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title", zip=True)
    info.add_itxt("Author", "é")
    return info


SMALL = saved(noise())
LARGE = saved(noise(side=400))
HEADER_END = 33
WITH_EXIF = saved(noise(), exif=exif())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [0, 9])
def test_images_of_every_mode_pass(mode: str, level: int) -> None:
    """Pillow's images have no problems, and their size is the image's."""
    result = inspect_bytes("a.PNG", saved(noise(mode), compress_level=level))
    assert (result.format, result.problems, result.unchecked) == ("PNG", [], [])
    assert result.pixels == (32, 32)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(LARGE, id="large"),
        pytest.param(LARGE + b"trailer", id="a trailer"),
        pytest.param(LARGE + bytes(300_000), id="zeros"),
        pytest.param(saved(noise(side=20), icc_profile=NOISE(3000), dpi=(72, 72)), id="profile"),
        pytest.param(saved(noise(side=20), pnginfo=information()), id="texts"),
        pytest.param(saved(noise(), save_all=True, append_images=[noise(), noise()]), id="animated"),
        pytest.param(SMALL[:8] + chunk(b"CgBI", bytes(4)) + SMALL[8:], id="of Apple"),
        pytest.param(SMALL + LARGE[-90_000:-12], id="the rest of a longer file"),
        pytest.param(
            LARGE[:HEADER_END] + chunk(b"IDAT", NOISE(900_000)) + chunk(b"IEND"), id="one long chunk"
        ),
        pytest.param(LARGE[:HEADER_END] + chunk(b"IDAT", b"1") * 9000 + chunk(b"IEND"), id="many chunks"),
    ],
)
def test_other_images_pass(image: bytes) -> None:
    """Trailers, padding, animations, and long and many chunks are no problem."""
    assert inspect_bytes("a.png", image).problems == []


def test_images_on_this_machine_pass() -> None:
    """Images that are installed here have no problems, and the size that Pillow reads."""
    paths = sorted(Path("/usr/share").rglob("*.png"))[:200]
    if not paths:
        pytest.skip("no PNG files are installed in /usr/share")
    for path in paths:
        result = inspect_bytes("a.png", path.read_bytes())
        assert result.problems == [], path
        assert result.pixels == Image.open(path).size


@pytest.mark.parametrize("image", [WITH_EXIF, WITH_EXIF.replace(b"IDAT", b"IDAT", 1)])
def test_positions_are_read(image: bytes) -> None:
    """A position in an EXIF chunk is read."""
    assert inspect_bytes("a.png", image).position == pytest.approx((48.5, 11.01))


def test_a_position_after_the_image_data_is_read() -> None:
    """The EXIF chunk may be the last one before the end."""
    block = chunk(b"eXIf", exif().tobytes().removeprefix(b"Exif\0\0"))
    many = LARGE[:HEADER_END] + chunk(b"IDAT", b"1") * 9000 + block + chunk(b"IEND")
    assert inspect_bytes("a.png", many).position == pytest.approx((48.5, 11.01))


@pytest.mark.parametrize(
    ("image", "code"),
    [
        pytest.param(LARGE[: len(LARGE) // 2], "truncated", id="half"),
        pytest.param(LARGE[:-1], "no_end_marker", id="without the last byte"),
        pytest.param(LARGE[:-12], "no_end_marker", id="without the end chunk"),
        pytest.param(LARGE[:20], "truncated", id="within the header"),
        pytest.param(LARGE[: len(LARGE) // 2] + bytes(len(LARGE) // 2), "no_end_marker", id="half zeros"),
        pytest.param(LARGE[:20] + b"\xff" + LARGE[21:], "checksum", id="header changed"),
        pytest.param(SMALL[:8] + SMALL[HEADER_END:], "damaged", id="no header"),
        pytest.param(
            SMALL[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)), "damaged", id="no width"
        ),
        pytest.param(
            SMALL[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 5, 3, 2, 0, 0, 0)), "damaged", id="3 bits"
        ),
        pytest.param(
            LARGE[:HEADER_END] + chunk(b"IDAT", NOISE(900_000))[:-9000], "truncated", id="one long chunk"
        ),
        pytest.param(
            LARGE[:HEADER_END] + chunk(b"IDAT", bytes(99)) * 9000, "no_end_marker", id="many chunks"
        ),
        pytest.param(
            LARGE[:HEADER_END] + (chunk(b"IDAT", NOISE(999)) * 999)[:-99], "truncated", id="many chunks cut"
        ),
    ],
)
def test_damaged_images_are_errors(image: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [problem.code for problem in inspect_bytes("a.png", image).errors] == [code]


@given(mutations([SMALL, WITH_EXIF, SMALL[:HEADER_END] + chunk(b"IDAT", b"1") * 100 + chunk(b"IEND")]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.png", data)


@given(st.binary(max_size=300))
def test_any_chunks_end_in_a_result(data: bytes) -> None:
    """No chunks break the inspection."""
    assert_ends_in_a_result("a.png", SMALL[:HEADER_END] + data)
