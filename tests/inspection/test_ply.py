"""PLY: text and both byte orders of several writers, splats, and damage."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

NOISE = random.Random(360).randbytes
NAMES = ["ascii", "binary_little_endian", "binary_big_endian"]
POINT = ["property float x", "property float y", "property double z", "property uchar red"]
CORNERS = "property list uchar int vertex_indices"
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]


def ply(kind: str, *lines: str, data: bytes = b"", end: str = "\n") -> bytes:
    header = ["ply", f"format {kind} 1.0", *lines, "end_header"]
    return (end.join(header) + end).encode() + data


def judged(points: int, faces: int = 0, *, text: bool = False, order: str = "=", **options: Any) -> bytes:
    """Return a file that plyfile wrote."""
    numpy = pytest.importorskip("numpy")
    plyfile = pytest.importorskip("plyfile")
    vertex = numpy.zeros(points, [("x", "f4"), ("y", "f4"), ("z", "f8"), ("red", "u1")])
    vertex["x"] = numpy.linspace(-100, 100, points)
    elements = [plyfile.PlyElement.describe(vertex, "vertex")]
    if faces:
        face = numpy.empty(faces, [("vertex_indices", "O"), ("quality", "f4")])
        face["vertex_indices"] = [numpy.arange(3 + number % 3, dtype="i4") for number in range(faces)]
        face["quality"] = 1
        elements.append(plyfile.PlyElement.describe(face, "face"))
    out = io.BytesIO()
    plyfile.PlyData(elements, text=text, byte_order=order, **options).write(out)
    return out.getvalue()


def splat(points: int, *, extra: str = "") -> bytes:
    names = [
        "x",
        "y",
        "z",
        "nx",
        "ny",
        "nz",
        *[f"f_dc_{n}" for n in range(3)],
        *[f"f_rest_{n}" for n in range(45)],
    ]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    lines = [f"element vertex {points}", *[f"property float {name}" for name in names], extra]
    return ply("binary_little_endian", *filter(None, lines), data=bytes(points * 4 * len(names)))


BINARY = ply(NAMES[1], "element vertex 1000", *POINT, data=NOISE(17_000))
TEXT = ply(NAMES[0], "element vertex 1000", *POINT, data=b"1.5 2.5 3.5 255\n" * 1000)
MESH = judged(100, 50)
TEXT_MESH = judged(100, 50, text=True)


@pytest.mark.parametrize("points", [1, 100, 3000])
@pytest.mark.parametrize("faces", [0, 1, 300])
@pytest.mark.parametrize("options", [{"text": True}, {"order": "<"}, {"order": ">"}])
def test_files_of_plyfile_pass(points: int, faces: int, options: dict[str, Any]) -> None:
    """Points and faces are counted as plyfile counts them, in text and in both byte orders."""
    data = judged(points, faces, comments=["a comment"], obj_info=["some information"], **options)
    result = inspect_bytes("a.PLY", data)
    assert (result.format, result.version, result.problems, result.unchecked) == ("PLY", "1.0", [], [])
    judge = pytest.importorskip("plyfile").PlyData.read(io.BytesIO(data))
    expected = {"points": len(judge["vertex"]), **({"faces": len(judge["face"])} if faces else {})}
    assert result.counts == expected


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_has_its_size(kind: str, order: str) -> None:
    """A file with one number of each type is whole, and cut if its last byte is missing."""
    numpy = pytest.importorskip("numpy")
    plyfile = pytest.importorskip("plyfile")
    out = io.BytesIO()
    element = plyfile.PlyElement.describe(numpy.zeros(7, [("x", kind)]), "vertex")
    plyfile.PlyData([element], byte_order=order).write(out)
    assert inspect_bytes("a.ply", out.getvalue()).problems == []
    assert [one.code for one in inspect_bytes("a.ply", out.getvalue()[:-1]).problems] == ["truncated"]


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
@pytest.mark.parametrize("shape", ["box", "icosphere", "points"])
def test_files_of_trimesh_pass(encoding: str, shape: str) -> None:
    """Meshes and point clouds of trimesh have no problems."""
    trimesh = pytest.importorskip("trimesh")
    numpy = pytest.importorskip("numpy")
    if shape == "points":
        thing = trimesh.PointCloud(numpy.random.default_rng(1).random((500, 3)))
    else:
        thing = getattr(trimesh.creation, shape)()
    result = inspect_bytes("a.ply", thing.export(file_type="ply", encoding=encoding))
    assert (result.problems, result.unchecked) == ([], [])
    assert result.counts["points"] == len(thing.vertices)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(BINARY, id="binary"),
        pytest.param(TEXT, id="text"),
        pytest.param(TEXT[:-1], id="text without the last line end"),
        pytest.param(TEXT.replace(b"\n", b"\r\n"), id="text of Windows"),
        pytest.param(TEXT.replace(b"\n", b"\r"), id="text of old Macs"),
        pytest.param(TEXT + b"\n\n", id="empty lines"),
        pytest.param(TEXT.replace(b" 2", b"\n2"), id="two lines a point"),
        pytest.param(BINARY + b"\n", id="a line end after the data"),
        pytest.param(ply(NAMES[1], "element vertex 9", *POINT, data=NOISE(153), end="\r\n"), id="Windows"),
        pytest.param(ply(NAMES[2], "element vertex 9", *POINT, data=b"\n" * 153, end="\r"), id="old Macs"),
        pytest.param(ply(NAMES[1], "comment Å\x85", "element a 9", *POINT, data=bytes(153)), id="comments"),
        pytest.param(splat(500), id="splat"),
        pytest.param(splat(500, extra="element extra 0\nproperty float x"), id="empty element"),
        pytest.param(ply(NAMES[1], "element vertex 0", *POINT, "element face 0", CORNERS), id="nothing"),
        pytest.param(ply(NAMES[0], "element vertex 2", *POINT, "element face 1", CORNERS,
                         data=b"1 2 3 4\n" * 2 + b"3 0 1 0\n"), id="a face"),
    ],
)  # fmt: skip
def test_other_files_pass(data: bytes) -> None:
    """Line ends, comments, splats and empty elements are no problem."""
    result = inspect_bytes("a.ply", data)
    assert (result.problems, result.unchecked) == ([], [])


def test_unknown_types_are_not_checked() -> None:
    """A type that is not in the specification leaves the size unknown."""
    data = ply(NAMES[1], "element vertex 9999", "property half x", data=bytes(10))
    result = inspect_bytes("a.ply", data)
    assert (result.problems, len(result.unchecked)) == ([], 1)


def test_headers_longer_than_the_head_are_not_checked() -> None:
    """A header of more than 64 KiB is no problem."""
    data = ply(NAMES[1], *["comment " + 99 * "x"] * 900, "element vertex 0")
    result = inspect_bytes("a.ply", data)
    assert (result.problems, len(result.unchecked)) == ([], 1)


def test_many_more_bytes_than_stated_are_a_warning() -> None:
    """A binary file that was sent as text has grown."""
    result = inspect_bytes("a.ply", BINARY + bytes(1000))
    assert [(one.severity, one.code) for one in result.problems] == [("warning", "counts")]


def test_files_without_elements_are_a_warning() -> None:
    """A header without elements is valid, and odd."""
    result = inspect_bytes("a.ply", ply(NAMES[0]))
    assert [(one.severity, one.code) for one in result.problems] == [("warning", "empty")]


def test_the_message_states_points_and_sizes() -> None:
    """A cut file says how many points were stated, what they need and what is there."""
    (problem,) = inspect_bytes("a.ply", BINARY[: len(BINARY) // 2]).problems
    for fact in ("1,000 points", "16.7 KiB", "8.4 KiB"):
        assert fact in problem.text


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(BINARY[:-1], "truncated", id="without the last byte"),
        pytest.param(BINARY[:9000], "truncated", id="half"),
        pytest.param(splat(500)[:-3], "truncated", id="splat"),
        pytest.param(BINARY[:100], "truncated", id="within the header"),
        pytest.param(TEXT[:1000], "truncated", id="text, far too short"),
        pytest.param(TEXT[:-8], "truncated", id="text, within the last line"),
        pytest.param(MESH[: len(MESH) // 2], "truncated", id="mesh, within the points"),
        pytest.param(TEXT_MESH[:-6], "truncated", id="text mesh, within the last face"),
        pytest.param(BINARY.replace(b"vertex 1000", b"vertex " + b"9" * 18), "truncated", id="absurd count"),
        pytest.param(BINARY.replace(b"vertex 1000", b"vertex " + b"9" * 5000), "damaged", id="endless count"),
        pytest.param(BINARY.replace(b"vertex 1000", b"vertex -1"), "damaged", id="negative count"),
        pytest.param(BINARY.replace(b"little", b"middle"), "damaged", id="unknown format"),
        pytest.param(b"<html>" + bytes(99), "wrong_format", id="a web page"),
        pytest.param(b"solid x", "wrong_format", id="STL"),
    ],
)
def test_damaged_files_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [one.code for one in inspect_bytes("a.ply", data).errors] == [code]


@given(
    mutations(
        [
            BINARY[:300],
            TEXT[:300],
            MESH[:400] + bytes(3000),
            ply(NAMES[0], "element a 1", "property list int int b"),
        ]
    )
)
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.ply", data)


@given(
    st.lists(st.text(max_size=20) | st.sampled_from(["element vertex 5", "property list int int x", *POINT]))
)
def test_any_header_ends_in_a_result(lines: list[str]) -> None:
    """No header breaks the inspection."""
    for kind in NAMES:
        assert_ends_in_a_result("a.ply", ply(kind, *lines, data=b"5 5\n5 5"))
