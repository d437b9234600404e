"""IFC as STEP text: its start, its end, the schema, and the coordinate system if it is near one of both.

Separate from other text formats, because only this one states where it ends.
"""

from __future__ import annotations

import re

from airflow_360.inspection.ranges import HEAD_BYTES, Ranges
from airflow_360.inspection.reading import ends_with_zeros, last_bytes
from airflow_360.inspection.results import CoordinateSystem, Inspection, plain_text
from airflow_360.inspection.signatures import wrong_format

__all__ = ["inspect_ifc"]

START, END = b"ISO-10303-21", b"END-ISO-10303-21"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WHITE_SPACE = b" \t\r\n\f\v"
MAX_COMMENTS = 64
SCHEMA = re.compile(rb"FILE_SCHEMA\s{0,20}\(\s{0,20}\(\s{0,20}'([^']{1,100})'")
SYSTEM = re.compile(rb"IFCPROJECTEDCRS\s{0,20}\(\s{0,20}'([^']{0,200})'")
EPSG_CODE = re.compile(r"EPSG\W{0,3}(?:[\d.]{1,8}:|:)?\s?(\d{4,6})(?!\d)", re.IGNORECASE)


def inspect_ifc(ranges: Ranges, result: Inspection) -> None:
    """Inspect an IFC model."""
    head = ranges.at(0, HEAD_BYTES)
    if not _without_comments(head).startswith(START):
        raise wrong_format(ranges, "an IFC file (STEP)")
    result.format = "IFC"
    start, tail = last_bytes(ranges)
    _read_schema(head, result)
    result.coordinate_system = _system(head) or _system(tail)
    if END not in tail:
        zeros = ends_with_zeros(ranges, start + len(tail))
        result.error("truncated", f"it does not end with {END.decode()}, as a complete IFC file does{zeros}")


def _without_comments(text: bytes) -> bytes:
    """Return a text from its first word on."""
    text = text.removeprefix(BYTE_ORDER_MARK).lstrip(WHITE_SPACE)
    for _ in range(MAX_COMMENTS):
        if not text.startswith(b"/*"):
            break
        text = text.partition(b"*/")[2].lstrip(WHITE_SPACE)
    return text


def _read_schema(head: bytes, result: Inspection) -> None:
    found = SCHEMA.search(head)
    if not found:
        return
    result.version = plain_text(found[1], 100)
    if not result.version.upper().startswith("IFC"):
        result.warn("wrong_format", f"it is a STEP file of the schema {result.version}, not IFC")


def _system(text: bytes) -> CoordinateSystem | None:
    """Return the coordinate system of a part of the file; without a code if its name has no EPSG number."""
    found = SYSTEM.search(text)
    if not found:
        return None
    code = EPSG_CODE.search(plain_text(found[1], 200))
    return CoordinateSystem(f"EPSG:{int(code[1])}" if code else "", found_in="IFCPROJECTEDCRS")
