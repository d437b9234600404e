"""E57: valid files pass, damaged files are found, and the judge reads the same numbers."""

from __future__ import annotations

import functools
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_360.inspection.e57 import crc32c
from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from tests.inspection.files import SAMPLES, inspect_bytes
from tests.inspection.mutations import mutations

SAMPLE = SAMPLES / "scans" / "pump_a_with_images.e57"
PAGE, CONTENT = 1024, 1020
FIELDS = {
    "cartesian": ["cartesianX", "cartesianY", "cartesianZ"],
    "intensity": ["cartesianX", "cartesianY", "cartesianZ", "intensity"],
    "colors": ["cartesianX", "cartesianY", "cartesianZ", "colorRed", "colorGreen", "colorBlue"],
    "grid": ["cartesianX", "cartesianY", "cartesianZ", "rowIndex", "columnIndex"],
}
XML = (
    '<?xml version="1.0" encoding="UTF-8"?><e57Root type="Structure"'
    ' xmlns="http://www.astm.org/COMMIT/E57/2010-e57-v1.0"><formatName type="String"><![CDATA[ASTM E57 3D'
    " Imaging Data File]]></formatName>%s</e57Root>"
)


@functools.cache
def e57(scans: int = 1, points: int = 100, fields: str = "cartesian", system: str = "") -> bytes:
    """Return a file that libE57 wrote.

    :param system: the coordinate system as pyproj understands it.
    """
    pye57, numpy = pytest.importorskip("pye57"), pytest.importorskip("numpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.e57"
        file = (georeferenced_writer(system) if system else pye57.E57)(str(path), mode="w")
        for number in range(scans):
            columns = {name: numpy.arange(points) % 7 / 7 for name in FIELDS[fields]}
            columns |= {name: numpy.arange(points) for name in columns if "Index" in name or "color" in name}
            file.write_scan_raw(columns, name=f"scan {number}")
        file.close()
        return path.read_bytes()


def georeferenced_writer(system: str) -> Any:
    """Return pye57's writer, which otherwise leaves the coordinate system empty."""
    pye57, text = pytest.importorskip("pye57"), pytest.importorskip("pyproj").CRS(system).to_wkt()
    nodes = pye57.libe57

    class Writer(pye57.E57):  # type: ignore[misc, name-defined]
        def write_default_header(self) -> None:
            file = self.image_file
            file.extensionsAdd("", nodes.E57_V1_0_URI)
            self.root.set("formatName", nodes.StringNode(file, "ASTM E57 3D Imaging Data File"))
            self.root.set("coordinateMetadata", nodes.StringNode(file, text))
            self.root.set("data3D", nodes.VectorNode(file, True))
            self.root.set("images2D", nodes.VectorNode(file, True))

    return Writer


def paged(content: bytes) -> bytes:
    """Return some bytes as pages with checksums."""
    content += bytes(-len(content) % CONTENT)
    pages = [content[at : at + CONTENT] for at in range(0, len(content), CONTENT)]
    return b"".join(page + crc32c(page).to_bytes(4, "big") for page in pages)


def unpaged(data: bytes) -> bytes:
    """Return the bytes without the checksums."""
    return b"".join(data[at : at + CONTENT] for at in range(0, len(data), PAGE))


def from_xml(text: str, before: int = 5_000, **numbers: int) -> bytes:
    """Return a file with an XML section, behind some bytes for its points.

    :param numbers: other values for the header.
    """
    xml = text.encode("latin-1" if "ISO-8859-1" in text else "utf-8")
    offset = (48 + before) // CONTENT * PAGE + (48 + before) % CONTENT
    length = len(paged(bytes(48 + before) + xml))
    header = {
        "major": 1,
        "minor": 0,
        "length": length,
        "offset": offset,
        "xml": len(xml),
        "page": PAGE,
        **numbers,
    }
    return paged(struct.pack("<8sIIQQQQ", b"ASTM-E57", *header.values()) + bytes(before) + xml)


def codes(data: bytes) -> list[str]:
    """Return the codes of the errors of a file."""
    return [problem.code for problem in inspect_bytes("scan.e57", data).errors]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize(("scans", "points"), [(1, 1), (1, 100), (1, 5_000), (3, 100), (40, 1)])
def test_valid_files_pass(scans: int, points: int, fields: str) -> None:
    """Nothing is wrong with files of libE57, and the counts are what was written."""
    result = inspect_bytes("scan.e57", e57(scans, points, fields))
    assert (result.problems, result.unchecked) == ([], [])
    assert (result.format, result.version) == ("E57", "1.0")
    assert result.counts == {"scans": scans, "images": 0, "points": scans * points}
    assert result.coordinate_system is None


def test_real_file_passes() -> None:
    """A real file with images has no problems, and pye57 reads the same counts."""
    if not SAMPLE.exists():
        pytest.skip("the samples are not on this machine")
    result = inspect_bytes("scan.e57", SAMPLE.read_bytes())
    judge = pytest.importorskip("pye57").E57(str(SAMPLE))
    assert (result.problems, result.unchecked) == ([], [])
    assert result.counts["scans"] == judge.scan_count
    assert result.counts["points"] == judge.get_header(0).point_count
    assert result.counts["images"] == 1


@pytest.mark.parametrize("system", ["EPSG:25832", "EPSG:4979", "EPSG:2056", "EPSG:7415"])
def test_coordinate_system_is_found(system: str) -> None:
    """It is read through the checksums that lie between its bytes."""
    result = inspect_bytes("scan.e57", e57(2, 50, "cartesian", system))
    assert result.problems == []
    assert result.coordinate_system
    assert result.coordinate_system.code == system
    assert result.coordinate_system.found_in == "coordinateMetadata"


def test_xml_of_several_hundred_scans_passes() -> None:
    """An XML section that is larger than the tail costs one more read."""
    points = '<points type="CompressedVector" fileOffset="48" recordCount="9"/>'
    scan = f'<vectorChild type="Structure">{points}<name>{"n" * 200}</name></vectorChild>'
    text = XML % f'<data3D type="Vector">{scan * 900}</data3D>'
    data = from_xml(text)
    ranges = Ranges(lambda offset, length: data[offset : offset + length], len(data))
    result = inspect_file("scan.e57", ranges)
    assert (result.problems, result.counts) == ([], {"scans": 900, "images": 0, "points": 8_100})
    assert ranges.reads <= 3


def test_xml_that_is_too_large_is_left_unchecked() -> None:
    """What was read counts; the rest is no error."""
    text = XML % f'<coordinateMetadata type="String">EPSG:25832</coordinateMetadata>{"<a></a>" * 300_000}'
    result = inspect_bytes("scan.e57", from_xml(text))
    assert (result.problems, result.unchecked) == ([], ["the rest of the XML section"])
    assert result.coordinate_system
    assert result.coordinate_system.code == "EPSG:25832"


@pytest.mark.parametrize(
    "text",
    [
        XML % "",
        XML % "<data3D/><images2D/>",
        XML % '<data3D type="Vector" allowHeterogeneousChildren="1"><a/></data3D>',
        XML % '<x:own xmlns:x="urn:x" type="Integer">7</x:own>',
        (XML % "").replace('<?xml version="1.0" encoding="UTF-8"?>', ""),
        "\ufeff" + XML % "",
        (XML % "") + "\n",
        (XML % "") + "\0\0\0",
        XML % '<data3D><a><points type="CompressedVector" fileOffset="0" recordCount="0"/></a></data3D>',
        XML % '<data3D><a><points type="CompressedVector" fileOffset="many" recordCount="-1"/></a></data3D>',
        XML % "<coordinateMetadata><![CDATA[local]]></coordinateMetadata>",
        XML % "<!-- a comment --><?own instruction?>",
        (XML % "<name>B\xfcro</name>").replace("UTF-8", "ISO-8859-1"),
    ],
)
def test_rare_but_valid_xml_passes(text: str) -> None:
    """Nothing is wrong with what other writers may do."""
    result = inspect_bytes("scan.e57", from_xml(text))
    assert (result.problems, result.unchecked) == ([], [])


@pytest.mark.parametrize("before", range(940, 1_060, 13))
def test_xml_may_begin_anywhere_in_a_page(before: int) -> None:
    """Checksums are removed wherever they lie."""
    result = inspect_bytes("scan.e57", from_xml(XML % "<data3D><a/></data3D>", before))
    assert (result.problems, result.counts["scans"]) == ([], 1)


def test_other_page_sizes_are_read_as_stated() -> None:
    """The header states the length of a page."""
    xml = (XML % "<data3D><a/></data3D>").encode()
    content = struct.pack("<8sIIQQQQ", b"ASTM-E57", 1, 0, 2048, 48, len(xml), 2048) + xml
    content += bytes(2044 - len(content))
    result = inspect_bytes("scan.e57", content + crc32c(content).to_bytes(4, "big"))
    assert (result.problems, result.counts["scans"]) == ([], 1)


def test_bytes_behind_the_end_are_a_warning() -> None:
    """The data can be read all the same."""
    result = inspect_bytes("scan.e57", e57() + bytes(PAGE))
    assert ([problem.code for problem in result.problems], result.errors) == (["damaged"], [])


@pytest.mark.parametrize("system", ["", "EPSG:25832"])
def test_file_that_is_cut_anywhere_is_truncated(system: str) -> None:
    """Every cut is found."""
    data = e57(2, 200, "colors", system)
    assert codes(b"") == ["empty"]
    assert codes(data[:7]) == ["wrong_format"]
    for kept in [8, 20, 47, 48, 1_000, *range(1_024, len(data), 611), len(data) - 1]:
        assert codes(data[:kept]) == ["truncated"]


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ({"major": 7}, "damaged"),
        ({"page": 0}, "damaged"),
        ({"page": 2**40}, "damaged"),
        ({"offset": 0}, "damaged"),
        ({"offset": 1_022}, "damaged"),
        ({"offset": 2**63}, "truncated"),
        ({"offset": 100_000}, "truncated"),
        ({"xml": 0}, "damaged"),
        ({"xml": 2**64 - 1}, "truncated"),
        ({"xml": 100_000}, "truncated"),
        ({"xml": 100}, "damaged"),
        ({"offset": 48}, "damaged"),
        ({"length": 2**64 - 1}, "truncated"),
    ],
)
def test_wrong_numbers_in_the_header_are_found(numbers: dict[str, int], code: str) -> None:
    """Every number is compared with the file's size."""
    assert codes(from_xml(XML % "<data3D/>", **numbers)) == [code]


