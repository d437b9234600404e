"""Which files a path means: a file, a folder, a prefix or a glob, in any store."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import PurePosixPath

from airflow_360.exceptions import SourceError
from airflow_360.sources import Listed, Location, Scan
from airflow_360.sources.names import KNOWN_EXTENSIONS, extension, is_litter

__all__ = ["list_files", "list_scans", "look_at_scan"]

log = logging.getLogger(__name__)

#: Opens a path that a user wrote.
Open = Callable[[str], Location]


def list_files(
    open_location: Open, path: str, pattern: str | None = None, recursive: bool = False
) -> list[Listed]:
    """Return the files that a path means, sorted by path; hidden files and litter are left out and counted.

    :param open_location: opens a path.
    :param path: a file, which is taken whatever its name; a folder; a prefix in an object store; or a glob,
        whose wildcards stay within one folder.
    :param pattern: a glob for the file's name, such as ``*.e57``, without regard to case; None takes all.
    :param recursive: whether to enter the folders below.
    :raises SourceError: when the path's store or parent is missing or cannot be read.
    """
    location = open_location(path)
    if location.is_file():
        return [location.listed()]
    base, glob = _split_glob(path)
    if glob and location.is_folder():  # a name may look like a glob
        glob = ""
    found: Iterator[Listed]
    if glob:
        depth = None if recursive else len(PurePosixPath(glob).parts)
        found = (
            file for file in open_location(base).files(depth) if _matches(file.relative, glob, recursive)
        )
    else:
        found = location.files(None if recursive else 1)
    files, left_out = [], 0
    for file in found:
        if is_litter(file.relative):
            left_out += 1
        elif pattern is None or _named(file.relative, pattern):
            files.append(file)
    if not files and not glob and pattern is None and extension(path) in KNOWN_EXTENSIONS:
        raise SourceError(
            f"{path} does not exist. Check the path, and that this worker can see it.", path=path
        )
    log.info(
        "%s: %s files%s.",
        path,
        f"{len(files):,}",
        f", {left_out:,} hidden or litter left out" if left_out else "",
    )
    return sorted(files, key=lambda file: file.path)


def list_scans(open_location: Open, path: str, pattern: str | None = None) -> list[str]:
    """Return the folders directly below a path that hold at least one file, at any depth.

    :param open_location: opens a path.
    :param path: a folder, or a prefix in an object store that ends with ``/``.
    :param pattern: a glob for the names of files that make a folder a scan; None counts every file.
    :raises SourceError: when the path is a file, or its store or parent is missing or cannot be read.
    """
    location = open_location(path)
    loose = sum(not is_litter(file.relative) for file in location.files(1))
    if loose:
        log.warning("%s: %s files lie beside the folders and belong to no scan.", path, f"{loose:,}")
    return [folder for folder in location.folders() if _holds_scan(open_location(folder), pattern)]


def look_at_scan(folder: Location, path: str, now: float) -> Scan:
    """Return what a scan's folder holds, at any depth; hidden files and litter do not count.

    :param folder: the folder, opened.
    :param path: its path, as :func:`list_scans` returned it.
    :param now: the present, in seconds since the epoch.
    :raises SourceError: when it cannot be read.
    """
    digest, age, dated = sha256(), float("inf"), True
    for file in folder.files(None):
        if not is_litter(file.relative):
            line = f"{file.relative} {file.size} {file.etag} {file.modified}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
            dated = dated and file.written is not None
            age = min(age, abs(now - (file.written or 0.0)))
    return Scan(path, digest.hexdigest(), age if dated else None)


def _holds_scan(folder: Location, pattern: str | None) -> bool:
    return any(
        not is_litter(file.relative) and (pattern is None or _named(file.relative, pattern))
        for file in folder.files(None)
    )


def _named(relative: str, pattern: str) -> bool:
    return fnmatchcase(PurePosixPath(relative).name.lower(), pattern.lower())


def _matches(relative: str, glob: str, recursive: bool) -> bool:
    # An absolute pattern must match the whole of an absolute path, and its wildcards stop at "/".
    if PurePosixPath(f"/{relative}").match(f"/{glob}"):
        return True
    return recursive and any(
        PurePosixPath(f"/{parent}").match(f"/{glob}") for parent in PurePosixPath(relative).parents
    )


def _split_glob(path: str) -> tuple[str, str]:
    """Split a path at the last ``/`` before its first wildcard; without a wildcard the glob is empty."""
    wildcard = re.search(r"[*?\[]", path)
    if not wildcard:
        return path, ""
    cut = path.rfind("/", 0, wildcard.start()) + 1
    return path[:cut] or ".", path[cut:]
