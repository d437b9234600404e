"""What a file is by its first bytes, for the message about a file that is not what its name says.

Separate from the formats, which know only their own first bytes.
"""

from __future__ import annotations

from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import DamagedError, Severity

__all__ = ["wrong_format"]

START_BYTES = 512
#: First bytes, and what starts with them.
SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"RIFF", "a WebP image or an AVI video"),
    (b"PK\3\4", "a ZIP archive"),
    (b"PK\5\6", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"LASF", "a LAS or LAZ file"),
    (b"ASTM-E57", "an E57 file"),
    (b"ply\n", "a PLY file"),
    (b"ply\r", "a PLY file"),
    (b"glTF", "a GLB file"),
    (b"ISO-10303-21", "a STEP or IFC file"),
    (b"%PDF-", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file"),
)
PICTURES = {"a JPEG image", "a PNG image", "a TIFF image", "a BigTIFF image"}
#: The same for text, in lower case and after white space.
TEXTS = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"<", "an XML document"),
    (b"{", "JSON text"),
)


def wrong_format(ranges: Ranges, expected: str) -> DamagedError:
    """Return the error for a file that does not start as its name says.

    :param ranges: the file's bytes.
    :param expected: what it should be, with an article, such as "a JPEG image".
    """
    start = ranges.at(0, START_BYTES)
    if not start.strip(b"\0"):
        return DamagedError("damaged", f"its first {len(start)} bytes are zeros, as after an unfinished copy")
    kind = _kind(start)
    if kind and kind != expected:
        # Most programs recognize a picture by its content.
        severity = Severity.WARNING if {kind, expected} <= PICTURES else Severity.ERROR
        return DamagedError("wrong_format", f"it is {kind}, not {expected}", severity)
    return DamagedError("wrong_format", f"it does not start like {expected}")


def _kind(start: bytes) -> str:
    if start[4:8] == b"ftyp":
        return "an MP4, MOV or HEIC file"
    for prefix, kind in SIGNATURES:
        if start.startswith(prefix):
            return kind
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for prefix, kind in TEXTS if text.startswith(prefix)), "")
