"""TIFF, BigTIFF and GeoTIFF: valid files pass, damaged files are found, and judges read the same numbers."""

from __future__ import annotations

import functools
import io
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import mutations

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"]
COMPRESSIONS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma"]
ARRAYS: list[dict[str, Any]] = [
    {},
    {"bigtiff": True},
    {"byteorder": ">"},
    {"byteorder": ">", "bigtiff": True},
    {"imagej": True},
    {"ome": True},
    {"tile": (64, 64)},
    {"tile": (64, 64), "bigtiff": True, "byteorder": ">"},
    {"rowsperstrip": 7},
    {"rowsperstrip": 1},
    {"planarconfig": "separate", "photometric": "rgb"},
]
RASTERS: list[dict[str, Any]] = [
    {},
    {"compress": "lzw"},
    {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64},
    {"compress": "jpeg", "photometric": "ycbcr"},
    {"compress": "zstd", "ENDIANNESS": "BIG", "BIGTIFF": "YES"},
    {"BIGTIFF": "YES", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"ENDIANNESS": "BIG"},
    {"interleave": "band"},
    {"SPARSE_OK": True},
    {"nbits": 4},
    {"driver": "COG"},
]
SYSTEMS = [
    "",
    "EPSG:25832",
    "EPSG:4326",
    "EPSG:31467",
    "EPSG:3857",
    "EPSG:2056",
    "EPSG:25832+7837",
    "ESRI:102013",
]


@functools.cache
def tiff(mode: str = "RGB", compression: str = "raw", images: int = 1) -> bytes:
    """Return a file that Pillow wrote; skip the test if Pillow cannot write it."""
    image = pytest.importorskip("PIL.Image")
    pictures = [image.new(mode, (40 + number, 30)) for number in range(images)]
    file = io.BytesIO()
    try:
        pictures[0].save(file, "TIFF", compression=compression, save_all=True, append_images=pictures[1:])
    except (OSError, RuntimeError, KeyError):
        pytest.skip("Pillow cannot write this")
    return file.getvalue()


def raster(options: dict[str, Any], system: str) -> bytes:
    """Return a GeoTIFF that GDAL wrote."""
    rasterio, numpy = pytest.importorskip("rasterio"), pytest.importorskip("numpy")
    profile = {"driver": "GTiff", "width": 200, "height": 150, "count": 3, "dtype": "uint8", **options}
    place = rasterio.transform.from_origin(500_000, 5_000_000, 1, 1)
    with rasterio.io.MemoryFile() as file:
        with file.open(**profile, crs=system or None, transform=place) as data:
            if not options.get("SPARSE_OK"):
                data.write(numpy.arange(90_000, dtype="uint8").reshape(3, 150, 200) % 16)
        return bytes(file.read())


def handmade(
    order: str = "<",
    fields: dict[int, tuple[int, list[int]]] | None = None,
    behind: bytes = b"",
    next_image: int | None = 0,
) -> bytes:
    """Return a TIFF with one image of 10 × 10 grey pixels from byte 8 on.

    :param fields: type and values of fields that are added or replaced; a value must fit into its field.
    :param behind: bytes behind everything.
    :param next_image: the offset of the next image; None if the writer omits it.
    """
    tags = {
        256: (3, [10]),
        257: (3, [10]),
        258: (3, [8]),
        259: (3, [1]),
        273: (4, [8]),
        277: (3, [1]),
        278: (3, [10]),
        279: (4, [100]),
        **(fields or {}),
    }
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, form, len(values))
        + struct.pack(f"{order}{len(values)}{'H' if form == 3 else 'I'}", *values).ljust(4, b"\0")
        for tag, (form, values) in sorted(tags.items())
    )
    end = b"" if next_image is None else struct.pack(f"{order}I", next_image)
    return (
        mark
        + struct.pack(f"{order}I", 108)
        + bytes(100)
        + struct.pack(f"{order}H", len(tags))
        + entries
        + end
        + behind
    )


def codes(data: bytes) -> list[str]:
    """Return the codes of the errors of a file."""
    return [problem.code for problem in inspect_bytes("a.tif", data).errors]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_valid_files_of_pillow_pass(mode: str, compression: str) -> None:
    """Every mode and compression that Pillow can write."""
    result = inspect_bytes("a.tif", tiff(mode, compression))
    assert (result.problems, result.unchecked) == ([], [])
    assert (result.format, result.counts) == ("TIFF", {"images": 1})


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("images", [2, 5, 20])
def test_number_of_images_is_that_of_the_judge(images: int, compression: str) -> None:
    """Pillow finds as many images."""
    data = tiff("L", compression, images)
    result = inspect_bytes("a.tiff", data)
    assert result.problems == []
    assert result.counts["images"] == pytest.importorskip("PIL.Image").open(io.BytesIO(data)).n_frames


