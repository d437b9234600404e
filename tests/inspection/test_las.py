"""LAS, LAZ and COPC: valid files pass, damaged files are found, and the judge reads the same numbers."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from tests.inspection.files import SAMPLES, inspect_bytes
from tests.inspection.mutations import mutations

FORMATS = {"1.1": range(2), "1.2": range(4), "1.3": range(6), "1.4": range(11), "1.5": range(6, 11)}
VARIANTS = [(version, form) for version, forms in FORMATS.items() for form in forms]
POINTS = 300
HEADER_BYTES_1_2 = 227


@functools.cache
def las(
    version: str = "1.2",
    form: int = 3,
    backend: str = "",
    points: int = POINTS,
    system: str = "",
    extra: bool = False,
) -> bytes:
    """Return a file that laspy wrote.

    :param backend: "Lazrs" or "LazrsParallel" for LAZ; empty for LAS.
    :param system: the coordinate system, as pyproj understands it.
    :param extra: whether each point has bytes of the writer's own.
    """
    laspy, numpy = pytest.importorskip("laspy"), pytest.importorskip("numpy")
    header = laspy.LasHeader(version=version, point_format=form)
    if extra:
        header.add_extra_dim(laspy.ExtraBytesParams("amplitude", "f8"))
    if system:
        header.add_crs(pytest.importorskip("pyproj").CRS.from_user_input(system))
    header.offsets, header.scales = [500_000.0, 5_000_000.0, 100.0], [0.001] * 3
    cloud = laspy.LasData(header)
    steps = numpy.arange(points)
    cloud.x, cloud.y, cloud.z = 500_000 + steps % 17, 5_000_000 + steps % 31, 100 + steps / 1_000
    file = io.BytesIO()
    laz_backend = laspy.LazBackend[backend] if backend else None
    cloud.write(file, do_compress=bool(backend), **({"laz_backend": laz_backend} if backend else {}))
    return file.getvalue()


def judge(data: bytes) -> Any:
    """Return the header as laspy reads it."""
    return pytest.importorskip("laspy").open(io.BytesIO(data)).header


def with_wkt_behind(data: bytes, wkt: bytes) -> bytes:
    """Return a LAS 1.4 file with the coordinate system in an extended record behind its points."""
    record = struct.pack("<2x16sHQ32x", b"LASF_Projection", 2112, len(wkt)) + wkt
    return with_number(data, 235, "QI", len(data), 1) + record


def with_number(data: bytes, offset: int, form: str, *values: float) -> bytes:
    """Return a file with other numbers at an offset."""
    changed = bytearray(data)
    struct.pack_into(f"<{form}", changed, offset, *values)
    return bytes(changed)


def with_late_chunk_offset(data: bytes) -> bytes:
    """Return a LAZ file as a writer that cannot seek leaves it: -1, and the offset at the end."""
    (points,) = struct.unpack_from("<I", data, 96)
    return with_number(data, points, "q", -1) + data[points : points + 8]


def points_offset(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 96)[0])


@functools.cache
def copc(folder: Path, wkt: str = "") -> bytes:
    """Return a COPC file that copclib wrote."""
    copclib = pytest.importorskip("copclib")
    config = copclib.CopcConfigWriter(7, copclib.Vector3(0.001, 0.001, 0.001), copclib.Vector3(0, 0, 0), wkt)
    path = folder / "scan.copc.laz"
    writer = copclib.FileWriter(str(path), config)
    points = copclib.Points(writer.copc_config.las_header)
    for number in range(POINTS):
        point = points.CreatePoint()
        point.x, point.y, point.z = number % 17, number % 31, number / 100
        points.AddPoint(point)
    writer.AddNode(copclib.VoxelKey(0, 0, 0, 0), points)
    writer.Close()
    return path.read_bytes()


@pytest.mark.parametrize("backend", ["", "Lazrs", "LazrsParallel"])
@pytest.mark.parametrize(("version", "form"), VARIANTS)
def test_valid_files_of_every_version_and_point_format_pass(version: str, form: int, backend: str) -> None:
    """Nothing is wrong with them, and laspy reads the same counts and bounds."""
    data = las(version, form, backend)
    result, header = inspect_bytes("scan.las", data), judge(data)
    assert (result.problems, result.unchecked) == ([], [])
    assert (result.format, result.version) == ("LAZ" if backend else "LAS", version)
    assert result.counts == {"points": header.point_count}
    assert result.bounds == (*header.mins, *header.maxs)


@pytest.mark.parametrize("backend", ["", "Lazrs"])
@pytest.mark.parametrize(("version", "form"), [("1.2", 1), ("1.3", 4), ("1.4", 6), ("1.4", 3)])
@pytest.mark.parametrize("points", [1, 50_000, 50_001, 120_000])
def test_any_number_of_chunks_passes(version: str, form: int, backend: str, points: int) -> None:
    """A chunk has 50,000 points: also a full last chunk is complete."""
    result = inspect_bytes("scan.laz", las(version, form, backend, points))
    assert (result.problems, result.counts) == ([], {"points": points})


@pytest.mark.parametrize("backend", ["", "Lazrs"])
@pytest.mark.parametrize(("version", "form"), [("1.2", 0), ("1.4", 7)])
@pytest.mark.parametrize(
    "variant",
    ["extra bytes per point", "bytes behind the end", "no counts by return", "no day of creation", "guid"],
)
def test_rare_but_valid_files_pass(version: str, form: int, backend: str, variant: str) -> None:
    """Nothing is wrong with what the specification allows or what old writers do."""
    data = las(version, form, backend, extra=variant == "extra bytes per point")
    changes = {
        "no counts by return": (111, "5I", *[0] * 5),
        "no day of creation": (90, "HH", 0, 0),
        "guid": (8, "4I", 1, 2, 3, 4),
    }
    if variant in changes:
        data = with_number(data, *changes[variant])  # type: ignore[arg-type]
    data += b"\0" * 1_000 * (variant == "bytes behind the end")
    assert inspect_bytes("scan.las", data).problems == []


@pytest.mark.parametrize("minor", [0, 1])
def test_versions_before_1_2_pass(minor: int) -> None:
    """They have the same header."""
    data = with_number(las("1.2", 1), 25, "B", minor)
    result = inspect_bytes("scan.las", data)
    assert (result.problems, result.version) == ([], f"1.{minor}")


def test_version_1_0_with_a_signature_before_its_points_passes() -> None:
    """Two bytes before the points do no harm."""
    data = with_number(las("1.2", 1), 25, "B", 0)
    start = points_offset(data)
    data = with_number(data[:start] + b"\xdd\xcc" + data[start:], 96, "I", start + 2)
    assert inspect_bytes("scan.las", data).problems == []


@pytest.mark.parametrize(("version", "form"), VARIANTS)
def test_chunk_table_offset_at_the_end_passes(version: str, form: int) -> None:
    """A writer that cannot seek states it there."""
    assert inspect_bytes("scan.laz", with_late_chunk_offset(las(version, form, "Lazrs"))).problems == []


def test_a_longer_header_passes() -> None:
    """A header may have bytes of the writer's own at its end."""
    data = las("1.2", 1)
    data = data[:HEADER_BYTES_1_2] + b"\0" * 12 + data[HEADER_BYTES_1_2:]
    data = with_number(with_number(data, 94, "H", HEADER_BYTES_1_2 + 12), 96, "I", points_offset(data) + 12)
    assert inspect_bytes("scan.las", data).problems == []


