"""Small files in real formats, valid and damaged, made without a library."""

from __future__ import annotations

import io
import zipfile

__all__ = ["DAMAGED_ZIP", "PHOTO", "ifc", "valid_zip"]

#: The smallest file that looks like a photo: the markers of start, size, scan and end.
PHOTO = bytes.fromhex("ffd8ffc0000b080001000101011100ffda0008010100003f0000ffd9")


def valid_zip() -> bytes:
    """Return a zip with one scan."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.las", b"LASF")
    return file.getvalue()


DAMAGED_ZIP = valid_zip()[:-30]


def ifc(system: str = "") -> bytes:
    """Return a building model, which states a coordinate system if one is given."""
    stated = f"#1=IFCPROJECTEDCRS('{system}',$,$,$,$,$,$);\n" if system else ""
    return (
        "ISO-10303-21;\nHEADER;\nFILE_DESCRIPTION((''),'2;1');\nFILE_NAME('a','',(''),(''),'','','');\n"
        f"FILE_SCHEMA(('IFC4'));\nENDSEC;\nDATA;\n{stated}ENDSEC;\nEND-ISO-10303-21;\n"
    ).encode()
