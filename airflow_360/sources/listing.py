"""Which files a path means: a file, a folder, a prefix or a glob, in any store."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import islice
from pathlib import PurePosixPath

from airflow_360.exceptions import SourceError
from airflow_360.sources import Listed, Location, Scan
from airflow_360.sources.names import KNOWN_EXTENSIONS, extension, is_hidden, is_litter

__all__ = [
    "Globs",
    "LeftOut",
    "count_text",
    "globs_text",
    "has_files",
    "list_files",
    "list_scans",
    "look_at_scan",
]

log = logging.getLogger(__name__)

#: Opens a path that a user wrote.
Open = Callable[[str], Location]
#: One glob or several; None is no condition.
Globs = str | Sequence[str] | None

#: Files in subfolders that are counted for a warning; of an object store's millions nobody needs the number.
MAX_COUNTED_FILES = 10_000


class LeftOut:
    """Counts of what listings left out, and why."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._subfolders: set[str] = set()
        self._in_subfolders = 0

    def add(self, noun: str, why: str = "", count: int = 1) -> None:
        """Count something that was left out.

        :param noun: what it is, in the singular; it gets an *s* if there are several.
        :param why: the reason, which follows the noun; empty if the noun says it.
        :param count: how many.
        """
        self._counts[noun, why] += count

    def update(self, other: LeftOut) -> None:
        """Add the counts of another listing."""
        self._counts.update(other._counts)
        self._subfolders |= other._subfolders
        self._in_subfolders += other._in_subfolders

    def add_in_subfolder(self, folder: str) -> None:
        """Count a file in a subfolder that was not entered."""
        self._in_subfolders += 1
        self._subfolders.add(folder)

    @property
    def subfolders(self) -> str:
        """Return how many files are in how many subfolders that were not entered; empty if there are none."""
        if not self._in_subfolders:
            return ""
        many = "at least " if self._in_subfolders >= MAX_COUNTED_FILES else ""
        files, folders = (
            count_text(self._in_subfolders, "file"),
            count_text(len(self._subfolders), "subfolder"),
        )
        return f"{many}{files} in {folders} (recursive=False)"

    def __str__(self) -> str:
        counts = [
            f"{count_text(count, noun)} {why}".rstrip()
            for (noun, why), count in self._counts.items()
            if count
        ]
        return ", ".join([*counts, *filter(None, [self.subfolders])])


def list_files(
    open_location: Open,
    path: str,
    pattern: Globs = None,
    recursive: bool = True,
    *,
    exclude: Globs = None,
    left_out: LeftOut | None = None,
) -> list[Listed]:
    """Return the files that a path means, sorted by path.

    What is left out is counted, and the log says it in one line.

    :param open_location: opens a path.
    :param path: a file, which is taken whatever its name; a folder; a prefix in an object store; or a glob,
        whose wildcards stay within one folder.
    :param pattern: a glob or several, such as ``*.e57``, without regard to case; None takes all. One without
        ``/`` is compared with the file's name, one with ``/`` with its path below the folder.
    :param recursive: whether to enter the folders below.
    :param exclude: a glob or several, compared in the same way. Files that match are left out.
    :param left_out: counts what is left out.
    :raises SourceError: when the path's store or parent is missing or cannot be read.
    """
    counts, wanted = LeftOut(), _Wanted(pattern, exclude)
    files = sorted(_taken(open_location, path, wanted, recursive, counts), key=lambda file: file.path)
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
    """Tell whether a path means any file; the listing stops at the first one.

    The parameters are those of :func:`list_files`.

    :raises SourceError: as :func:`list_files`.
    """
    wanted = _Wanted(pattern, exclude)
    if any(True for _ in _taken(open_location, path, wanted, recursive, LeftOut())):
        return True
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
    """Return the folders directly below a path that hold at least one file, at any depth.

    :param open_location: opens a path.
    :param path: a folder, or a prefix in an object store that ends with ``/``.
    :param pattern: a glob or several for the files that make a folder a scan, as in :func:`list_files`; None
        counts every file.
    :param exclude: a glob or several for files that do not.
    :param left_out: counts what is left out.
    :raises SourceError: when the path is a file, or its store or parent is missing or cannot be read.
    """
    wanted = _Wanted(pattern, exclude)
    location = open_location(path)
    loose = sum(not is_litter(file.relative) for file in location.files(1))
    if loose:
        log.warning(
            "%s: %s beside the folders will not be uploaded: no scan contains them.",
            path,
            count_text(loose, "file"),
        )
    folders = list(location.folders())
    scans = [folder for folder in folders if _holds_scan(open_location(folder), wanted)]
    if left_out is not None:
        left_out.add("file", "beside the folders", loose)
        left_out.add("folder", "without a file that counts", len(folders) - len(scans))
    return scans


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