@pytest.mark.parametrize("name", ["autzen_trim.laz", "vegetation_1_3.las"])
def test_real_files_pass(name: str) -> None:
    """Two real files have no problems, and laspy reads the same numbers."""
    path = SAMPLES / "scans" / name
    if not path.exists():
        pytest.skip("the samples are not on this machine")
    data = path.read_bytes()
    result, header = inspect_bytes(name, data), judge(data)
    assert (result.problems, result.counts) == ([], {"points": header.point_count})
    assert result.bounds == (*header.mins, *header.maxs)


@pytest.mark.parametrize("backend", ["", "Lazrs"])
@pytest.mark.parametrize(
    ("version", "form", "system"),
    [
        (version, form, system)
        for version, form in [("1.2", 1), ("1.3", 3), ("1.4", 1), ("1.4", 6), ("1.4", 10)]
        for system in ["EPSG:25832", "EPSG:4326", "EPSG:31467", "EPSG:2154", "EPSG:25832+7837", "EPSG:2056"]
        if form > 5 or "+" not in system
    ],
)
def test_coordinate_system_is_that_of_the_judge(version: str, form: int, backend: str, system: str) -> None:
    """GeoKeys and WKT give the horizontal code."""
    result = inspect_bytes("scan.laz", las(version, form, backend, system=system))
    assert result.problems == []
    assert result.coordinate_system
    assert result.coordinate_system.code == system.partition("+")[0]


