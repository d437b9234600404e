"""IFC: models of several schemas, coordinate systems, and damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

END = b"END-ISO-10303-21;\n"


def ifc(schema: bytes = b"IFC4", lines: bytes = b"", filler: int = 0) -> bytes:
    more = b"".join(b"#%d=IFCCARTESIANPOINT((1.,2.,3.));\n" % (number + 100) for number in range(filler))
    header = b"FILE_DESCRIPTION((''),'2;1');\nFILE_NAME('','',(''),(''),'','','');\n"
    schemas = b"FILE_SCHEMA(('" + schema + b"'));\n"
    start = b"ISO-10303-21;\nHEADER;\n" + header + schemas
    return start + b"ENDSEC;\nDATA;\n" + more + lines + b"ENDSEC;\n" + END


def system(name: bytes) -> bytes:
    return b"#1=IFCPROJECTEDCRS('" + name + b"',$,$,$,$,$,$);\n"


MODEL = ifc(lines=system(b"EPSG:25832"))
LARGE = ifc(filler=9000)


@pytest.mark.parametrize("schema", ["IFC2X3", "IFC4", "IFC4X3"])
@pytest.mark.parametrize("code", [25832, 2056, 31256])
@pytest.mark.parametrize("points", [0, 1500])
def test_models_of_ifcopenshell_pass(schema: str, code: int, points: int) -> None:
    """Models of every schema have no problems, and their coordinate system is found near the start or end."""
    ifcopenshell = pytest.importorskip("ifcopenshell")
    model = ifcopenshell.file(schema=schema)
    expected = None
    for number in range(points):
        model.create_entity("IfcCartesianPoint", (float(number), 0.0, 0.0))
    if schema != "IFC2X3":
        model.create_entity("IfcProjectedCRS", Name=f"EPSG:{code}")
        expected = f"EPSG:{code}"
    data = model.to_string().encode()
    result = inspect_bytes("a.IFC", data)
    assert (result.format, result.problems, result.unchecked) == ("IFC", [], [])
    assert result.version.startswith(schema)
    assert (result.coordinate_system.code if result.coordinate_system else None) == expected
    assert [one.code for one in inspect_bytes("a.ifc", data[: len(data) * 9 // 10]).errors] == ["truncated"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(MODEL, id="small"),
        pytest.param(LARGE, id="large"),
        pytest.param(b"\xef\xbb\xbf" + MODEL, id="byte order mark"),
        pytest.param(b" \r\n\t" + MODEL, id="white space"),
        pytest.param(b"/* a comment */\n/**/" + MODEL, id="comments"),
        pytest.param(MODEL.replace(b"\n", b"\r\n"), id="Windows"),
        pytest.param(MODEL.replace(b"\n", b""), id="one line"),
        pytest.param(MODEL.rstrip(), id="no last line end"),
        pytest.param(MODEL + b"/* exported by X */\n", id="a comment at the end"),
        pytest.param(MODEL + b"SIGNATURE;\nMIIB\nENDSEC;\n", id="a signature"),
        pytest.param(LARGE + bytes(200_000), id="zeros"),
        pytest.param(MODEL.replace(b"FILE_SCHEMA((", b"FILE_SCHEMA ( ( "), id="spaces"),
        pytest.param(MODEL.replace(b"-21;", b"-21 ;"), id="spaces before the semicolon"),
    ],
)
def test_other_models_pass(data: bytes) -> None:
    """Marks, comments, line ends and padding are no problem."""
    result = inspect_bytes("a.ifc", data)
    assert (result.problems, result.version) == ([], "IFC4")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"EPSG:25832", "EPSG:25832"),
        (b"epsg: 2056", "EPSG:2056"),
        (b"EPSG::31467", "EPSG:31467"),
        (b"urn:ogc:def:crs:EPSG::25833", "EPSG:25833"),
        (b"urn:ogc:def:crs:EPSG:9.8.1:25833", "EPSG:25833"),
        (b"EPSG 25832", "EPSG:25832"),
        (b"ETRS89 / UTM zone 32N", ""),
        (b"EPSG:1", ""),
        (b"", ""),
    ],
)
def test_coordinate_systems_are_read(name: bytes, code: str) -> None:
    """The name of a coordinate system is read if it has an EPSG number."""
    found = inspect_bytes("a.ifc", ifc(lines=system(name))).coordinate_system
    assert found is not None
    assert (found.code, found.found_in) == (code, "IFCPROJECTEDCRS")


def test_other_schemas_are_a_warning() -> None:
    """A STEP file of a car is no IFC file."""
    (problem,) = inspect_bytes("a.ifc", ifc(b"AUTOMOTIVE_DESIGN")).problems
    assert (problem.severity, problem.code) == ("warning", "wrong_format")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(MODEL[: -len(END)], "truncated", id="without the end"),
        pytest.param(MODEL[:100], "truncated", id="within the header"),
        pytest.param(LARGE[: len(LARGE) // 2], "truncated", id="half"),
        pytest.param(LARGE[: len(LARGE) // 2] + bytes(len(LARGE) // 2), "truncated", id="half zeros"),
        pytest.param(bytes(len(MODEL)), "damaged", id="zeros"),
        pytest.param(b"<?xml version='1.0'?><ifcXML/>", "wrong_format", id="ifcXML"),
        pytest.param(b"PK\3\4" + bytes(99), "wrong_format", id="ifcZIP"),
        pytest.param(b"/*" * 9000, "wrong_format", id="an endless comment"),
    ],
)
def test_damaged_models_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [one.code for one in inspect_bytes("a.ifc", data).errors] == [code]


@given(mutations([MODEL, b"/* */" * 5 + MODEL]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.ifc", data)


@given(st.binary(max_size=200))
def test_any_name_ends_in_a_result(name: bytes) -> None:
    """No name of a coordinate system or schema breaks the inspection."""
    assert_ends_in_a_result("a.ifc", ifc(name, lines=system(name)))


def test_hostile_repetitions_are_fast() -> None:
    """Searches do not go back and forth over a head that was made to be slow."""
    for piece in (b"/*", b"/**/", b"FILE_SCHEMA(('", b"IFCPROJECTEDCRS(", b"IFCPROJECTEDCRS ('", b"'EPSG:1:"):
        assert_ends_in_a_result("a.ifc", b"ISO-10303-21;" + piece * 9000)