class _Wanted:
    """What tells the files to take from those to leave out."""

    def __init__(self, pattern: Globs, exclude: Globs) -> None:
        self.pattern = _globs("pattern", pattern)
        self.exclude = _globs("exclude", exclude)

    def reason_against(self, relative: str) -> tuple[str, str] | None:
        """Return what a file is and why it is left out, or None if it is taken.

        :param relative: its path below the listed folder.
        """
        if is_litter(relative):
            if relative.endswith(("/", "_$folder$")) or not relative:
                return "folder marker", ""
            return ("hidden file" if any(map(is_hidden, relative.split("/"))) else "litter file"), ""
        if self.pattern and not _matches_any(relative, self.pattern):
            return "file", "not matching pattern"
        if self.exclude and _matches_any(relative, self.exclude):
            return "file", "matching exclude"
        return None


def _taken(
    open_location: Open, path: str, wanted: _Wanted, recursive: bool, left_out: LeftOut
) -> Iterator[Listed]:
    location = open_location(path)
    if location.is_file():
        yield location.listed()
        return
    location, glob = _folder_and_glob(open_location, path, location)
    depth = None if recursive else max(1, len(PurePosixPath(glob).parts))
    for file in location.files(depth):
        if not _fits(file.relative, glob, recursive):
            continue
        if reason := wanted.reason_against(file.relative):
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
            if _fits(file.relative, glob, True)
            and not _fits(file.relative, glob, False)
            and not wanted.reason_against(file.relative)
        )
        for relative in islice(below, MAX_COUNTED_FILES):
            left_out.add_in_subfolder(str(PurePosixPath(relative).parent))
    except SourceError as error:  # they were not asked for
        log.warning("%s: the files in subfolders could not be counted: %s", path, error)
    if left_out.subfolders:
        log.warning("%s: %s will not be uploaded.", path, left_out.subfolders)


def _folder_and_glob(open_location: Open, path: str, location: Location) -> tuple[Location, str]:
    """Return the folder to list, and the glob that the files' paths below it must match; empty for all."""
    base, glob = _split_glob(path)
    if not glob or location.is_folder():  # a name may look like a glob
        return location, ""
    return open_location(base), glob


def _check_exists(path: str, wanted: _Wanted) -> None:
    """Refuse a path that leads to nothing and looks like a file's."""
    if not wanted.pattern and not _split_glob(path)[1] and extension(path) in KNOWN_EXTENSIONS:
        raise SourceError(
            f"{path} does not exist. Check the path, and that this worker can see it.", path=path
        )


def _holds_scan(folder: Location, wanted: _Wanted) -> bool:
    return any(not wanted.reason_against(file.relative) for file in folder.files(None))


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun as people read it: ``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def globs_text(globs: Globs) -> str:
    """Return one glob or several as text; empty if there are none."""
    return ", ".join(_globs("pattern", globs))


def _globs(name: str, value: object) -> tuple[str, ...]:
    """Return one glob or several, in one case and one Unicode form."""
    if value is None or value in ("", "None"):  # how templates say nothing
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
    # macOS spells "ü" in two characters.
    return unicodedata.normalize("NFC", text).lower()


def _fits(relative: str, glob: str, recursive: bool) -> bool:
    """Tell whether a path below a folder is meant by a glob of that folder, or by the folder itself."""
    if not glob:
        return recursive or "/" not in relative
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
