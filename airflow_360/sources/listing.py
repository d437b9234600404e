"""Listing: the files of a path, which can be a file, a folder, a prefix or a glob, in any store."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import islice
from pathlib import PurePosixPath

from airflow_360.exceptions import SourceError
from airflow_360.sources import FileInfo, Location, Scan
from airflow_360.sources.errors import refused
from airflow_360.sources.names import KNOWN_EXTENSIONS, extension, is_hidden, is_system_file, printable
from airflow_360.texts import MAX_COUNTED_FILES, LeftOut, count_text
from airflow_360.values import is_unset

__all__ = [
    "Globs",
    "globs_text",
    "has_files",
    "list_files",
    "list_scans",
    "snapshot_scan",
]

log = logging.getLogger(__name__)

#: Opens a path that a user wrote.
Open = Callable[[str], Location]
#: One glob or several; None matches everything.
Globs = str | Sequence[str] | None

#: If a file's date is less far in the future, a machine whose clock is ahead may still be writing it.
MAX_CLOCK_DIFFERENCE_SECONDS = 86400.0


def list_files(
    open_location: Open,
    path: str,
    pattern: Globs = None,
    recursive: bool = True,
    *,
    exclude: Globs = None,
    left_out: LeftOut | None = None,
) -> list[FileInfo]:
    """Return the files of a path, sorted by path.

    The skipped files are counted and logged in one line.

    :param open_location: opens a path.
    :param path: a file with any name; a folder; a prefix in an object store; or a glob, whose wildcards do
        not match ``/``.
    :param pattern: a glob or several, such as ``*.e57``, case-insensitive; None selects all files. A glob
        without ``/`` must match the file's name, a glob with ``/`` its path below the folder.
    :param recursive: whether to enter the folders below.
    :param exclude: a glob or several, used in the same way; matching files are skipped.
    :param left_out: counts the skipped files.
    :raises SourceError: if the path's store or parent is missing or cannot be read, or if one of the files
        must not be uploaded: a link that leads out of the folder, a pipe, or a name that is not UTF-8.
    """
    counts, wanted = LeftOut(), _Wanted(pattern, exclude)
    files = sorted(_taken(open_location, path, wanted, recursive, counts), key=lambda file: file.path)
    if faulty := [file for file in files if file.fault]:
        raise refused(path, faulty)
    if not files:
        _check_exists(path, wanted)
    if not recursive:
        _count_subfolders(open_location, path, wanted, counts)
    log.info(
        "%s: %s%s.", path, count_text(len(files), "file"), f"; left out: {counts}" if str(counts) else ""
    )
    if left_out is not None:
        left_out.update(counts)
    return files


def has_files(
    open_location: Open, path: str, pattern: Globs = None, recursive: bool = True, *, exclude: Globs = None
) -> bool:
    """Return whether a path has any file; the listing stops at the first one.

    The parameters are those of :func:`list_files`.

    :raises SourceError: as :func:`list_files`.
    """
    wanted, faulty = _Wanted(pattern, exclude), []
    for file in _taken(open_location, path, wanted, recursive, LeftOut()):
        if not file.fault:
            return True
        faulty.append(file)
    if faulty:
        raise refused(path, faulty)
    _check_exists(path, wanted)
    return False


def list_scans(
    open_location: Open,
    path: str,
    pattern: Globs = None,
    *,
    exclude: Globs = None,
    left_out: LeftOut | None = None,
) -> list[str]:
    """Return the folders directly below a path that contain at least one file, at any depth.

    :param open_location: opens a path.
    :param path: a folder, or a prefix in an object store that ends with ``/``.
    :param pattern: a glob or several for the files that make a folder a scan, as in :func:`list_files`; None
        counts every file.
    :param exclude: a glob or several for files that do not count.
    :param left_out: counts the skipped folders and files.
    :raises SourceError: if the path is a file, its store or parent is missing or cannot be read, or if a
        folder must not be entered: a link that leads out of the path, or a name that is not UTF-8.
    """
    wanted = _Wanted(pattern, exclude)
    location = open_location(path)
    loose = sum(not is_system_file(file.relative) for file in location.files(1))
    if loose:
        log.warning(
            "%s: %s beside the folders will not be uploaded, because only folders are scans.",
            path,
            count_text(loose, "file"),
        )
    if faulty := [folder for folder in location.refused_folders() if not wanted.excludes(folder)]:
        raise refused(path, faulty)
    folders = list(location.folders())
    scans = [folder for folder in folders if _holds_scan(open_location(folder), wanted)]
    if left_out is not None:
        left_out.add("file", "beside the folders", loose)
        left_out.add("folder", "without a file that counts", len(folders) - len(scans))
    return scans


def snapshot_scan(folder: Location, path: str, now: float) -> Scan:
    """Return a snapshot of a scan's folder, at any depth; hidden files and system files do not count.

    :param folder: the opened folder.
    :param path: its path from :func:`list_scans`.
    :param now: the current time, in seconds since the epoch.
    :raises SourceError: if it cannot be read.
    """
    digest, age, dated = sha256(), float("inf"), True
    for file in folder.files(None):
        if not is_system_file(file.relative):
            line = f"{file.relative} {file.version}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
            if not file.fault:  # the upload task refuses it
                dated = dated and file.written is not None
                age = min(age, _age(file, now))
    return Scan(path, digest.hexdigest(), age if dated else None)


def _age(file: FileInfo, now: float) -> float:
    """Return the seconds since the last write to a file."""
    age = now - (file.written or 0.0)
    if age < -MAX_CLOCK_DIFFERENCE_SECONDS:
        log.warning(
            "%s has a modification time %s in the future. It counts as settled, because no clock is wrong by "
            "so much.",
            printable(file.path),
            count_text(round(-age / 86400), "day"),
        )
        return float("inf")
    return max(0.0, age)


class _Wanted:
    """The filter that selects files by ``pattern`` and ``exclude``."""

    def __init__(self, pattern: Globs, exclude: Globs) -> None:
        self.pattern = _globs("pattern", pattern)
        self.exclude = _globs("exclude", exclude)

    def excludes(self, folder: FileInfo) -> bool:
        """Return whether ``exclude`` matches a folder that was not entered, or everything in it."""
        return any(_matches_any(path, self.exclude) for path in (folder.relative, f"{folder.relative}/*"))

    def reason_against(self, relative: str) -> tuple[str, str] | None:
        """Return the noun for a file and the reason to skip it, or None if it is selected.

        :param relative: its path below the listed folder.
        """
        if is_system_file(relative):
            if relative.endswith(("/", "_$folder$")) or not relative:
                return "folder marker", ""
            return ("hidden file" if any(map(is_hidden, relative.split("/"))) else "system file"), ""
        if self.pattern and not _matches_any(relative, self.pattern):
            return "file", "not matching pattern"
        if self.exclude and _matches_any(relative, self.exclude):
            return "file", "matching exclude"
        return None


def _taken(
    open_location: Open, path: str, wanted: _Wanted, recursive: bool, left_out: LeftOut
) -> Iterator[FileInfo]:
    location = open_location(path)
    if location.is_file():
        yield location.info()
        return
    location, glob = _folder_and_glob(open_location, path, location)
    depth = None if recursive else max(1, len(PurePosixPath(glob).parts))
    for file in location.files(depth):
        if not (_may_contain(file, glob) if file.many else _fits(file.relative, glob, recursive)):
            continue
        if file.many:
            reason = ("folder", "matching exclude") if wanted.excludes(file) else None
        else:
            reason = wanted.reason_against(file.relative)
        if reason:
            left_out.add(*reason)
        else:
            yield file


def _count_subfolders(open_location: Open, path: str, wanted: _Wanted, left_out: LeftOut) -> None:
    """Count, up to a limit, the files that ``recursive=True`` would add; warn if there are any."""
    location = open_location(path)
    if location.is_file():
        return
    location, glob = _folder_and_glob(open_location, path, location)
    try:
        below = (
            file.relative
            for file in location.files(None)
            if not file.many
            and _fits(file.relative, glob, True)
            and not _fits(file.relative, glob, False)
            and not wanted.reason_against(file.relative)
        )
        for relative in islice(below, MAX_COUNTED_FILES):
            left_out.add_in_subfolder(str(PurePosixPath(relative).parent))
    except SourceError as error:  # the caller did not ask for these files
        log.warning("%s: the files in subfolders could not be counted: %s", path, error)
    if left_out.subfolders:
        log.warning("%s: %s will not be uploaded.", path, left_out.subfolders)


def _folder_and_glob(open_location: Open, path: str, location: Location) -> tuple[Location, str]:
    """Return the folder to list, and the glob that the files' paths below it must match; empty for all."""
    base, glob = _split_glob(path)
    if not glob or location.is_folder():  # a folder's name may look like a glob
        return location, ""
    return open_location(base), glob


