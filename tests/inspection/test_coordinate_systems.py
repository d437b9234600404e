"""Coordinate systems as WKT and as GeoKeys: the code is the one that pyproj wrote."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_360.inspection.coordinate_systems import read_geo_keys, read_wkt
from airflow_360.inspection.prj import read_prj
from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import mutations

#: Projected, geographic, geocentric and compound systems of many countries.
CODES = (
    "25831 25832 25833 32601 32632 32733 31466 31467 31468 31469 4326 4258 4269 4267 4979 4978 2056"
    " 21781 2154 27700 28992 7415 5555 5556 3857 3395 3035 3034 31256 31257 31287 5514 5513 2180 3006"
    " 3067 3301 3346 3765 3794 23700 3844 7801 2100 20790 3763 25830 28355 7855 2193 6668 6677 2443"
    " 4490 4549 26910 2227 6339 6583 5703 3978 2952 31983 5880 22185 32718 22235 2039 3997 20437"
    " 23030 4937 10857"
).split()
WKT1, WKT2 = ["WKT1_GDAL"], ["WKT2_2015", "WKT2_2019", "WKT2_2015_SIMPLIFIED", "WKT2_2019_SIMPLIFIED"]
VERTICAL_ONLY = "5703"
UTM = 'PROJCS["UTM",GEOGCS["ETRS89",DATUM["D",AUTHORITY["EPSG","6258"]],AUTHORITY["EPSG","4258"]],UNIT["m",1]'


@functools.cache
def wkt(system: str, version: str, pretty: bool = False) -> str:
    """Return a system's WKT as pyproj writes it; skip the test if that dialect cannot express it."""
    pyproj = pytest.importorskip("pyproj")
    try:
        return str(pyproj.CRS(system).to_wkt(version, pretty=pretty))
    except pyproj.exceptions.CRSError:
        pytest.skip("this dialect cannot express the system")


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("version", WKT1 + WKT2)
def test_code_of_wkt_is_that_of_the_judge(version: str, pretty: bool) -> None:
    """WKT of pyproj gives the code that it was made of, with and without line breaks."""
    pyproj = pytest.importorskip("pyproj")
    checked = 0
    for code in CODES:
        try:
            text = pyproj.CRS(int(code)).to_wkt(version, pretty=pretty)
        except pyproj.exceptions.CRSError:
            continue
        found = read_wkt(text, "here")
        assert found
        assert found.code == ("" if code == VERTICAL_ONLY else f"EPSG:{code}"), text
        checked += 1
    assert checked > 50


def test_wkt_of_esri_states_no_wrong_code() -> None:
    """This dialect carries no code, so none is found: never the code of a part."""
    pyproj = pytest.importorskip("pyproj")
    for code in CODES:
        try:
            text = pyproj.CRS(int(code)).to_wkt("WKT1_ESRI")
        except pyproj.exceptions.CRSError:
            continue
        found = read_prj(text.encode())
        assert found
        assert found.code in ("", f"EPSG:{code}"), text
        assert found.wkt == text.strip()


@pytest.mark.parametrize("version", WKT1 + WKT2)
@pytest.mark.parametrize("system", ["EPSG:25832+7837", "EPSG:25833+5783", "EPSG:2056+5728", "EPSG:4326+5773"])
def test_compound_without_a_code_has_the_code_of_its_horizontal_part(system: str, version: str) -> None:
    """The server takes the horizontal code."""
    found = read_wkt(wkt(system, version), "here")
    assert found
    assert found.code == system.partition("+")[0]


@pytest.mark.parametrize("version", ["WKT1_GDAL", "WKT2_2015", "WKT2_2019"])
def test_bound_system_has_the_code_of_its_source(version: str) -> None:
    """A shift to another datum does not change what the coordinates are."""
    pyproj = pytest.importorskip("pyproj")
    crs = pyproj.CRS(31467)
    bound = pyproj.crs.BoundCRS(
        crs, "EPSG:4326", pyproj.crs.coordinate_operation.ToWGS84Transformation(crs.geodetic_crs, 1, 2, 3)
    )
    found = read_wkt(bound.to_wkt(version), "here")
    assert found
    assert found.code == "EPSG:31467"


