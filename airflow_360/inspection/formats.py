"""Which format a file should have by its name, and the inspection of one file.

Separate from the formats' modules, which do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from airflow_360.inspection.ranges import Ranges, TooMuchToReadError
from airflow_360.inspection.results import DamagedError, Inspection
from airflow_360.sources.names import extension

__all__ = ["inspect_file", "is_known"]

#: The function of each format, by the extension of the file's name. Its module is imported for the first such
#: file: a mapped upload task needs one of them.
CHECKS = {
    "7z": "sevenzip.inspect_7z",
    "e57": "e57.inspect_e57",
    "glb": "glb.inspect_glb",
    "ifc": "ifc.inspect_ifc",
    "jpeg": "jpeg.inspect_jpeg",
    "jpg": "jpeg.inspect_jpeg",
    "kmz": "zip.inspect_kmz",
    "las": "las.inspect_las",
    "laz": "las.inspect_las",
    "mov": "mp4.inspect_mp4",
    "mp4": "mp4.inspect_mp4",
    "pdf": "pdf.inspect_pdf",
    "ply": "ply.inspect_ply",
    "png": "png.inspect_png",
    "prj": "prj.inspect_prj",
    "tif": "tiff.inspect_tiff",
    "tiff": "tiff.inspect_tiff",
    "zip": "zip.inspect_zip",
}
#: A format's function gets the file's ranges and the result that it fills.
Check = Callable[[Ranges, Inspection], None]


def is_known(name: str) -> bool:
    """Return whether files with this name's extension are inspected."""
    return extension(name) in CHECKS


def inspect_file(name: str, ranges: Ranges) -> Inspection:
    """Inspect a file; an unknown format is accepted.

    :param name: the file's name; its extension says which format it should have.
    :param ranges: the file's bytes.
    :raises airflow_360.exceptions.SourceError: if the file cannot be read; a damaged file raises nothing.
    """
    result = Inspection()
    check = _check_of(name)
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


def _check_of(name: str) -> Check | None:
    module, _, function = CHECKS.get(extension(name), "").partition(".")
    if not module:
        return None
    check: Check = getattr(import_module(f"airflow_360.inspection.{module}"), function)
    return check
