"""The EPSG code of a coordinate system that a file states as WKT or as GeoKeys. Pure.

Separate from the formats, because several of them state their system in the same two ways.

Only the code of the system itself counts, never the code of a part of it, such as its datum or its unit. A
compound system without its own code has the code of its horizontal part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from airflow_360.inspection.results import CoordinateSystem, plain_text
from airflow_360.values import KIB

__all__ = ["GEO_KEY_ASCII", "GEO_KEY_DIRECTORY", "MAX_WKT_CHARACTERS", "read_geo_keys", "read_wkt"]

#: The tags of a GeoTIFF, and the records of a LAS file, that hold the GeoKeys and their text.
GEO_KEY_DIRECTORY = 34_735
GEO_KEY_ASCII = 34_737

MAX_WKT_CHARACTERS = 64 * KIB
MAX_WKT_DEPTH = 32
MAX_CODE_CHARACTERS = 100  # of a code that stands alone
MAX_CODE_DIGITS = 6
MAX_GEO_KEYS = 256

MODEL = 1_024
GEOGRAPHIC = 2_048
PROJECTED = 3_072
VERTICAL = 4_096
CITATIONS = (3_073, 2_049, 1_026)
MODEL_PROJECTED = 1
MODELS_GEOGRAPHIC = (2, 3)  # degrees, or metres from the centre of the Earth
#: Keys that describe a system which has no code.
DESCRIPTIONS = (2_050, 2_056, 3_074, 3_075)
USER_DEFINED = 32_767
ESRI_WKT = b"ESRI PE String = "

#: The keywords of WKT 1 and WKT 2 for a system with a horizontal position.
SYSTEMS = frozenset(
    "PROJCS GEOGCS GEOCCS LOCAL_CS FITTED_CS PROJCRS PROJECTEDCRS GEOGCRS GEOGRAPHICCRS GEODCRS GEODETICCRS"
    " ENGCRS ENGINEERINGCRS DERIVEDPROJCRS".split()
)
#: The keywords around a system; without a code of their own they have the code of the system inside.
WRAPPERS = frozenset("COMPD_CS COMPOUNDCRS BOUNDCRS SOURCECRS COORDINATEMETADATA".split())
OTHER_ROOTS = frozenset("VERT_CS VERTCS VERTCRS VERTICALCRS".split())
CODE_KEYWORDS = ("AUTHORITY", "ID")

WORD_OR_BRACKET = re.compile(r'"[^"]*"|[\[\](),]|[^\s"\[\](),]+')
START = re.compile(r"([A-Z_]{4,20})\s{0,9}[\[(]", re.IGNORECASE)
CODE = re.compile(
    r"(?:urn:ogc:def:crs:EPSG:[\w.]{0,10}:|https?://www\.opengis\.net/def/crs/EPSG/[\w.]{1,10}/|EPSG:)"
    r"(\d{1,6})(?:\+(?:EPSG:)?\d{1,6})?",
    re.IGNORECASE,
)


def read_wkt(data: bytes | str, found_in: str) -> CoordinateSystem | None:
    """Return the coordinate system that a text states as WKT or as a code; None if it states none.

    :param data: the text; what follows a NUL is ignored.
    :param found_in: the place in the file.
    """
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    text = plain_text(raw[: 4 * MAX_WKT_CHARACTERS].lstrip(b"\0").partition(b"\0")[0], MAX_WKT_CHARACTERS)
    alone = CODE.fullmatch(text) if len(text) <= MAX_CODE_CHARACTERS else None
    if alone:
        code = _epsg(alone[1])
        return CoordinateSystem(code, found_in=found_in) if code else None
    start = START.match(text)
    if not start or start[1].upper() not in SYSTEMS | WRAPPERS | OTHER_ROOTS:
        return None
    return CoordinateSystem(_wkt_code(text), text, found_in)


def read_geo_keys(
    values: Sequence[int], text: bytes = b"", found_in: str = "GeoKeys"
) -> CoordinateSystem | None:
    """Return the coordinate system that GeoKeys state; None if they state none.

    A vertical system is kept in the place's name, because the code is the horizontal one's.

    :param values: the numbers of the key directory: a head of four, and four per key.
    :param text: the text that keys refer to.
    :param found_in: the place in the file.
    """
    keys = _keys(values)
    numbers = {key: value for key, (location, _, value) in keys.items() if not location}
    code = _geo_key_code(numbers)
    vertical = _short_code(numbers.get(VERTICAL, 0))
    if vertical:
        found_in = f"{found_in}, vertical {vertical}"
    wkt = _citation_wkt(keys, text)
    if wkt:
        return CoordinateSystem(code or wkt.code, wkt.wkt, found_in)
    stated = code or vertical or any(numbers.get(key) for key in (GEOGRAPHIC, PROJECTED, *DESCRIPTIONS))
    return CoordinateSystem(code, found_in=found_in) if stated else None


def _keys(values: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Return location, count and value of each key."""
    if len(values) < 4:
        return {}
    count = min(values[3], MAX_GEO_KEYS, len(values) // 4 - 1)
    return {values[at]: (values[at + 1], values[at + 2], values[at + 3]) for at in range(4, 4 + 4 * count, 4)}


def _geo_key_code(numbers: dict[int, int]) -> str:
    """Return the horizontal code; a projected system that is described in detail has none."""
    model = numbers.get(MODEL, 0)
    projected, geographic = numbers.get(PROJECTED, 0), numbers.get(GEOGRAPHIC, 0)
    if model == MODEL_PROJECTED or (projected and model not in MODELS_GEOGRAPHIC):
        return _short_code(projected)
    return _short_code(geographic or projected)


def _citation_wkt(keys: dict[int, tuple[int, int, int]], text: bytes) -> CoordinateSystem | None:
    """Return the system that software of ESRI writes as WKT into a key for people."""
    for key in CITATIONS:
        location, count, offset = keys.get(key, (0, 0, 0))
        _, found, wkt = text[offset : offset + count].partition(ESRI_WKT)
        if location == GEO_KEY_ASCII and found:
            return read_wkt(wkt.rstrip(b"|\0 "), "")
    return None


def _short_code(number: int) -> str:
    """Return the code of a GeoKey; the numbers from 32,767 on are for private use."""
    return f"EPSG:{number}" if 1_000 < number < USER_DEFINED else ""


def _epsg(digits: str) -> str:
    """Return the code that WKT states; empty for the numbers that mean none."""
    if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_CODE_DIGITS:
        return ""
    return "" if int(digits) in (0, USER_DEFINED) else f"EPSG:{int(digits)}"


def _wkt_code(text: str) -> str:
    """Return the EPSG code of the outermost system that has one."""
    codes = [(len(path), code) for path, code in _stated_codes(text) if code and _is_system(path)]
    return min(codes, key=lambda found: found[0])[1] if codes else ""


def _is_system(path: Sequence[str]) -> bool:
    """Return whether the last keyword is a system, and only wrappers are around it."""
    return bool(path) and path[-1] in SYSTEMS | WRAPPERS and WRAPPERS.issuperset(path[:-1])


def _stated_codes(text: str) -> Iterator[tuple[list[str], str]]:
    """Return each code in the first system of a text, with the keywords around it."""
    path: list[str] = []
    arguments: list[str] = []
    word = ""
    for piece in WORD_OR_BRACKET.findall(text):
        if piece in ("[", "("):
            path.append(word.upper())
            arguments = [] if path[-1] in CODE_KEYWORDS else arguments
            if len(path) > MAX_WKT_DEPTH:
                return
        elif piece in ("]", ")"):
            keyword = path.pop() if path else ""
            if keyword in CODE_KEYWORDS:
                yield path[:], _authority_code(arguments)
            if not path:
                return
        elif piece != ",":
            word = piece
            arguments.append(piece.strip('"'))


def _authority_code(arguments: list[str]) -> str:
    """Return the code of ``["EPSG", "25832"]``; empty for another authority."""
    if len(arguments) < 2 or arguments[0].strip().upper() != "EPSG":
        return ""
    return _epsg(arguments[1].strip())