@pytest.mark.parametrize(
    "system",
    ["ESRI:102013", "OGC:CRS84", "+proj=utm +zone=32 +ellps=bessel", "+proj=tmerc +lat_0=50 +lon_0=9"],
)
@pytest.mark.parametrize("version", WKT1 + WKT2)
def test_system_without_an_epsg_code_has_none(system: str, version: str) -> None:
    """A system of another authority, or of the writer's own, is kept as WKT."""
    text = wkt(system, version)
    found = read_wkt(text, "here")
    assert found
    assert (found.code, found.wkt) == ("", text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EPSG:25832", "EPSG:25832"),
        (" epsg:4326\n", "EPSG:4326"),
        ("EPSG:25832+7837", "EPSG:25832"),
        ("urn:ogc:def:crs:EPSG::31467", "EPSG:31467"),
        ("urn:ogc:def:crs:EPSG:9.8:31467", "EPSG:31467"),
        ("http://www.opengis.net/def/crs/EPSG/0/3857", "EPSG:3857"),
        ("EPSG:0", None),
        ("EPSG:32767", None),
        ("", None),
        ("local system of the site", None),
        ("Projection UTM\nZone 32\nDatum WGS84\n", None),
        ("<gml/>", None),
        ("TITLE[1]", None),
        (UTM + ',AUTHORITY["EPSG","25832"]]', "EPSG:25832"),
        (UTM + ',AUTHORITY["EPSG",25832]]', "EPSG:25832"),
        (UTM.lower() + ', authority [ "epsg" , "25832" ] ] ', "EPSG:25832"),
        ("\ufeff" + UTM + ',AUTHORITY["EPSG","25832"]]', "EPSG:25832"),
        (UTM.replace("[", "(").replace("]", ")") + ',AUTHORITY("EPSG","25832"))', "EPSG:25832"),
        (UTM + ',AUTHORITY["EPSG","25832"]]\0\0garbage', "EPSG:25832"),
        (UTM + ',AUTHORITY["EPSG","0"]]', ""),
        (UTM + ',AUTHORITY["EPSG","32767"]]', ""),
        (UTM + ',AUTHORITY["EPSG","-1"]]', ""),
        (UTM + ',AUTHORITY["EPSG","99999999999999999999"]]', ""),
        (UTM + ',AUTHORITY["ESRI","102100"]]', ""),
        (UTM + "]", ""),
        (UTM, ""),
        (UTM + '],VERTCS["EVRF2007",AUTHORITY["EPSG","5621"]]', ""),
        ('PROJCRS["a ""quoted"" [name",ID["EPSG",25832,CITATION["x"],URI["urn:x"]]]', "EPSG:25832"),
        ('PROJCS["never closed,AUTHORITY["EPSG","25832"]]', ""),
        (
            'COMPD_CS["c",' + UTM + ',AUTHORITY["EPSG","25832"]],VERT_CS["v",AUTHORITY["EPSG","7837"]]]',
            "EPSG:25832",
        ),
        ('COMPD_CS["c",' + UTM + '],VERT_CS["v",AUTHORITY["EPSG","7837"]]]', ""),
        ('VERT_CS["v",AUTHORITY["EPSG","7837"]]', ""),
        ('LOCAL_CS["site",UNIT["metre",1]]', ""),
    ],
)
def test_text_gives_a_code(text: str, code: str | None) -> None:
    """A code that stands alone, and WKT of many writers; other text states no system."""
    found = read_wkt(text, "here")
    assert (found.code if found else None) == code


