"""Flat names, which the server does not change, and system files, which are never uploaded. Pure.

The server flattens names, and deployments do this in different ways. A name that is already flat stays the
same on all of them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from slugify import slugify

from airflow_360.exceptions import ConfigurationError, SourceError

__all__ = [
    "KNOWN_EXTENSIONS",
    "MAX_FILENAME_BYTES",
    "archive_name",
    "extension",
    "filename_for",
    "flat_name",
    "flat_names",
    "is_hidden",
    "is_system_file",
    "is_utf8",
    "printable",
    "shard_of",
]

#: The extensions that a default server accepts; a server's own list arrives with a 415.
KNOWN_EXTENSIONS = frozenset(
    "7z csv dat db e57 exr frag glb gpx ifc jpeg jpg json kml kmz ksplat las laz lgs lgsx mp4 mtl obj opt out"
    " pdf ply png pts ptx rad rar rmx sog splat spz stl tif tiff txt xyz zip".split()
)
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
#: Maximum bytes of a name in common file systems.
MAX_FILENAME_BYTES = 255


def extension(filename: str) -> str:
    """Return a name's extension in lower case and without the dot; empty if it has none."""
    stem, dot, last = filename.rpartition(".")
    return last.lower() if dot and stem else ""


def flat_name(name: str) -> str:
    """Return the flat name of a file: ASCII, without folders, extension in lower case.

    A flat name is returned unchanged.

    :param name: any name; a path is joined with ``_``.
    :raises SourceError: if the flat name is longer than 255 characters.
    """
    flat = _flat(unicodedata.normalize("NFC", name).strip("/").lstrip(".")).rstrip("._")
    stem, dot, last = flat.rpartition(".")
    flat = f"{stem.lstrip('._') or 'file'}.{last.lower()}" if dot else flat.lstrip("_") or "file"
    if len(flat) > MAX_FILENAME_BYTES:
        raise SourceError(
            f"The flat name of {name!r} is longer than {MAX_FILENAME_BYTES} characters: "
            "rename the file, or give a shorter filename.",
            path=name,
        )
    return flat


def filename_for(relative: str, names: str) -> str:
    """Return the flat name of a listed file.

    :param relative: its path below the listed folder.
    :param names: ``"basename"`` uses only the last part, ``"path"`` joins the folders with ``_`` into it.
    """
    if names not in ("basename", "path"):
        raise SourceError(f'names must be "basename" or "path", not {names!r}.', path=relative)
    return flat_name(relative if names == "path" else PurePosixPath(relative).name)


def archive_name(archive: str) -> str:
    """Return the flattened name of a zip.

    :raises ConfigurationError: if it does not end in ``.zip``.
    """
    if extension(name := flat_name(archive)) != "zip":
        raise ConfigurationError(
            f"archive must be a file name that ends in .zip, not {archive!r}.", parameter="archive"
        )
    return name


def flat_names(files: Iterable[tuple[str, str]], names: str) -> Mapping[str, str]:
    """Return the flat name of each of several files of one session.

    :param files: path and relative path of each.
    :param names: see :func:`filename_for`.
    :returns: path to flat name.
    :raises SourceError: if two files get the same name, ignoring case; the message names both.
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
    """Return the number of the task that uploads a file, the same on every machine and for every listing.

    It depends only on the name. So two tasks never send the same name, even if their listings differ.

    :param filename: its flat name.
    :param shards: the number of tasks.
    """
    digest = hashlib.sha256(filename.casefold().encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


def is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8 on the disk: Python decodes other bytes to lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str) -> str:
    """Return a path for use in a message: control characters and bytes that are not UTF-8 are escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def is_hidden(name: str) -> bool:
    """Return whether a file's or folder's name marks it as hidden."""
    return name.startswith(".")


def is_system_file(relative: str) -> bool:
    """Return whether a listed file is hidden, a folder marker or a system file: these are never uploaded.

    :param relative: its path below the listed folder.
    """
    parts = relative.split("/")
    return (
        not parts[-1]
        or any(is_hidden(part) for part in parts)
        or parts[-1].lower() in SYSTEM_FILES
        or parts[-1].endswith("_$folder$")
    )


def _flat(name: str) -> str:
    ascii_only = re.sub(r"[^\x00-\x7f]+", lambda found: _transliterated(found.group()), name)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_only)


def _transliterated(text: str) -> str:
    return slugify(text, lowercase=False, separator="_", regex_pattern=r"[^A-Za-z0-9]+") or "_"