def _check_exists(path: str, wanted: _Wanted) -> None:
    """Refuse a path that looks like a file but does not exist."""
    if not wanted.pattern and not _split_glob(path)[1] and extension(path) in KNOWN_EXTENSIONS:
        raise SourceError(
            f"{path} does not exist. Check the path, and that this worker can see it.", path=path
        )


def _holds_scan(folder: Location, wanted: _Wanted) -> bool:
    return any(not wanted.reason_against(file.relative) for file in folder.files(None))


def globs_text(globs: Globs) -> str:
    """Return one glob or several as text; empty if there are none."""
    return ", ".join(_globs("pattern", globs))


def _globs(name: str, value: object) -> tuple[str, ...]:
    """Return one glob or several, in lower case and normalized Unicode."""
    if isinstance(value, str) and value.isspace():  # a template that went wrong must not mean all files
        raise SourceError(f"{name} must be a glob or a list of globs, not {value!r}.")
    if is_unset(value):
        return ()
    globs = (value,) if isinstance(value, str) else value
    if not isinstance(globs, Sequence) or not all(isinstance(glob, str) and glob for glob in globs):
        raise SourceError(f"{name} must be a glob or a list of globs, not {value!r}.")
    if not globs and name == "pattern":
        raise SourceError(
            "pattern must be a glob or a list of globs, not an empty list. Remove it to take all."
        )
    return tuple(_folded(glob) for glob in globs)


