"""Inspection of files before they are uploaded: the modes ``warn``, ``fail`` and ``off``.

Separate because it is imported when a task runs, not while a DAG file is parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import InspectionError, SourceChangedError, SourceError, ThreeSixtyError
from airflow_360.inspection.findings import NO_CODE, Findings
from airflow_360.inspection.formats import is_known
from airflow_360.inspection.inspected_source import InspectedSource, inspect_source
from airflow_360.inspection.photos import PHOTO_EXTENSIONS
from airflow_360.inspection.prj import read_prj
from airflow_360.inspection.results import CoordinateSystem, Inspection
from airflow_360.sources.names import extension, printable
from airflow_360.sources.path import PathLocation
from airflow_360.texts import MAX_NAMED_FAULTS, count_text, first_few

if TYPE_CHECKING:
    from airflow_360.hooks.paths import Paths
    from airflow_360.sources import FileInfo, FileSource, Location, Source

__all__ = ["Inspector"]

log = logging.getLogger(__name__)

#: Files that are read at the same time: boto3 keeps at most ten connections.
PARALLEL_READS = 8
#: Formats whose coordinate system may be in a .prj file beside them.
WITH_PRJ = frozenset(("las", "laz", "ply", "tif", "tiff"))
MAX_PRJ_BYTES = 64 * 1024
BATCH_FILES = 1000  # that are opened at a time


class Inspector:
    """The inspection of the files of one task.

    :param paths: opens the files.
    :param mode: ``"warn"`` logs what is wrong, ``"fail"`` raises an error that names all damaged files, and
        ``"off"`` reads nothing.
    :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
    """

    def __init__(self, paths: Paths, mode: str, aws_conn_id: str | None = "aws_default") -> None:
        self.findings = Findings()
        self._is_scan = False
        self._photos = 0
        self._logged = {"damaged": 0, "doubtful": 0}
        self._paths = paths
        self._mode = mode
        self._aws_conn_id = aws_conn_id

    def inspect(self, files: Sequence[FileInfo], *, is_scan: bool = True) -> None:
        """Inspect files before they are sent.

        With ``warn``, photos are left to :meth:`while_sent`, so that a set of 10,000 photos needs no 20,000
        requests more.

        :param files: the files.
        :param is_scan: whether they are a whole scan, so that the rules for a set of photos apply.
        :raises InspectionError: with ``fail``, if files are damaged.
        :raises SourceError: with ``fail``, if a file cannot be read.
        """
        if not self.is_on:
            return
        self._is_scan, self._photos = is_scan, sum(map(_is_photo, files))
        due = [file for file in files if self._is_due(file)]
        if len(due) > BATCH_FILES:
            log.info("Inspecting %s", count_text(len(due), "file"))
        for file, result in self.results(due):
            if not isinstance(result, ThreeSixtyError):
                continue
            if self._mode == "fail":
                raise _unreadable(file, result)
            self.findings.unread += 1
            log.warning("%s could not be inspected: %s", printable(file.path), printable(str(result)))
        self._log_problems()
        if self._mode == "fail" and self.findings.damaged:
            raise _refusal(self.findings, len(files))

    def results(self, files: Sequence[FileInfo]) -> Iterator[tuple[FileInfo, Inspection | ThreeSixtyError]]:
        """Yield each file with the result of its inspection, or with the error that made it impossible.

        :param files: the files, in the order of the results; several are read at a time.
        """
        with ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="inspect") as pool:
            for start in range(0, len(files), BATCH_FILES):
                batch = files[start : start + BATCH_FILES]
                # Opened here, in the task's main thread: another thread must not look up a connection.
                opened = [(file, self._location(file.path), self._prj(file)) for file in batch]
                for file, result in zip(batch, pool.map(lambda job: _inspect(*job), opened), strict=True):
                    if isinstance(result, Inspection):
                        self.findings.add(file.path, result)
                    yield file, result

    def while_sent(self, file: FileInfo, open_source: Callable[[], FileSource]) -> Callable[[], Source]:
        """Return a function that opens a file so that a photo is inspected while it is sent.

        :param file: the file.
        :param open_source: opens it.
        """
        if self._mode != "warn" or not _is_photo(file):
            return open_source
        return lambda: InspectedSource(open_source(), lambda result: self.findings.add(file.path, result))

    def report(self) -> None:
        """Log what was found, after the last file; :meth:`inspect` has logged its problems already."""
        found = self.findings
        self._log_problems()
        if self._is_scan and found.photos.count == self._photos:  # after a retry, some were not seen
            for text in found.photos.warnings:
                log.warning("%s.", text)
        for path, text in list(found.unchecked.items())[:MAX_NAMED_FAULTS]:
            log.info("%s: not checked: %s.", printable(path), text)
        if len(found.systems) > 1:
            stated = [f"{system} ({printable(path)})" for system, path in found.systems.items()]
            log.warning("The files state different coordinate systems: %s.", first_few(stated))
        elif NO_CODE in found.systems:
            log.warning(
                "%s states a coordinate system as WKT without an EPSG code: set coordinate_system yourself.",
                printable(found.systems[NO_CODE]),
            )
        if found.files:
            log.info("%s.", found)

    @property
    def is_on(self) -> bool:
        """Return whether files are inspected."""
        return self._mode != "off"

    @property
    def shown(self) -> dict[str, Any]:
        """Return the numbers of damaged and doubtful files, and the texts of the first twenty of them."""
        found = self.findings
        files = {**found.damaged, **found.doubtful}
        first = [f"{printable(path)}: {text}" for path, text in list(files.items())[:MAX_NAMED_FAULTS]]
        return {"damaged": 0, "doubtful": 0, **found.counts, "files": first}

    def _log_problems(self) -> None:
        """Log the problems of the files that were inspected since the last call."""
        level = logging.ERROR if self._mode == "fail" else logging.WARNING
        for kind, said, at in (("damaged", " is damaged", level), ("doubtful", "", logging.WARNING)):
            files = list(getattr(self.findings, kind).items())
            for path, text in files[self._logged[kind] :]:
                log.log(at, "%s%s: %s.", printable(path), said, text)
            self._logged[kind] = len(files)

    def _is_due(self, file: FileInfo) -> bool:
        """Return whether a file is inspected before the upload."""
        if not file.size:  # nothing of it will pass while it is sent
            return True
        return is_known(file.path) and (self._mode == "fail" or not _is_photo(file))

    def _location(self, path: str) -> Location:
        return self._paths.open(path, self._aws_conn_id)

    def _prj(self, file: FileInfo) -> Location | None:
        stem, dot, kind = file.path.rpartition(".")
        return self._location(f"{stem}.prj") if dot and kind.lower() in WITH_PRJ else None


def _inspect(file: FileInfo, location: Location, prj: Location | None) -> Inspection | ThreeSixtyError:
    try:
        result = inspect_source(location.source(file))
        if prj and not result.coordinate_system:
            result.coordinate_system = _system_beside(prj)
    except ThreeSixtyError as error:
        return error
    return result


def _system_beside(prj: Location) -> CoordinateSystem | None:
    """Return the coordinate system of a .prj file; None if there is none, or if it is a link.

    :raises SourceError: if it cannot be read at the moment.
    """
    if isinstance(prj, PathLocation) and prj.is_link:
        return None  # it may lead to any file that this worker can read
    try:
        info = prj.info()
        return read_prj(prj.source(info).read_range(0, min(info.size, MAX_PRJ_BYTES)))
    except SourceChangedError:
        return None
    except SourceError as error:
        if error.retryable:
            raise
        return None


def _is_photo(file: FileInfo) -> bool:
    return extension(file.path) in PHOTO_EXTENSIONS


def _unreadable(file: FileInfo, error: ThreeSixtyError) -> ThreeSixtyError:
    """Return the error for a file that cannot be inspected; a file that is being written needs time."""
    if not isinstance(error, SourceChangedError):
        return error
    return SourceError(
        f"{printable(file.path)} changed after it was listed. Wait until it is completely written, then "
        "clear this task.",
        path=file.path,
        retryable=True,
    )


def _refusal(found: Findings, count: int) -> InspectionError:
    faults = [f"{printable(path)}: {text}" for path, text in found.damaged.items()][:MAX_NAMED_FAULTS]
    if (more := found.counts["damaged"] - len(faults)) > 0:
        faults.append(f"and {more:,} more, which the log names")
    return InspectionError(
        f"Damaged files: {found.counts['damaged']:,} of {count:,}. This task sends nothing:\n- "
        + "\n- ".join(faults)
        + "\nReplace these files or exclude them, and clear this task. If ListFilesOperator listed them, "
        "clear that task instead, with its downstream tasks. To upload them as they are, set inspect to "
        "'warn'.",
        files=list(found.damaged),
    )
