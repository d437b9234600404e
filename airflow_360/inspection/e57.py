"""E57: the header, the checksums of the pages that are read, and the XML section.

Separate because an E57 file consists of pages, each with a checksum at its end. The header's offsets count
these checksums ("physical"), and the length of the XML section does not ("logical").
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from xml.parsers import expat

from airflow_360.inspection.coordinate_systems import MAX_WKT_CHARACTERS, read_wkt
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import DamagedError, Inspection, plain_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.texts import count_text, size_text
from airflow_360.values import KIB, MIB

__all__ = ["crc32c", "inspect_e57"]

SIGNATURE = b"ASTM-E57"
HEADER = struct.Struct("<8sIIQQQQ")
KNOWN_MAJOR_VERSIONS = (0, 1)  # 0 was written before the standard was published
MIN_PAGE_BYTES = 64
MAX_PAGE_BYTES = 64 * KIB
CHECKSUM_BYTES = 4
BLOB_HEAD_BYTES = 16

MAX_XML_BYTES = 1 * MIB
MAX_XML_DEPTH = 100
MAX_CHECKED_PAGES = 128
MAX_NAMED_PAGES = 3
MAX_NUMBER_DIGITS = 20

#: CRC-32C, of which the lowest bit stands for the highest power.
POLYNOMIAL = 0x11EDC6F41
REVERSED_POLYNOMIAL = 0x82F63B78
#: Messages are folded until they have at most this many bits.
FOLDED_BITS = 256

SCANS = "data3D"
IMAGES = "images2D"
COORDINATES = ["e57Root", "coordinateMetadata"]


class _RefusedXmlError(Exception):
    """Raised when the XML has a document type, which may define entities."""


@dataclass(frozen=True)
class _Header:
    """The numbers of the header, as the file states them."""

    length: int
    xml_offset: int
    xml_length: int
    page_bytes: int

    def physical(self, offset: int, length: int) -> int:
        """Return where a section ends, from its physical offset and its logical length."""
        content = self.page_bytes - CHECKSUM_BYTES
        page, within = divmod(offset, self.page_bytes)
        pages, rest = divmod(within + length, content)
        return (page + pages) * self.page_bytes + rest


@dataclass
class _Section:
    """A part of the file that the XML refers to.

    :param noun: what it is, for people.
    :param offset: where it begins, with checksums.
    :param length: the bytes that it surely has, without checksums.
    """

    noun: str
    offset: int
    length: int


@dataclass
class _Document:
    """What is collected while the XML is parsed."""

    path: list[str] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=lambda: {SCANS: 0, IMAGES: 0})
    points: int = 0
    coordinates: str = ""
    sections: list[_Section] = field(default_factory=list)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Count an element, and note the section that it refers to."""
        if len(self.path) >= MAX_XML_DEPTH:
            raise DamagedError("damaged", f"its XML section has more than {MAX_XML_DEPTH} levels")
        if len(self.path) == 2 and self.path[1] in self.children:
            self.children[self.path[1]] += 1
        self.path.append(name)
        if "fileOffset" in attributes:
            self._note(name, attributes)

    def end(self, _name: str) -> None:
        """Leave an element."""
        self.path.pop()

    def text(self, text: str) -> None:
        """Collect the coordinate system."""
        if self.path == COORDINATES and len(self.coordinates) < MAX_WKT_CHARACTERS:
            self.coordinates += text

    def _note(self, name: str, attributes: dict[str, str]) -> None:
        offset = _number(attributes["fileOffset"])
        records, length = _number(attributes.get("recordCount", "")), _number(attributes.get("length", ""))
        if name == "points" and SCANS in self.path:
            self.points += records
        if records:
            self.sections.append(_Section(count_text(records, "point"), offset, 1))
        elif length:
            self.sections.append(
                _Section(f"an embedded file of {size_text(length)}", offset, BLOB_HEAD_BYTES + length)
            )


def inspect_e57(ranges: Ranges, result: Inspection) -> None:
    """Inspect an E57 file.

    :param ranges: the file's bytes.
    :param result: the result to fill.
    """
    header = _read_header(ranges, result)
    if header.length > ranges.size:
        raise DamagedError(
            "truncated",
            f"its header states a length of {size_text(header.length)}, and the file is"
            f" {size_text(header.length - ranges.size)} too short",
        )
    if header.length < ranges.size:
        result.warn("damaged", f"{size_text(ranges.size - header.length)} follow its stated end")
    xml = _read_xml(header, ranges, result)
    document = _parse(xml, len(xml) == header.xml_length, result)
    result.counts |= {
        "scans": document.children[SCANS],
        "images": document.children[IMAGES],
        "points": document.points,
    }
    result.coordinate_system = read_wkt(document.coordinates, "coordinateMetadata")
    _check_sections(document.sections, header, result)


def _read_header(ranges: Ranges, result: Inspection) -> _Header:
    head = ranges.at(0, HEADER.size)
    if head[:8] != SIGNATURE:
        raise wrong_format(ranges, "an E57 file")
    if len(head) < HEADER.size:
        raise DamagedError("truncated", f"its header needs {HEADER.size} bytes, and the file has {len(head)}")
    _, major, minor, *numbers = HEADER.unpack(head)
    header = _Header(*numbers)
    result.format, result.version = "E57", f"{major}.{minor}"
    if major not in KNOWN_MAJOR_VERSIONS:
        raise DamagedError("damaged", f"its header states version {major}.{minor}, which does not exist")
    if not MIN_PAGE_BYTES <= header.page_bytes <= MAX_PAGE_BYTES:
        raise DamagedError("damaged", f"its header states pages of {size_text(header.page_bytes)}")
    return header


