"""The list of sent files with their SHA-256: for the task's log, for lineage, and as a file.

Rows are collected in a temporary file while the files are uploaded. At the end, the complete manifest is
written to its target.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_360.exceptions import SourceError
from airflow_360.runtime.lineage import MAX_LISTED_SOURCES, uri_of
from airflow_360.sources.digest import DigestedSource
from airflow_360.sources.s3_path import parse_s3_path
from airflow_360.values import is_unset

if TYPE_CHECKING:
    from airflow_360.sources import Source

__all__ = ["Manifest"]

log = logging.getLogger(__name__)

COLUMNS = ("filename", "size", "sha256", "path")
MAX_STEM_CHARACTERS = 200  # leaves room for a digest, the extension and the temporary name
DIGEST_CHARACTERS = 12


class Manifest:
    """The rows of a manifest, one per file. If no manifest is wanted, it does nothing.

    :param wanted: True for the log; a path for a file, or for a folder if it ends with ``/``; None or False
        for no manifest.
    :param s3_client: returns the client of a connection, or of the default connection if the name is empty.
    """

    def __init__(self, wanted: bool | str | None, s3_client: Callable[[str], Any]) -> None:
        self._wanted = not is_unset(wanted) and wanted not in (False, "False")
        self._path = wanted if isinstance(wanted, str) and wanted != "True" else None
        self._s3_client = s3_client
        self._lock = threading.Lock()
        self._names: set[str] = set()
        #: SHA-256 by path: of as many files as lineage lists individually, and of the manifest itself.
        self.sha256: dict[str, str] = {}

    def digested(self, source: Source) -> Source:
        """Return a source whose SHA-256 is computed while it is read."""
        if not self._wanted:
            return source
        return DigestedSource(source)

    def opener(self, open_source: Callable[[], Source]) -> Callable[[], Source]:
        """Return a function that opens a source with :meth:`digested`."""
        return (lambda: self.digested(open_source())) if self._wanted else open_source

    def add(self, filename: str, source: Source) -> None:
        """Add a file that is complete on the server; safe to call from any thread, and more than once.

        :param filename: its name on the server.
        :param source: its bytes, from :meth:`digested`.
        """
        if not self._wanted or filename in self._names:
            return
        assert isinstance(source, DigestedSource)
        digest = source.digest()
        with self._lock:
            if filename in self._names:
                return
            self._names.add(filename)
            if len(self.sha256) < MAX_LISTED_SOURCES:
                self.sha256[source.path] = digest
            self._row(filename, str(source.size), digest, uri_of(source.path))

    def finish(self, name: str) -> str | None:
        """Write the manifest, and return its path if it is a file; call it in the task's main thread.

        :param name: the name of the manifest in a folder, without ``.csv``. It is flattened, because the
            server chose it.
        :raises SourceError: if the manifest cannot be written. The uploaded files are complete on the server
            then.
        """
        if not self._wanted:
            return None
        with self._file as file:
            if self._path is None:
                self._log()
                return None
            path = f"{self._path}{_file_name(name)}" if self._path.endswith("/") else self._path
            file.seek(0)
            digest = hashlib.file_digest(cast("io.BufferedRandom", file), "sha256").hexdigest()
            file.seek(0)
            try:
                self._write(file, path)
            except Exception as error:
                raise SourceError(
                    f"The manifest {path} could not be written: {type(error).__name__}: {error}. All "
                    "files are complete on the server; the next attempt reads them again for the manifest.",
                    path=path,
                    retryable=True,
                ) from error
            log.info("Manifest of %s files: %s, SHA-256 %s", f"{len(self._names):,}", path, digest)
            self.sha256[path] = digest
            return path

    @cached_property
    def _file(self) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by finish, or with the manifest)
        file.write((",".join(COLUMNS) + "\n").encode())
        return file

    def _row(self, *values: str) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue().encode("utf-8", "surrogateescape"))

    def _log(self) -> None:
        self._file.seek(0)
        for row in csv.DictReader(line.decode("utf-8", "surrogateescape") for line in self._file):
            log.info("Sent %(filename)s: %(size)s bytes, SHA-256 %(sha256)s", row)

    def _write(self, file: IO[bytes], path: str) -> None:
        if s3 := parse_s3_path(path):
            self._s3_client(s3.conn_id).upload_fileobj(file, s3.bucket, s3.key)
        elif "://" in path:
            from airflow.providers.common.compat.sdk import ObjectStoragePath

            remote = ObjectStoragePath(path)
            try:
                target = remote.open("wb")
            except FileNotFoundError:  # a store of files, not of objects
                remote.parent.mkdir(parents=True, exist_ok=True)
                target = remote.open("wb")
            with target:
                shutil.copyfileobj(file, target)
        else:
            local = Path(path).expanduser()
            local.parent.mkdir(parents=True, exist_ok=True)
            part = local.with_name(f".{local.name}.{os.getpid()}")
            try:
                with part.open("wb") as target:
                    shutil.copyfileobj(file, target)
                part.replace(local)
            finally:
                part.unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """Return the file name of a manifest: a single part of a path, and a different one for each name."""
    flat = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:MAX_STEM_CHARACTERS].lstrip(".")
    if flat != name or not flat:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
        flat = f"{flat}-{digest}"
    return f"{flat}.csv"