@pytest.mark.parametrize("options", ARRAYS)
def test_valid_files_of_tifffile_pass(options: dict[str, Any]) -> None:
    """Both byte orders, offsets of both sizes, strips and tiles."""
    tifffile, numpy = pytest.importorskip("tifffile"), pytest.importorskip("numpy")
    file = io.BytesIO()
    tifffile.imwrite(file, numpy.zeros((3, 150, 200), "uint8"), **options)
    result = inspect_bytes("a.tif", file.getvalue())
    assert (result.problems, result.unchecked) == ([], [])
    assert result.format == ("BigTIFF" if options.get("bigtiff") else "TIFF")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as judge:
        assert result.counts["images"] == len(judge.pages)


@pytest.mark.parametrize("options", RASTERS)
def test_coordinate_system_of_gdal_is_found(options: dict[str, Any]) -> None:
    """GDAL's files pass with every option, and give the horizontal code."""
    for system in SYSTEMS:
        result = inspect_bytes("a.tif", raster(options, system))
        assert (result.problems, result.unchecked) == ([], []), system
        code = result.coordinate_system.code if result.coordinate_system else ""
        assert code == (system.partition("+")[0] if system.startswith("EPSG") else "")


def test_fifty_systems_are_those_that_gdal_wrote() -> None:
    """Rasters that GDAL wrote in more than fifty systems give the codes that they were written with."""
    zones = [*range(32601, 32661, 3), *range(25828, 25838), *range(31466, 31470), *range(2443, 2462)]
    assert len(zones) > 50
    for zone in zones:
        system = inspect_bytes("a.tif", raster({}, f"EPSG:{zone}")).coordinate_system
        assert system
        assert system.code == f"EPSG:{zone}"


def test_tiff_of_the_standard_library_passes() -> None:
    """A real file of another writer, from Python's own tests."""
    paths = list(Path(io.__file__).parent.glob("test/**/python.tiff"))
    if not paths:
        pytest.skip("this Python has no tests")
    assert inspect_bytes("python.tiff", paths[0].read_bytes()).problems == []


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("fields", "next_image"),
    [
        ({}, 0),
        ({}, None),
        ({279: (4, [200]), 278: (3, [20])}, 0),
        ({278: (4, [2**32 - 1])}, 0),
        ({273: (4, [0]), 279: (4, [0])}, 0),
        ({279: (3, [100]), 273: (3, [8])}, 0),
        ({330: (4, [0])}, 0),
        ({65_000: (99, [1])}, 0),
    ],
)
def test_rare_but_valid_files_pass(
    order: str, fields: dict[int, tuple[int, list[int]]], next_image: int | None
) -> None:
    """A strip that is stated too long, a missing end of the chain, and private fields are no problem."""
    assert inspect_bytes("a.tif", handmade(order, fields, b"", next_image)).problems == []


@pytest.mark.parametrize("mark", [b"MM*\0", b"II\0*"])
def test_version_in_the_other_byte_order_passes(mark: bytes) -> None:
    """Some old writers do this, and readers tolerate it."""
    assert inspect_bytes("a.tif", mark + handmade("<" if mark[:1] == b"I" else ">")[4:]).problems == []