def test_coordinate_system_behind_the_points_is_found() -> None:
    """A record behind the points counts like one before them."""
    pyproj = pytest.importorskip("pyproj")
    data = with_wkt_behind(las("1.4", 6, "Lazrs"), pyproj.CRS(25832).to_wkt("WKT1_GDAL").encode() + b"\0")
    result = inspect_bytes("scan.laz", data)
    assert result.problems == []
    assert result.coordinate_system
    assert result.coordinate_system.code == "EPSG:25832"
    assert result.coordinate_system.wkt.startswith("PROJCS[")


@pytest.mark.parametrize("announced", ["WKT", "GeoKeys"])
def test_of_two_coordinate_systems_the_announced_kind_is_right(announced: str) -> None:
    """The other one may be a remainder of an older version of the file."""
    wkt = pytest.importorskip("pyproj").CRS(25833).to_wkt("WKT1_ESRI").encode()
    data = with_wkt_behind(las("1.4", 3, system="EPSG:25832"), wkt)
    result = inspect_bytes("scan.las", with_number(data, 6, "H", 1 << 4 if announced == "WKT" else 0))
    assert result.problems == []
    assert result.coordinate_system
    assert result.coordinate_system.code == ("" if announced == "WKT" else "EPSG:25832")


@pytest.mark.parametrize("system", ["", "EPSG:25832", "EPSG:7415"])
def test_valid_copc_passes(tmp_path: Path, system: str) -> None:
    """A COPC file has its own name, and its points and system are read as in LAZ."""
    wkt = pytest.importorskip("pyproj").CRS(system).to_wkt("WKT1_GDAL") if system else ""
    data = copc(tmp_path, wkt)
    result = inspect_bytes("scan.copc.laz", data)
    assert (result.problems, result.format, result.counts) == ([], "COPC", {"points": POINTS})
    assert (result.coordinate_system.code if result.coordinate_system else "") == system


def test_copc_with_a_hierarchy_outside_the_file_is_truncated(tmp_path: Path) -> None:
    """The hierarchy is what a reader reads first."""
    data = copc(tmp_path)
    damaged = with_number(data, 375 + 54 + 40, "Q", len(data))
    assert "truncated" in [problem.code for problem in inspect_bytes("scan.laz", damaged).errors]


def test_no_points_are_a_warning() -> None:
    """A file without points is valid and useless."""
    for backend in ("", "Lazrs"):
        result = inspect_bytes("scan.laz", las("1.4", 6, backend, 0))
        assert ([problem.code for problem in result.problems], result.errors) == (["counts"], [])


LAS, LAZ, LAZ_1_4 = ("1.2", 3, ""), ("1.2", 3, "Lazrs"), ("1.4", 6, "Lazrs")


@pytest.mark.parametrize(
    ("variant", "kept", "code"),
    [
        (LAS, 0, "empty"),
        (LAS, 3, "wrong_format"),
        (LAS, 100, "truncated"),
        (LAS, 226, "truncated"),
        (LAS, 227, "truncated"),
        (LAS, 4_000, "truncated"),
        (LAS, -1, "truncated"),
        (("1.3", 4, ""), -1, "truncated"),
        (("1.4", 6, ""), -1, "truncated"),
        (("1.4", 6, ""), 375, "truncated"),
        (LAZ, 228, "truncated"),
        (LAZ, 340, "truncated"),
        (LAZ, -60, "truncated"),
        (LAZ_1_4, -100, "truncated"),
        (("1.4", 10, "LazrsParallel"), -200, "truncated"),
    ],
)
def test_cut_files_are_found(variant: tuple[str, int, str], kept: int, code: str) -> None:
    """A cut file is found wherever it was cut."""
    data = las(*variant)
    assert [problem.code for problem in inspect_bytes("scan.laz", data[:kept]).errors] == [code]


def test_laz_that_is_cut_anywhere_before_its_chunk_table_is_truncated() -> None:
    """Every cut is found up to the last bytes, which hold the table's content."""
    data = las(*LAZ)
    (table,) = struct.unpack_from("<q", data, points_offset(data))
    for kept in range(4, table + 8, 61):
        assert [problem.code for problem in inspect_bytes("scan.laz", data[:kept]).errors] == ["truncated"]