def directory(keys: dict[int, int]) -> list[int]:
    """Return a key directory."""
    return [1, 1, 0, len(keys), *(number for key in sorted(keys) for number in (key, 0, 1, keys[key]))]


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({1024: 1, 3072: 25832}, "EPSG:25832"),
        ({1024: 1, 2048: 4258, 3072: 25832, 4096: 7837}, "EPSG:25832"),
        ({1024: 2, 2048: 4326}, "EPSG:4326"),
        ({1024: 3, 2048: 4978}, "EPSG:4978"),
        ({2048: 4326}, "EPSG:4326"),
        ({2048: 4326, 3072: 25832}, "EPSG:25832"),
        ({1024: 2, 3072: 25832}, "EPSG:25832"),
        ({1024: 1, 2048: 4258, 3072: 32767}, ""),
        ({1024: 1, 2048: 4258, 3074: 16032}, ""),
        ({1024: 2, 2048: 32767, 2050: 6326}, ""),
        ({1024: 1, 3072: 53004}, ""),
        ({1024: 1, 3072: 0}, None),
        ({1024: 32767}, None),
        ({4096: 7837}, ""),
        ({}, None),
    ],
)
def test_geo_keys_give_the_horizontal_code(keys: dict[int, int], code: str | None) -> None:
    """The model decides between the projected and the geographic code; 0 and 32767 are none."""
    found = read_geo_keys(directory(keys))
    assert (found.code if found else None) == code


def test_vertical_geo_key_is_named() -> None:
    """It is no part of the code."""
    found = read_geo_keys(directory({1024: 1, 3072: 25832, 4096: 7837}))
    assert found
    assert "EPSG:7837" in found.found_in


def test_esri_wkt_in_a_citation_is_read() -> None:
    """Software of ESRI keeps a system without a code there."""
    text = ("ESRI PE String = " + UTM + "]|").encode()
    found = read_geo_keys([1, 1, 0, 2, 1024, 0, 1, 1, 3073, 34737, len(text), 0], text)
    assert found
    assert (found.code, found.wkt) == ("", UTM + "]")


@pytest.mark.parametrize("values", [[], [1], [1, 1, 0, 65535], [1, 1, 0, 2, 1024, 0, 1], [9] * 999])
def test_damaged_geo_keys_state_no_code(values: list[int]) -> None:
    """A directory that ends too early is no error here."""
    found = read_geo_keys(values)
    assert not found or not found.code


@pytest.mark.parametrize(
    "text",
    [
        "PROJCS[" * 20_000,
        'PROJCS["' * 20_000,
        "PROJCS[" + '""' * 40_000,
        "PROJCS[" + '"' * 39_999,
        "PROJCS[" + 'ID["EPSG",1],' * 9_000,
        "PROJCS" + " " * 65_000 + "[",
        "A" * 70_000,
        "[" * 70_000,
        "PROJCS[" + "]" * 70_000,
        "EPSG:" + "1" * 70_000,
        "PROJCS[\n" + "\x01" * 70_000,
        "\ud800PROJCS[",
    ],
)
def test_hostile_text_takes_no_time(text: str) -> None:
    """No text of 64 KiB takes longer than a fraction of a second."""
    begun = time.process_time()
    read_wkt(text, "here")
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("version", [*WKT1, *WKT2])
def test_prj_file_states_its_system(version: str) -> None:
    """A `.prj` file has a format and a code, and no problem."""
    result = inspect_bytes("scan.prj", wkt("EPSG:25832", version, True).encode())
    assert (result.format, result.problems) == ("PRJ", [])
    assert result.coordinate_system
    assert (result.coordinate_system.code, result.coordinate_system.found_in) == ("EPSG:25832", ".prj file")


@pytest.mark.parametrize("data", [b"Projection UTM", b"\xff\xd8\xff\xe0", b"\0\0\0", b"{}", b"\xff\xfe\x00"])
def test_prj_file_without_wkt_is_a_warning(data: bytes) -> None:
    """Other software has files with this extension, so it is no error."""
    result = inspect_bytes("scan.prj", data)
    assert ([problem.code for problem in result.problems], result.errors) == (["wrong_format"], [])


def test_empty_prj_file_is_an_error() -> None:
    """No bytes state nothing."""
    assert [problem.code for problem in inspect_bytes("scan.prj", b"").errors] == ["empty"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_mutation_of_wkt_ends_in_a_result(drawn: Any) -> None:
    """Whatever the text is, there is a result."""
    text = (UTM + ',AUTHORITY["EPSG","25832"]]').encode()
    inspect_bytes("scan.prj", drawn.draw(mutations([text])))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 65_535) | st.sampled_from([1024, 2048, 3072, 34737])), st.binary())
def test_any_geo_keys_end_in_a_result(values: list[int], text: bytes) -> None:
    """Whatever the numbers are, there is a result."""
    read_geo_keys(values, text)