def test_strip_without_its_length_passes() -> None:
    """Old writers omit it."""
    data = handmade()
    assert (
        inspect_bytes(
            "a.tif", data.replace(struct.pack("<HHI", 279, 4, 1), struct.pack("<HHI", 65_000, 4, 1))
        ).problems
        == []
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "wrong_format"),
        (b"II", "wrong_format"),
        (b"II*\0", "damaged"),
        (b"II*\0\0\0\0\0", "damaged"),
        (b"II*\0\xff\xff\xff\xff", "truncated"),
        (b"II*\0\x08\0\0\0", "truncated"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "damaged"),
        (b"II*\0\x08\0\0\0\x09\0" + bytes(50), "truncated"),
        (b"II*\0\x08\0\0\0\xff\xff" + bytes(50), "damaged"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "truncated"),
        (b"II+\0\x08\0\0\0\x10" + bytes(7) + b"\xff" * 8 + bytes(50), "damaged"),
    ],
)
def test_damaged_headers_are_found(data: bytes, code: str) -> None:
    """The header and the number of fields are compared with the file's size."""
    assert codes(data) == [code]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("fields", "next_image"),
    [
        ({273: (4, [2**32 - 1])}, 0),
        ({273: (4, [200])}, 0),
        ({259: (3, [5]), 279: (4, [1_000])}, 0),
        ({257: (3, [1_000]), 278: (3, [1_000]), 279: (4, [10_000])}, 0),
        ({324: (4, [5_000]), 325: (4, [1])}, 0),
        ({}, 99_999),
        ({}, 2**32 - 1),
    ],
)
def test_wrong_offsets_are_truncated(
    order: str, fields: dict[int, tuple[int, list[int]]], next_image: int
) -> None:
    """Pixels and further images must lie inside the file."""
    assert codes(handmade(order, fields, b"", next_image)) == ["truncated"]


def test_list_of_strips_outside_the_file_is_truncated() -> None:
    """Also a list that would need more memory than there is."""
    data = handmade()
    for count in (50, 2**32 - 1):
        damaged = data.replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, count))
        assert codes(damaged.replace(struct.pack("<HHI", 279, 4, 1), struct.pack("<HHI", 279, 4, count))) == [
            "truncated"
        ]


@pytest.mark.parametrize("variant", ["pillow", "pages", "gdal", "tiles", "big", "cog"])
def test_files_that_are_cut_are_truncated(variant: str) -> None:
    """Every cut behind the header is found, because the list of images or the last pixels are missing."""
    data = {
        "pillow": lambda: tiff("RGB", "raw"),
        "pages": lambda: tiff("L", "tiff_lzw", 5),
        "gdal": lambda: raster({}, "EPSG:25832"),
        "tiles": lambda: raster(RASTERS[2], "EPSG:25832"),
        "big": lambda: raster(RASTERS[4], "EPSG:25832"),
        "cog": lambda: raster({"driver": "COG", "compress": "lzw"}, "EPSG:25832"),
    }[variant]()
    for kept in range(16, len(data) - 600, max(len(data) // 20, 1)):
        assert codes(data[:kept]) == ["truncated"], kept


def test_chain_of_images_that_is_a_circle_ends() -> None:
    """Each image is read once."""
    result = inspect_bytes("a.tif", handmade(next_image=108))
    assert ([problem.code for problem in result.problems], result.errors) == (["damaged"], [])


def test_many_distant_images_are_left_unchecked() -> None:
    """Images that would need many reads are not an error."""
    pages = 60
    entry = struct.pack("<HHHI4s", 1, 256, 3, 1, b"\x01\0\0\0")
    data = bytearray(b"II*\0" + struct.pack("<I", 20_000) + bytes(20_000 * (pages + 1)))
    for page in range(1, pages + 1):
        after = 20_000 * (page + 1) if page < pages else 0
        data[20_000 * page : 20_000 * page + 18] = entry + struct.pack("<I", after)
    result = inspect_bytes("a.tif", bytes(data))
    assert (result.problems, len(result.unchecked)) == ([], 1)
    assert 20 < result.counts["images"] < pages


def test_large_files_need_two_reads_and_little_time() -> None:
    """Only the last strips of many are looked at."""
    strips = 40_000
    table = 8 + strips
    head = b"II*\0" + struct.pack("<I", table + 8 * strips) + bytes(strips)
    lists = struct.pack(f"<{strips}I", *range(8, 8 + strips)) + struct.pack(f"<{strips}I", *[1] * strips)
    fields = [(259, 3, 1, 5), (273, 4, strips, table), (279, 4, strips, table + 4 * strips)]
    image = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *field) for field in fields) + bytes(4)
    data = head + lists + image
    ranges = Ranges(lambda offset, length: data[offset : offset + length], len(data))
    begun = time.process_time()
    assert inspect_file("a.tif", ranges).problems == []
    assert time.process_time() - begun < 0.1
    assert ranges.bytes_read < 256 * 1024


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_mutation_ends_in_a_result(drawn: Any) -> None:
    """Whatever the bytes are, an inspection has a result."""
    data = drawn.draw(st.sampled_from([tiff("RGB", "tiff_lzw"), tiff("L", "raw", 3), handmade(">")]))
    inspect_bytes("a.tif", drawn.draw(mutations([data])))
