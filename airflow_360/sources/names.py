"""Flat names that the server keeps as they are, and files that nobody means to upload. Pure.

The server flattens names in a way that differs between deployments; a name that is flat already comes out
the same on all of them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from slugify import slugify

from airflow_360.exceptions import SourceError

__all__ = [
    "KNOWN_EXTENSIONS",
    "LONGEST",
    "extension",
    "filename_for",
    "flat_name",
    "flat_names",
    "is_hidden",
    "is_litter",
    "is_utf8",
    "printable",
    "shard_of",
]

#: What a default server accepts; the list that counts arrives with a 415.
KNOWN_EXTENSIONS = frozenset(
    "7z csv dat db e57 exr frag glb gpx ifc jpeg jpg json kml kmz ksplat las laz lgs lgsx mp4 mtl obj opt out"
    " pdf ply png pts ptx rad rar rmx sog splat spz stl tif tiff txt xyz zip".split()
)
LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
#: Bytes of a name that common file systems hold.
LONGEST = 255


def extension(filename: str) -> str:
    """Return a name's extension in lower case and without the dot; empty where it has none."""
    stem, dot, last = filename.rpartition(".")
    return last.lower() if dot and stem else ""


def flat_name(name: str) -> str:
    """Return the name under which a file is sent: ASCII, without folders, extension in lower case.

    Applying it twice changes nothing more.

    :param name: any name; a path is joined with ``_``.
    :raises SourceError: when the name comes out longer than 255 characters.
    """
    flat = _flat(unicodedata.normalize("NFC", name).strip("/").lstrip(".")).rstrip("._")
    stem, dot, last = flat.rpartition(".")
    flat = f"{stem.lstrip('._') or 'file'}.{last.lower()}" if dot else flat.lstrip("_") or "file"
    if len(flat) > LONGEST:
        raise SourceError(
            f"The name of {name!r} is longer than {LONGEST} characters once it is flat: "
            "rename the file, or give a shorter filename.",
            path=name,
        )
    return flat


def filename_for(relative: str, names: str) -> str:
    """Return the flat name of a listed file.

    :param relative: its path below the listed folder.
    :param names: ``"basename"`` takes the last part, ``"path"`` joins the folders into it with ``_``.
    """
    if names not in ("basename", "path"):
        raise SourceError(f'names must be "basename" or "path", not {names!r}.', path=relative)
    return flat_name(relative if names == "path" else PurePosixPath(relative).name)


def flat_names(files: Iterable[tuple[str, str]], names: str) -> Mapping[str, str]:
    """Return the flat name of each of several files of one session.

    :param files: path and relative path of each.
    :param names: see :func:`filename_for`.
    :returns: path to flat name.
    :raises SourceError: when two files end up with one name, without regard to case; it names both.
    """
    taken: dict[str, str] = {}
    flat: dict[str, str] = {}
    joined = "" if names == "path" else 'Set names="path" to join folders into the name. '
    for path, relative in files:
        name = filename_for(relative, names)
        other = taken.setdefault(name.casefold(), path)
        if other != path:
            raise SourceError(
                f"{other} and {path} would both be sent as {name}, and the server ignores the second file of "
                f"one name. {joined}Rename one of them, or send an archive.",
                path=path,
            )
        flat[path] = name
    return flat


def shard_of(filename: str, shards: int) -> int:
    """Return which of several tasks takes a file: the same on every machine, whatever else is listed.

    It follows from the name alone, so that no two tasks ever send one name, even where their listings differ.

    :param filename: its flat name.
    :param shards: how many tasks there are.
    """
    digest = hashlib.sha256(filename.casefold().encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


def is_utf8(name: str) -> bool:
    """Tell whether a name is UTF-8 on the disk: Python reads other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str) -> str:
    """Return a path as a message can show it: bytes that are not UTF-8, and control characters, escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def is_hidden(name: str) -> bool:
    """Tell whether a file's or folder's name marks it as hidden."""
    return name.startswith(".")


def is_litter(relative: str) -> bool:
    """Tell whether a listed file is one that nobody means to upload.

    :param relative: its path below the listed folder.
    """
    parts = relative.split("/")
    return (
        not parts[-1]
        or any(is_hidden(part) for part in parts)
        or parts[-1].lower() in LITTER
        or parts[-1].endswith("_$folder$")
    )


def _flat(name: str) -> str:
    ascii_only = re.sub(r"[^\x00-\x7f]+", lambda found: _transliterated(found.group()), name)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_only)


def _transliterated(text: str) -> str:
    return slugify(text, lowercase=False, separator="_", regex_pattern=r"[^A-Za-z0-9]+") or "_"