def _matches_any(relative: str, globs: Sequence[str]) -> bool:
    path = _folded(relative)
    name = PurePosixPath(path).name
    return any(fnmatchcase(path if "/" in glob else name, glob.lstrip("/")) for glob in globs)


def _folded(text: str) -> str:
    # macOS writes "ü" as two characters.
    return unicodedata.normalize("NFC", text).lower()


def _fits(relative: str, glob: str, recursive: bool) -> bool:
    """Return whether a path below a folder is selected by a glob there, or, without a glob, by the folder."""
    if not glob:
        return recursive or "/" not in relative
    # An absolute pattern must match the whole absolute path, and its wildcards stop at "/".
    if PurePosixPath(f"/{relative}").match(f"/{glob}"):
        return True
    return recursive and any(
        PurePosixPath(f"/{parent}").match(f"/{glob}") for parent in PurePosixPath(relative).parents
    )


def _may_contain(folder: FileInfo, glob: str) -> bool:
    """Return whether a folder that was not entered may contain a file that matches a glob."""
    beginning = PurePosixPath(glob).parts[: len(PurePosixPath(folder.relative).parts)]
    return _fits(folder.relative, "/".join(beginning), True)


def _split_glob(path: str) -> tuple[str, str]:
    """Split a path at the last ``/`` before its first wildcard; without a wildcard the glob is empty."""
    wildcard = re.search(r"[*?\[]", path)
    if not wildcard:
        return path, ""
    cut = path.rfind("/", 0, wildcard.start()) + 1
    return path[:cut] or ".", path[cut:]
