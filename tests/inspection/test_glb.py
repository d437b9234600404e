"""GLB: models of several writers, and damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

JSON_TEXT = b'{"asset":{"version":"2.0"}}  '


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<I4s", len(content), kind) + content


def glb(*chunks: bytes, version: int = 2, length: int = 0) -> bytes:
    data = b"".join(chunks)
    return struct.pack("<4sII", b"glTF", version, length or len(data) + 12) + data


DESCRIPTION = chunk(b"JSON", JSON_TEXT)
DATA = chunk(b"BIN\0", bytes(range(200)))
MODEL = glb(DESCRIPTION, DATA)


@pytest.mark.parametrize("shape", ["box", "icosphere", "cylinder", "capsule", "torus"])
@pytest.mark.parametrize("scene", [False, True])
def test_models_of_trimesh_pass(shape: str, scene: bool) -> None:
    """Meshes and scenes of trimesh have no problems."""
    trimesh = pytest.importorskip("trimesh")
    sizes = {"torus": (2, 1), "cylinder": (1, 2)}.get(shape, ())
    mesh = getattr(trimesh.creation, shape)(*sizes)
    model = trimesh.Scene([mesh, mesh.copy()]) if scene else mesh
    data = model.export(file_type="glb")
    result = inspect_bytes("a.GLB", data)
    assert (result.format, result.version, result.problems, result.unchecked) == ("GLB", "2", [], [])
    assert [one.code for one in inspect_bytes("a.glb", data[:-1]).errors] == ["truncated"]


def test_models_of_pygltflib_pass() -> None:
    """An empty model of pygltflib has no problems."""
    pygltflib = pytest.importorskip("pygltflib")
    model = pygltflib.GLTF2(scenes=[pygltflib.Scene()], buffers=[pygltflib.Buffer(byteLength=8)])
    model.set_binary_blob(bytes(8))
    assert inspect_bytes("a.glb", b"".join(model.save_to_bytes())).problems == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(MODEL, id="two chunks"),
        pytest.param(glb(DESCRIPTION), id="only the description"),
        pytest.param(glb(DESCRIPTION, DATA, chunk(b"EXT1", bytes(9))), id="an extension"),
        pytest.param(glb(DESCRIPTION, chunk(b"BIN\0", bytes(900_000))), id="large"),
        pytest.param(glb(chunk(b"JSON", b'{"a":"' + 200_000 * b"x" + b'"}'), DATA), id="a long description"),
        pytest.param(MODEL + bytes(100), id="padding"),
        pytest.param(glb(struct.pack("<II", 20, 0), bytes(20), DATA, version=1), id="version 1"),
        pytest.param(glb(DESCRIPTION, DATA, bytes(4)), id="fewer bytes than a chunk at the end"),
    ],
)
def test_other_models_pass(data: bytes) -> None:
    """Extensions, padding and the old version are no problem."""
    result = inspect_bytes("a.glb", data)
    assert (result.problems, result.unchecked) == ([], [])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(MODEL[:-1], "truncated", id="without the last byte"),
        pytest.param(MODEL[:50], "truncated", id="half"),
        pytest.param(MODEL[:9], "truncated", id="within the header"),
        pytest.param(MODEL[:12], "truncated", id="only the header"),
        pytest.param(glb(), "truncated", id="no chunk"),
        pytest.param(glb(DATA), "damaged", id="no description"),
        pytest.param(glb(chunk(b"JSON", bytes(100)), DATA), "damaged", id="zeros for the description"),
        pytest.param(glb(DESCRIPTION, DATA, length=100), "damaged", id="a length within a chunk"),
        pytest.param(
            glb(DESCRIPTION, struct.pack("<I4s", 2**32 - 1, b"BIN\0")), "damaged", id="a huge chunk"
        ),
        pytest.param(bytes(len(MODEL)), "damaged", id="zeros"),
        pytest.param(b'{"asset":{}}', "wrong_format", id="glTF as text"),
    ],
)
def test_damaged_models_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [one.code for one in inspect_bytes("a.glb", data).errors] == [code]


@given(mutations([MODEL, glb(DESCRIPTION, *[chunk(b"EXT1", b"1234")] * 40)]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.glb", data)


@given(st.binary(max_size=60))
def test_any_bytes_after_the_start_end_in_a_result(data: bytes) -> None:
    """No header breaks the inspection."""
    assert_ends_in_a_result("a.glb", b"glTF" + data)
