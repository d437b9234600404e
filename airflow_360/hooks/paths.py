"""Paths that a user wrote: opened, listed, and turned into sources and presigned links.

Separate because only this module knows how paths are written, and looks up the connections of stores.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_360.exceptions import SourceChangedError, SourceError, ThreeSixtyError
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.inspections import Inspector
from airflow_360.hooks.parameters import (
    INSPECT_MODES,
    AnyPath,
    path_text,
    require_choice,
    require_rendered,
)
from airflow_360.sources.file_info import plain_etag
from airflow_360.sources.listing import Globs, globs_text, has_files, list_files, list_scans, snapshot_scan
from airflow_360.sources.names import flat_names, printable
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from airflow_360.sources.s3_path import parse_s3_path
from airflow_360.sources.store import OBJECT_STORES, Store, StoreLocation, store_error
from airflow_360.texts import count_text
from airflow_360.version_compat import AIRFLOW_VERSION

if TYPE_CHECKING:
    from airflow_360.sources import FileInfo, FileSource, Location, Scan
    from airflow_360.texts import LeftOut

__all__ = ["Paths"]

T = TypeVar("T")

LOCAL_SCHEMES = ("file", "local")
WINDOWS_PATH = re.compile(r"\\\\|[A-Za-z]:[\\/]")
AZURE_HOST = ".core.windows.net"
#: Loggers of libraries that write about thirty lines for each file or connection.
VERBOSE_LOGGERS = {
    "abfs": "azure.core.pipeline.policies.http_logging_policy",
    "abfss": "azure.core.pipeline.policies.http_logging_policy",
    "smb": "smbprotocol",
}
AZURE = "abfs://connection@container/folder/"
ATTACH = (
    "Attach a file system of fsspec at the top of the DAG file, as the documentation shows under Object "
    "stores, or mount the share on the workers."
)
#: The next step if no file system is registered for a scheme.
ADVICE = {
    "abfs": "Install airflow-provider-360[azure].",
    "abfss": "Install airflow-provider-360[azure].",
    "adl": f"Write it like {AZURE}.",
    "az": f"Write it like {AZURE}.",
    "ftp": ATTACH,
    "gcs": "Install airflow-provider-360[google].",
    "gs": "Install airflow-provider-360[google].",
    "http": "Pass the URL to CreateProjectOperator as download_link: the server fetches it.",
    "https": "Pass the URL to CreateProjectOperator as download_link: the server fetches it.",
    "sftp": "Install airflow-provider-360[sftp].",
    "smb": "Install airflow-provider-360[smb].",
    "ssh": "Install airflow-provider-360[sftp].",
    "wasb": f"Write it like {AZURE}, with a connection of type wasb.",
    "wasbs": f"Write it like {AZURE}, with a connection of type wasb.",
    "webdav": ATTACH,
}
OTHER_ADVICE = "Install the provider that brings it."


class Paths:
    """The opener of paths. It caches clients and file systems, because each one needs a connection lookup."""

    def __init__(self) -> None:
        self._s3_clients: dict[str, Any] = {}
        self._stores: dict[tuple[str, str], Any] = {}

    def open(
        self, path: AnyPath, aws_conn_id: str | None = "aws_default", *, follow_links: bool = False
    ) -> Location:
        """Open a path; a local or S3 path is opened without a request.

        Call it in the task's main thread: Airflow does not look up connections in other threads.

        :param path: local, ``s3://[conn_id@]bucket/key`` or any ``scheme://`` of Airflow's object storage.
        :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
        :param follow_links: whether to follow local links that lead out of the folder.
        :raises SourceError: if it cannot be opened.
        """
        text: str = path_text(path)
        require_rendered(path=text)
        if WINDOWS_PATH.match(text):
            raise SourceError(
                f"{printable(text)} is a Windows path. Write smb://connection@/share/folder/, or the path "
                "at which the share is mounted on the worker.",
                path=text,
            )
        if s3 := parse_s3_path(text):
            return S3Location(self.s3_client(s3.conn_id or aws_conn_id), s3.authority, s3.key)
        scheme, remote, rest = text.partition("://")
        if remote and scheme not in LOCAL_SCHEMES:
            return self._in_store(text, scheme, rest)
        local = f"/{rest.partition('/')[2]}" if remote else text
        return PathLocation(Path(local).expanduser().absolute(), follow_links=follow_links)

    def list_files(
        self,
        path: AnyPath,
        pattern: Globs = None,
        recursive: bool = True,
        aws_conn_id: str | None = "aws_default",
        *,
        exclude: Globs = None,
        left_out: LeftOut | None = None,
        follow_links: bool = False,
    ) -> list[FileInfo]:
        """Return the files of a path, which can be a file, folder, prefix or glob.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param pattern: a glob or a list of globs, case-insensitive; None selects all files. A glob without
            ``/`` must match the file's name, a glob with ``/`` its path below the folder.
        :param recursive: whether to enter subfolders. If not, a warning counts the files in them.
        :param aws_conn_id: see :meth:`open`.
        :param exclude: a glob or a list of globs; matching files are skipped.
        :param left_out: counts the skipped files, which are logged as well.
        :param follow_links: whether to follow links that lead out of the folder. By default they are refused,
            because anybody who can write to the folder could upload any file that this worker can read.
        :raises AirflowException: if the path cannot be listed.
        """
        with airflow_errors():
            opener = self._opener(aws_conn_id, follow_links)
            return list_files(opener, path_text(path), pattern, recursive, exclude=exclude, left_out=left_out)

    def has_files(
        self,
        path: AnyPath,
        pattern: Globs = None,
        recursive: bool = True,
        aws_conn_id: str | None = "aws_default",
        *,
        exclude: Globs = None,
        follow_links: bool = False,
    ) -> bool:
        """Return whether a path has any file; the listing stops at the first one.

        The parameters are those of :meth:`list_files`.

        :raises AirflowException: if the path cannot be listed.
        """
        with airflow_errors():
            opener = self._opener(aws_conn_id, follow_links)
            return has_files(opener, path_text(path), pattern, recursive, exclude=exclude)

    def list_scans(
        self,
        path: AnyPath,
        pattern: Globs = None,
        aws_conn_id: str | None = "aws_default",
        *,
        exclude: Globs = None,
        left_out: LeftOut | None = None,
        follow_links: bool = False,
    ) -> list[str]:
        """Return the folders directly below a path that contain files.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param pattern: a glob or a list of globs for the files that make a folder a scan, as in
            :meth:`list_files`.
        :param aws_conn_id: see :meth:`open`.
        :param exclude: a glob or a list of globs for files that do not count.
        :param left_out: counts the skipped folders and files.
        :param follow_links: see :meth:`list_files`.
        :raises AirflowException: if the path cannot be listed.
        """
        with airflow_errors():
            opener = self._opener(aws_conn_id, follow_links)
            return list_scans(opener, path_text(path), pattern, exclude=exclude, left_out=left_out)

    def snapshot_scans(
        self, paths: Sequence[str], aws_conn_id: str | None = "aws_default", *, follow_links: bool = False
    ) -> Iterator[Scan]:
        """Yield a snapshot of each of several folders.

        :param paths: the result of :meth:`list_scans`.
        :param aws_conn_id: see :meth:`open`.
        :param follow_links: see :meth:`list_files`.
        :raises AirflowException: if a folder cannot be listed.
        """
        with airflow_errors():
            opener = self._opener(aws_conn_id, follow_links)
            for path in paths:
                yield snapshot_scan(opener(path), path, time.time())

    def presigned_link(self, path: AnyPath, seconds: int, aws_conn_id: str | None = "aws_default") -> str:
        """Return a presigned URL of an object. It is a secret: anybody who has it can read the object.

        :param path: the object: ``s3://``, or a store whose library can sign URLs (``gs://``, ``abfs://``).
        :param seconds: how long the URL is valid.
        :param aws_conn_id: see :meth:`open`.
        :raises AirflowFailException: if the store cannot sign URLs, or the object does not exist.
        :raises AirflowException: if the store is not available at the moment.
        """
        with airflow_errors():
            location = self.open(path, aws_conn_id)
            link = getattr(location, "link", None)
            if link is None:
                raise SourceError(
                    f"{path} is a local file, and only object stores can create presigned URLs. "
                    "Upload it instead.",
                    path=path_text(path),
                )
            return str(link(seconds))

    def open_source(
        self,
        path: AnyPath,
        aws_conn_id: str | None = "aws_default",
        size: int | None = None,
        etag: str | None = None,
        modified: float | None = None,
    ) -> FileSource:
        """Open one file for reading.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param aws_conn_id: see :meth:`open`.
        :param size: the size in bytes that it must have.
        :param etag: the ETag that it must have.
        :param modified: the modification time that it must have, in seconds since the epoch. It is
            not checked in S3 and Google Cloud Storage.
        :raises SourceChangedError: if size, ETag or modification time are different.
        :raises SourceError: if the file does not exist or cannot be read.
        """
        location, found = self.find(path, aws_conn_id, size, etag, modified)
        return location.source(found)

    def conditions_text(self, pattern: Globs, exclude: Globs) -> str:
        """Return the conditions for files, to follow "No files in a folder"."""
        matching = f" that match {globs_text(pattern)}" if globs_text(pattern) else ""
        return matching + (f" without {globs_text(exclude)}" if globs_text(exclude) else "")

    def globs_text(self, globs: Globs) -> str:
        """Return one glob or several as text; empty if there are none."""
        return globs_text(globs)

    def flat_names(self, files: Sequence[FileInfo], names: str) -> Mapping[str, str]:
        """Return the name on the server of each file, by its path.

        :param files: the listed files.
        :param names: ``"path"`` or ``"basename"``, see :meth:`.Uploads.files`.
        :raises SourceError: if two files would have the same name.
        """
        return flat_names(((file.path, file.relative) for file in files), names)

    def inspector(self, mode: str, aws_conn_id: str | None = "aws_default") -> Inspector:
        """Return the inspector of one task.

        :param mode: ``"warn"``, ``"fail"`` or ``"off"``.
        :param aws_conn_id: see :meth:`open`.
        :raises ConfigurationError: if the mode is another one.
        """
        require_choice("inspect", mode, *INSPECT_MODES)
        return Inspector(self, mode, aws_conn_id)

    def find(
        self,
        path: AnyPath,
        aws_conn_id: str | None,
        size: int | None,
        etag: str | None,
        modified: float | None,
    ) -> tuple[Location, FileInfo]:
        """Return one file and its location; see :meth:`open_source`."""
        location = self.open(path, aws_conn_id)
        found = location.info()
        _check_as_listed(found.path, "size", size, found.size, _bytes_text)
        _check_as_listed(found.path, "ETag", etag and plain_etag(etag), found.etag, str)
        if found.modified is not None:
            _check_as_listed(found.path, "modification time", modified, found.modified, _time_text)
        return location, found

    def s3_client(self, aws_conn_id: str | None) -> Any:
        """Return the boto3 client of an AWS connection.

        :param aws_conn_id: the connection; with None, boto3 uses its own credentials.
        """
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        key = aws_conn_id or ""
        if key not in self._s3_clients:
            self._s3_clients[key] = S3Hook(aws_conn_id).get_conn()
        return self._s3_clients[key]

    def _in_store(self, path: str, scheme: str, rest: str) -> Location:
        authority, slash, _ = rest.partition("/")
        if scheme in OBJECT_STORES and not authority.rpartition("@")[2]:
            raise SourceError(
                f"{path} names no bucket; write it like {scheme}://connection@bucket/folder/.", path=path
            )
        if (scheme, authority) not in self._stores:
            fs = _file_system(path, scheme, authority)
            self._stores[scheme, authority] = Store(fs, scheme, authority)
        return StoreLocation(self._stores[scheme, authority], path if slash else f"{path}/")

    def _opener(self, aws_conn_id: str | None, follow_links: bool) -> Callable[[str], Location]:
        return lambda path: self.open(path, aws_conn_id, follow_links=follow_links)


def _check_as_listed(path: str, what: str, listed: T | None, found: T, text: Callable[[T], str]) -> None:
    """Check that a file has not changed since it was listed.

    :param what: the name of the compared value.
    :param listed: the value in the listing; None is not compared.
    :param found: the value now.
    :param text: formats a value.
    :raises SourceChangedError: if the values differ.
    """
    if listed is not None and listed != found:
        raise SourceChangedError(
            f"{path} had the {what} {text(listed)} when it was listed and has {text(found)} now. Clear the "
            "listing task and the session task, both with their downstream tasks, to start over."
        )


def _bytes_text(count: int) -> str:
    return count_text(count, "byte")


def _time_text(moment: float) -> str:
    """Return seconds since the epoch as a readable time, exact enough to show small differences."""
    return datetime.fromtimestamp(moment, UTC).isoformat(sep=" ")


def _file_system(path: str, scheme: str, authority: str) -> Any:
    """Return Airflow's file system for a path.

    :raises SourceError: if there is none, or its connection cannot be used.
    """
    conn_id, _, host = authority.rpartition("@")
    if host.endswith(AZURE_HOST):
        raise SourceError(
            f"{path} names the storage account, which belongs in the connection. Write it like {AZURE}.",
            path=path,
        )
    if scheme in VERBOSE_LOGGERS and not (logger := logging.getLogger(VERBOSE_LOGGERS[scheme])).level:
        logger.setLevel(logging.WARNING)
    try:
        return _attach()(protocol=scheme, conn_id=conn_id or None).fs
    except Exception as error:
        # No file system for the scheme, no library for it, or a path that our own file system refuses.
        if isinstance(error, (ImportError, ThreeSixtyError)) or "No filesystem registered" in str(error):
            advice = "" if isinstance(error, ThreeSixtyError) else ADVICE.get(scheme, OTHER_ADVICE)
            raise SourceError(f"{path} cannot be opened: {error}. {advice}".rstrip(), path=path) from error
        raise store_error(error, path, conn_id, opening=True) from error


def _attach() -> Callable[..., Any]:
    name = "airflow.sdk.io" if AIRFLOW_VERSION >= (3, 0) else "airflow.io.store"
    attach: Callable[..., Any] = import_module(name).attach
    return attach
