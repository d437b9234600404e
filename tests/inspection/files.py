"""The inspection of bytes in memory, for the tests of every format."""

from __future__ import annotations

from pathlib import Path

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import Inspection

#: Real scans and photos; tests that use them skip if they are missing.
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def inspect_bytes(name: str, data: bytes) -> Inspection:
    """Return the inspection of a file that has these bytes."""
    return inspect_file(name, Ranges(lambda offset, length: data[offset : offset + length], len(data)))