@pytest.mark.parametrize(
    ("variant", "offset", "form", "values", "code"),
    [
        (LAS, 0, "4s", [b"LASX"], "wrong_format"),
        (LAS, 24, "B", [3], "damaged"),
        (LAS, 94, "H", [100], "damaged"),
        (LAS, 96, "I", [200], "damaged"),
        (LAS, 96, "I", [0xFFFFFFFF], "truncated"),
        (LAS, 104, "B", [11], "damaged"),
        (LAS, 105, "H", [20], "damaged"),
        (LAS, 105, "H", [0xFFFF], "truncated"),
        (LAS, 107, "I", [POINTS + 1], "truncated"),
        (LAS, 107, "I", [0xFFFFFFFF], "truncated"),
        (("1.4", 6, ""), 247, "Q", [2**64 - 1], "truncated"),
        (("1.4", 6, ""), 235, "QI", [2**63, 1], "truncated"),
        (("1.4", 6, ""), 235, "QI", [500, 7], "truncated"),
        (LAZ, 100, "I", [0], "damaged"),
        (LAZ, 227 + 2, "4s", [b"none"], "damaged"),
        (LAZ, 107, "I", [50_001], "counts"),
        (LAZ_1_4, 247, "Q", [2**64 - 1], "counts"),
    ],
)
def test_wrong_numbers_are_found(
    variant: tuple[str, int, str], offset: int, form: str, values: list[Any], code: str
) -> None:
    """Every number is compared with the file's size and with the other numbers."""
    damaged = with_number(las(*variant), offset, form, *values)
    assert code in [problem.code for problem in inspect_bytes("scan.las", damaged).errors]


@pytest.mark.parametrize(("value", "code"), [(0, "truncated"), (2**40, "truncated"), (-2, "damaged")])
def test_wrong_chunk_table_offsets_are_found(value: int, code: str) -> None:
    """An offset that was never written, or that is outside the file, is an error."""
    data = las(*LAZ)
    for damaged in (value, value or points_offset(data)):
        result = inspect_bytes("scan.laz", with_number(data, points_offset(data), "q", damaged))
        assert [problem.code for problem in result.errors] == [code]


def test_wrong_version_of_the_chunk_table_is_damaged() -> None:
    """The table's version is always 0."""
    data = las(*LAZ)
    (table,) = struct.unpack_from("<q", data, points_offset(data))
    result = inspect_bytes("scan.laz", with_number(data, table, "I", 7))
    assert [problem.code for problem in result.errors] == ["damaged"]


@pytest.mark.parametrize(
    ("offset", "form", "values", "code"),
    [
        (179, "d", [float("nan")], "damaged"),
        (187, "d", [float("-inf")], "damaged"),
        (187, "d", [9e9], "damaged"),
        (131, "d", [0.0], "damaged"),
        (100, "I", [4], "damaged"),
        (107, "I", [7], "counts"),
    ],
)
def test_odd_numbers_are_warnings(offset: int, form: str, values: list[Any], code: str) -> None:
    """The points can be read all the same."""
    data = las("1.4", 3, system="EPSG:25832")
    result = inspect_bytes("scan.las", with_number(data, offset, form, *values))
    assert ([problem.code for problem in result.problems], result.errors) == ([code], [])


@pytest.mark.parametrize("backend", ["", "Lazrs"])
def test_two_reads_are_enough(backend: str) -> None:
    """The head and the tail are read, whatever the size."""
    data = las("1.4", 6, backend, 120_000, "EPSG:25832")
    ranges = Ranges(lambda offset, length: data[offset : offset + length], len(data))
    assert inspect_file("scan.laz", ranges).problems == []
    assert ranges.reads <= 2
    assert ranges.bytes_read <= 128 * 1024


def test_many_long_records_are_left_unchecked() -> None:
    """Records that would need many reads are not an error."""
    data = las("1.2", 1)
    record = struct.pack("<2x16sHH32x", b"notes", 1, 60_000) + bytes(60_000)
    head = with_number(data[:HEADER_BYTES_1_2], 96, "II", HEADER_BYTES_1_2 + 50 * len(record), 50)
    result = inspect_bytes("scan.las", head + record * 50 + data[points_offset(data) :])
    assert (result.problems, result.unchecked) == ([], ["some of its variable length records"])


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_mutation_ends_in_a_result(drawn: st.DataObject) -> None:
    """Whatever the bytes are, an inspection has a result."""
    variant = drawn.draw(st.sampled_from([LAS, LAZ, LAZ_1_4, ("1.4", 6, "", 20, "EPSG:25832+7837")]))
    inspect_bytes("scan.laz", drawn.draw(mutations([las(*variant)])))