@pytest.mark.parametrize("place", [8, 600, 1_021, -1, -500, -1_030])
def test_changed_bytes_are_found_by_their_checksum(place: int) -> None:
    """A changed byte of the header's page or of the XML's pages is an error."""
    data = bytearray(e57(5, 100, "cartesian", "EPSG:25832"))
    data[place] ^= 1 if place != 8 else 0
    data[600] ^= place == 8
    assert "checksum" in codes(bytes(data))


@pytest.mark.parametrize(
    "text",
    [
        XML % "<data3D>",
        XML % "<data3D></images2D>",
        "no XML at all",
        XML % ("<a>" * 200 + "</a>" * 200),
        XML % "\x01",
        XML % "&undefined;",
    ],
)
def test_xml_that_cannot_be_read_is_damaged(text: str) -> None:
    """Readers refuse it too."""
    assert codes(from_xml(text)) == ["damaged"]


@pytest.mark.parametrize(
    "element",
    [
        '<points type="CompressedVector" fileOffset="900000" recordCount="5"/>',
        '<points type="CompressedVector" fileOffset="18446744073709551615" recordCount="5"/>',
        '<jpegImage type="Blob" fileOffset="48" length="99999"/>',
        '<jpegImage type="Blob" fileOffset="99999999" length="5"/>',
    ],
)
def test_sections_outside_the_file_are_truncated(element: str) -> None:
    """Points and images must lie inside the file."""
    assert codes(from_xml(XML % f"<data3D><a>{element}</a></data3D>")) == ["truncated"]


