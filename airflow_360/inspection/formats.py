"""Which format a file should have by its name, and the inspection of one file.

Separate from the formats' modules, which do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_360.inspection.e57 import inspect_e57
from airflow_360.inspection.glb import inspect_glb
from airflow_360.inspection.ifc import inspect_ifc
from airflow_360.inspection.jpeg import inspect_jpeg
from airflow_360.inspection.las import inspect_las
from airflow_360.inspection.mp4 import inspect_mp4
from airflow_360.inspection.pdf import inspect_pdf
from airflow_360.inspection.ply import inspect_ply
from airflow_360.inspection.png import inspect_png
from airflow_360.inspection.prj import inspect_prj
from airflow_360.inspection.ranges import Ranges, TooMuchToReadError
from airflow_360.inspection.results import DamagedError, Inspection
from airflow_360.inspection.sevenzip import inspect_7z
from airflow_360.inspection.tiff import inspect_tiff
from airflow_360.inspection.zip import inspect_kmz, inspect_zip

__all__ = ["inspect_file", "is_known"]

#: The inspection of each format, by the extension of the file's name. A format's module is a function of the
#: file's ranges and the result that it fills.
Check = Callable[[Ranges, Inspection], None]
CHECKS: dict[str, Check] = {
    "7z": inspect_7z,
    "e57": inspect_e57,
    "glb": inspect_glb,
    "ifc": inspect_ifc,
    "jpeg": inspect_jpeg,
    "jpg": inspect_jpeg,
    "kmz": inspect_kmz,
    "las": inspect_las,
    "laz": inspect_las,
    "mov": inspect_mp4,
    "mp4": inspect_mp4,
    "pdf": inspect_pdf,
    "ply": inspect_ply,
    "png": inspect_png,
    "prj": inspect_prj,
    "tif": inspect_tiff,
    "tiff": inspect_tiff,
    "zip": inspect_zip,
}


def is_known(name: str) -> bool:
    """Return whether files with this name's extension are inspected."""
    return name.lower().rpartition(".")[2] in CHECKS


def inspect_file(name: str, ranges: Ranges) -> Inspection:
    """Inspect a file; an unknown format is accepted.

    :param name: the file's name; its extension says which format it should have.
    :param ranges: the file's bytes.
    :raises airflow_360.exceptions.SourceError: if the file cannot be read; a damaged file raises nothing.
    """
    result = Inspection()
    check = CHECKS.get(name.lower().rpartition(".")[2])
    if not ranges.size:
        # Of another format it may be a marker, such as _SUCCESS.
        (result.error if check else result.warn)("empty", "the file is empty")
    elif check:
        try:
            check(ranges, result)
        except DamagedError as error:
            result.problems.append(error.problem)
        except TooMuchToReadError:
            result.unchecked.append("the rest of the file")
    return result
