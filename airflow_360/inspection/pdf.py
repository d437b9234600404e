"""PDF: its start, its end marker, and the length that a document for the web states."""

from __future__ import annotations

import re

from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.reading import ends_with_zeros, last_bytes
from airflow_360.inspection.results import DamagedError, Inspection, shortage_text
from airflow_360.inspection.signatures import wrong_format

__all__ = ["inspect_pdf"]

#: Readers accept this many bytes before the start.
START_BYTES = 1024
START = re.compile(rb"%PDF-(\d\.\d)?")
END = b"%%EOF"
#: The first object of a document for the web ("linearized") states the length of the file.
LENGTH_BYTES = 2048
WEB_DOCUMENT = re.compile(rb"/Linearized[^>]{0,1000}?/L\s{1,10}(\d{1,15})\b")


def inspect_pdf(ranges: Ranges, result: Inspection) -> None:
    """Inspect a PDF document."""
    start = START.search(ranges.at(0, START_BYTES))
    if not start:
        raise wrong_format(ranges, "a PDF document")
    result.format = "PDF"
    result.version = (start[1] or b"").decode()
    stated = WEB_DOCUMENT.search(ranges.at(start.start(), LENGTH_BYTES))
    if stated and int(stated[1]) > ranges.size:
        raise DamagedError("truncated", f"it states a length of {shortage_text(int(stated[1]), ranges.size)}")
    offset, tail = last_bytes(ranges)
    if END not in tail:
        zeros = ends_with_zeros(ranges, offset + len(tail))
        result.error("truncated", f"its end marker {END.decode()} is missing{zeros}")