def test_document_type_is_refused() -> None:
    """Entities are never expanded."""
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><a>&b;</a>'
    result = inspect_bytes("scan.e57", from_xml(bomb))
    assert (result.problems, result.unchecked) == ([], ["the XML section, which has a document type"])


@pytest.mark.parametrize("length", [4, 5, 31, 32, 33, 34, 63, 64, 65, 100, 255, 256, 1_019, 1_020, 4_092])
def test_checksum_is_that_of_the_plain_algorithm(length: int) -> None:
    """The folded CRC-32C equals the one that is computed bit by bit."""
    data = (zlib.compress(b"airflow") * length)[:length]
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    assert crc32c(data) == remainder ^ 0xFFFFFFFF


def test_checksum_has_the_published_check_value() -> None:
    """The check value of CRC-32C is that of the digits 1 to 9."""
    assert crc32c(b"123456789") == 0xE3069283


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_mutation_ends_in_a_result(drawn: Any) -> None:
    """Whatever the bytes are, an inspection has a result."""
    inspect_bytes("scan.e57", drawn.draw(mutations([e57(2, 20, "cartesian", "EPSG:25832")])))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_mutation_under_valid_checksums_ends_in_a_result(drawn: Any) -> None:
    """The same behind checksums that are correct."""
    content = unpaged(e57(2, 20, "cartesian", "EPSG:25832"))
    inspect_bytes("scan.e57", paged(drawn.draw(mutations([content]))))