def _read_xml(header: _Header, ranges: Ranges, result: Inspection) -> bytes:
    """Return the XML section, or its beginning if it is too large; check the pages that were read."""
    end = header.physical(header.xml_offset, header.xml_length)
    if header.xml_offset < HEADER.size or header.xml_offset % header.page_bytes >= header.page_bytes - 4:
        raise DamagedError("damaged", "its header states an impossible offset of its XML section")
    if not header.xml_length:
        raise DamagedError("damaged", "its header states that its XML section is empty")
    if end > ranges.size:
        raise DamagedError(
            "truncated",
            f"its header states that its XML section ends at byte {end:,}, and the file has"
            f" {ranges.size:,} bytes",
        )
    length = header.xml_length
    if length > MAX_XML_BYTES:
        length = MAX_XML_BYTES
        result.unchecked.append("the rest of the XML section")
    first = header.xml_offset - header.xml_offset % header.page_bytes
    pages = ranges.at(first, header.physical(header.xml_offset, length) - first + header.page_bytes)
    numbered = [(0, ranges.at(0, header.page_bytes)), *_pages(pages, first, header.page_bytes)]
    _check_pages(numbered, header, result)
    content = b"".join(page[:-CHECKSUM_BYTES] for _, page in _pages(pages, first, header.page_bytes))
    start = header.xml_offset - first
    return content[start : start + length]


def _pages(data: bytes, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Return number and bytes of each page."""
    for at in range(0, len(data), size):
        yield (offset + at) // size, data[at : at + size]


def _check_pages(pages: Iterable[tuple[int, bytes]], header: _Header, result: Inspection) -> None:
    """Check the checksums of some pages."""
    wrong = [
        number
        for number, page in list(pages)[:MAX_CHECKED_PAGES]
        if len(page) == header.page_bytes
        and crc32c(page[:-CHECKSUM_BYTES]) != int.from_bytes(page[-CHECKSUM_BYTES:], "big")
    ]
    if wrong:
        places = ", ".join(
            f"{number * header.page_bytes:,}" for number in sorted(set(wrong))[:MAX_NAMED_PAGES]
        )
        more = " and others" if len(wrong) > MAX_NAMED_PAGES else ""
        result.error(
            "checksum", f"the checksums of its pages at byte {places}{more} do not match their bytes"
        )


def _parse(xml: bytes, is_complete: bool, result: Inspection) -> _Document:
    """Return what the XML section states."""
    document = _Document()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        # The names of scans may have bytes that are no UTF-8; they do no harm here.
        parser.Parse(xml.decode(errors="replace").rstrip("\0"), is_complete)
    except _RefusedXmlError:
        result.unchecked.append("the XML section, which has a document type")
    except expat.ExpatError as error:
        why = plain_text(expat.ErrorString(error.code) or "", 100)
        result.error("damaged", f"its XML section cannot be read: {why} in line {error.lineno:,}")
    return document


def _refuse(*_arguments: object) -> None:
    raise _RefusedXmlError


def _check_sections(sections: list[_Section], header: _Header, result: Inspection) -> None:
    """Check that the sections of points and images lie inside the file."""
    outside = [
        section for section in sections if header.physical(section.offset, section.length) > header.length
    ]
    if outside:
        more = f", and {count_text(len(outside) - 1, 'more section')}" if len(outside) > 1 else ""
        result.error(
            "truncated",
            f"its XML section states {outside[0].noun} at byte {outside[0].offset:,}{more}, and the file has"
            f" {header.length:,} bytes",
        )


def _number(text: str) -> int:
    """Return a number that the XML states; 0 if it is none."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS else 0


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes.

    A byte at a time would take ten times as long. So the first half of the message is multiplied by the power
    of x that it stands for, modulo the polynomial, and is added to the second half, until little is left.

    :param data: the bytes; at least four.
    """
    message, bits = int.from_bytes(data, "little") ^ 0xFFFFFFFF, 8 * len(data)
    while bits > FOLDED_BITS:
        half = bits // 16 * 8
        rest = bits - half
        first = (message & ((1 << half) - 1)) << (rest - half)
        message = message >> half << 32
        for shift in _fold_shifts(rest):
            message ^= first << shift
        bits = rest + 32
    remainder = 0
    table = _crc_table()
    for byte in message.to_bytes(bits // 8, "little"):
        remainder = table[(remainder ^ byte) & 0xFF] ^ remainder >> 8
    return remainder ^ 0xFFFFFFFF


@lru_cache(maxsize=64)
def _fold_shifts(power: int) -> list[int]:
    """Return the shifts that together multiply by a power of x, modulo the polynomial."""
    factor = 1
    for _ in range(power):
        factor <<= 1
        if factor >> 32:
            factor ^= POLYNOMIAL
    return [32 - bit for bit in range(32) if factor >> bit & 1]


@lru_cache(maxsize=1)
def _crc_table() -> list[int]:
    """Return the remainders of the bytes 0 to 255."""
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (REVERSED_POLYNOMIAL if value & 1 else 0) for value in table]
    return table
