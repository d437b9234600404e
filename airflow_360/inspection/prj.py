"""A `.prj` file: the coordinate system of the file beside it, as WKT.

Separate from the formats, because it says something about another file.
"""

from __future__ import annotations

from airflow_360.inspection.coordinate_systems import MAX_WKT_CHARACTERS, read_wkt
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import CoordinateSystem, Inspection

__all__ = ["inspect_prj", "read_prj"]


def read_prj(data: bytes) -> CoordinateSystem | None:
    """Return the coordinate system that a `.prj` file states; None if it states none.

    :param data: the file's first 64 KiB.
    """
    return read_wkt(data, ".prj file")


def inspect_prj(ranges: Ranges, result: Inspection) -> None:
    """Inspect a `.prj` file; other software uses this extension too, so other text is only a warning.

    :param ranges: the file's bytes.
    :param result: the result to fill.
    """
    result.coordinate_system = read_prj(ranges.at(0, MAX_WKT_CHARACTERS))
    if result.coordinate_system:
        result.format = "PRJ"
    else:
        result.warn("wrong_format", "it contains no coordinate system, neither as WKT nor as an EPSG code")
