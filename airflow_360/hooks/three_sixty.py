"""Hook for the 360 API: reads the connection, opens sources, uploads, and translates errors for Airflow."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ContextDecorator, contextmanager
from functools import cached_property, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    BaseHook,
    mask_secret,
)

from airflow_360.exceptions import (
    AuthenticationError,
    ConfigurationError,
    NoReplyError,
    NotFoundError,
    QuotaError,
    ServerError,
    SourceChangedError,
    SourceError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadError,
    UploadSessionNotFoundError,
    some,
)
from airflow_360.get_provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_360.hooks.lineage import Lineage
from airflow_360.hooks.manifest import Manifest
from airflow_360.hooks.paths import Paths

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Semaphore

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import FileProgress
    from airflow_360.hooks.task_state import TaskState
    from airflow_360.sources import Listed, Location, Scan, Source
    from airflow_360.sources.listing import Globs, LeftOut
    from airflow_360.upload.engine import OnProgress
    from airflow_360.upload.ranges import ChunkSizer
#: A path as users write it.
AnyPath: TypeAlias = "str | os.PathLike[str] | ObjectStoragePath"
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

__all__ = [
    "DEFAULT_CONN_ID",
    "AnyPath",
    "ThreeSixtyHook",
    "UsesThreeSixty",
    "airflow_errors",
    "async_client",
    "check_literal",
    "client_from",
    "is_literal",
    "path_text",
    "required",
    "required_choice",
]

DEFAULT_CONN_ID = "three_sixty_default"
#: Seconds to wait for one reply in a connection test, because a person waits for the result.
PATIENCE_OF_A_PERSON = 15.0
DEFAULT_PORTS = {"http": "80", "https": "443"}
#: Template fields that accept paths.
PATH_FIELDS = ("path", "paths", "download_from")
#: Errors that the connection's settings, the server or the key, can cause.
OF_A_CONNECTION = (
    AuthenticationError,
    ConfigurationError,
    NoReplyError,
    QuotaError,
    ServerError,
    UnexpectedReplyError,
)

#: How many triggers of a triggerer set up at once: a thousand would block its event loop for a long time.
AT_ONCE = 4
_doors: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()


class ThreeSixtyHook(BaseHook):
    """A hook for a 360 server.

    :param three_sixty_conn_id: the connection; its host is the server's URL, its password the API key.
    """

    conn_name_attr = "three_sixty_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "three_sixty"
    hook_name = "360 for you"

    def __init__(self, three_sixty_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.three_sixty_conn_id = three_sixty_conn_id
        self._paths = Paths()
        #: The files that this hook moved, for lineage.
        self.lineage = Lineage(self)

    @cached_property
    def client(self) -> ThreeSixtyClient:
        """Return the synchronous API client; it raises this package's own errors.

        :raises ThreeSixtyError: if the connection has no key, or a field is wrong.
        """
        with _settings_of(self.three_sixty_conn_id):
            connection = self.get_connection(self.three_sixty_conn_id)
            return client_from(connection, connection.extra_dejson)

    def with_current_key(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Call the API, and call it again if the key was replaced during the call.

        A long upload may outlive its key: after a 401 the connection is read again.

        :param call: the function to call; it must continue from the server's number.
        :raises AuthenticationError: if the key is refused and the connection still has the same key.
        """
        used = self.client
        try:
            return call(used)
        except AuthenticationError as error:
            if error.status != 401:
                raise
            del self.client
            if self.client.has_key_of(used):
                raise
            self.log.warning(
                "The API key of connection %r was replaced. Continuing with the new one.",
                self.three_sixty_conn_id,
            )
            return call(self.client)

    def get_conn(self) -> ThreeSixtyClient:
        """Return the client; all hooks of Airflow have this method."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Check the server and the key, without creating anything on the server.

        :returns: whether an upload would work, and a message for people, which never contains the key.
        """
        from airflow_360.api.check import check

        try:
            with _settings_of(self.three_sixty_conn_id):
                connection = self.get_connection(self.three_sixty_conn_id)
                client = client_from(connection, connection.extra_dejson, patient=False)
            return check(client)
        except ThreeSixtyError as error:
            return False, str(error)

    def upload(
        self,
        upload_id: str,
        path: AnyPath,
        filename: str | None = None,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        on_progress: OnProgress | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
        modified: float | None = None,
        ask: bool = True,
        state: TaskState | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload one file into a session, or resume its upload; you can also call this inside a ``@task``.

        :param upload_id: the session.
        :param path: the file: local, ``s3://`` or any ``scheme://`` that Airflow's object storage opens.
        :param filename: its name on the server; by default that of the path. It is flattened.
        :param chunk_size: bytes of a chunk; by default it adapts to the line, so one takes a few seconds.
        :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
        :param on_progress: called with the server's numbers; by default they are logged every few seconds.
        :param size: the size in bytes that the file must have, from a listing.
        :param etag: the ETag that it must have.
        :param modified: the modification time that it must have, in seconds since the epoch.
        :param ask: whether to ask the server first for its number of bytes, for a file of at most one chunk.
        :param state: the task's saved state; used to verify that the source has not changed since the first
            attempt.
        :param manifest: True writes name, size and SHA-256 of the sent file to the log; a path writes them to
            a file, see :class:`~airflow_360.operators.upload.UploadFileOperator`.
        :returns: ``{filename, path, size}``; ``filename`` is the file's name on the server.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowException: if a retry may help.
        """
        from airflow_360.sources.names import flat_name
        from airflow_360.upload.progress import ProgressLog, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors(self.three_sixty_conn_id):
            own_path: str = path_text(path)
            required(upload_id=upload_id, path=own_path)
            is_listed = not (size is None and etag is None and modified is None)
            location, found = self._find(own_path, aws_conn_id, size, etag, modified)
            _check_readable([found])
            source = location.source(found)
            own_name = filename or own_path.rstrip("/").rpartition("/")[2]
            name = flat_name(own_name)
            self._warn_of_names([(own_name, name)])
            about = f"{upload_id} {name}"
            with _clear_the_listing_too(is_listed):
                begun = state is not None and _same_as_before(
                    state, about, own_path, source.fingerprint, [found]
                )
            self.log.info("%s: %s from %s to session %s", name, size_text(source.size), own_path, upload_id)
            chunks = ChunkSizer(_positive(chunk_size))
            keep = _shown(state, chunks, file=name, upload_id=upload_id)
            lines = ProgressLog(name, source.size, keep=keep)
            on_progress = on_progress or (lambda progress: lines.update(progress.received))
            rows = self._manifest(manifest, aws_conn_id)
            sent = rows.digested(source)
            with _clear_the_listing_too(is_listed), self._after_the_project(upload_id, about, state, begun):
                self._send(upload_id, sent, name, chunks, lines.begin, on_progress, ask)
                rows.add(name, sent)
                rows.finish(name, self.lineage, [own_path], self.client.session_url(upload_id))
        return {"filename": name, "path": own_path, "size": source.size}

    def upload_files(
        self,
        upload_id: str,
        files: Sequence[Listed],
        *,
        names: str = "path",
        parallel: int = 4,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        shards: int = 1,
        shard: int = 0,
        state: TaskState | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, int]:
        """Upload several files into a session in parallel, or resume their upload.

        :param upload_id: the session.
        :param files: the result of :meth:`list_files`.
        :param names: ``"path"`` joins the folders below the listed path with ``_`` into the name;
            ``"basename"`` uses only the last part.
        :param parallel: how many files to upload at the same time.
        :param chunk_size: see :meth:`upload`.
        :param aws_conn_id: see :meth:`upload`.
        :param shards: how many tasks share the files; each task gets the full list and uploads its part.
        :param shard: the number of this task, from 0.
        :param state: see :meth:`upload`; it contains one digest of the shard's files.
        :param manifest: see :meth:`upload`.
        :returns: ``{files, bytes}``.
        :raises AirflowFailException: if a retry cannot help; the message names each refused file.
        :raises AirflowException: if a retry may help.
        """
        from airflow_360.sources.listing import count_text
        from airflow_360.sources.names import flat_names, shard_of
        from airflow_360.upload.many import Job, upload_many
        from airflow_360.upload.progress import ProgressLog, duration_text, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors(self.three_sixty_conn_id):
            required(upload_id=upload_id)
            files = list({file.path: file for file in files}.values())
            flat = flat_names(((file.path, file.relative) for file in files), names)
            about = f"{upload_id} files"
            if shards > 1:
                counted = count_text(len(files), "file")
                self.log.info("Shard %d of %d, counted from 0, of %s", shard, shards, counted)
                files = [file for file in files if shard_of(flat[file.path], shards) == shard]
                about += f" of shard {shard} of {shards}"
            self._warn_of_names(
                [
                    (file.relative if names == "path" else file.path.rpartition("/")[2], flat[file.path])
                    for file in files
                ]
            )
            _check_readable(files)
            begun = state is not None and _same_as_before(state, about, "The folder", _digest(files), files)
            total = sum(file.size for file in files)
            counted = count_text(len(files), "file")
            self.log.info("%s, %s, to session %s", counted, size_text(total), upload_id)
            seconds, rows = _stopwatch(), self._manifest(manifest, aws_conn_id)
            jobs = [
                Job(flat[file.path], file.size, rows.opener(self._opener(file, aws_conn_id)), rows.add)
                for file in files
            ]
            chunks = ChunkSizer(_positive(chunk_size))
            keep = _shown(state, chunks, upload_id=upload_id)
            lines = ProgressLog(f"session {upload_id}", total, files=len(files), keep=keep)
            with self._after_the_project(upload_id, about, state, begun):
                try:
                    self.with_current_key(
                        lambda client: upload_many(
                            client,
                            upload_id,
                            jobs,
                            parallel=parallel,
                            chunks=chunks,
                            on_progress=lambda tally: lines.update(tally.received, tally.files),
                        )
                    )
                except UploadError as error:
                    if state:  # a person may remove the failed files and clear the task
                        left = [file for file in files if flat[file.path] not in error.failed]
                        state.set("source of", about, value=[_digest(files), _digest(left)])
                        state.set("inodes of", about, value=_inodes(files, left))
                    raise
                self.log.info(
                    "session %s: %s complete, %s in %s",
                    upload_id,
                    counted,
                    size_text(total),
                    duration_text(seconds()),
                )
                part = f"{upload_id}-{shard}-of-{shards}" if shards > 1 else upload_id
                paths = (file.path for file in files)
                rows.finish(part, self.lineage, paths, self.client.session_url(upload_id))
        return {"files": len(files), "bytes": total}

    def upload_archive(
        self,
        upload_id: str,
        files: Sequence[Listed],
        archive: str,
        *,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        state: TaskState | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, int]:
        """Upload several files into a session as one uncompressed zip, or resume its upload.

        The zip is computed while it is sent. To resume it, the checksums of the sent files are needed. They
        are saved in the task's state; without a state, these files are read again.

        :param upload_id: the session.
        :param files: the result of :meth:`list_files`; each file keeps its path below the listed folder.
        :param archive: the zip's name, which must end in ``.zip``. It is flattened.
        :param chunk_size: see :meth:`upload`.
        :param aws_conn_id: see :meth:`upload`.
        :param state: see :meth:`upload`.
        :param manifest: see :meth:`upload`; the zip is one file.
        :returns: ``{files, bytes}`` of the session: one file, and the bytes of the zip.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowException: if a retry may help.
        """
        from airflow_360.hooks.task_state import KeptChecksums, TaskState
        from airflow_360.sources.archive import ArchiveSource, Member
        from airflow_360.sources.listing import count_text
        from airflow_360.upload.progress import ProgressLog, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors(self.three_sixty_conn_id):
            required(upload_id=upload_id, archive=archive)
            name = _archive_name(archive)
            self._warn_of_names([(archive, name)])
            files = list({file.path: file for file in files}.values())
            _check_readable(files)
            source = ArchiveSource(name, [Member(file, self._opener(file, aws_conn_id)) for file in files])
            state, about = state or TaskState({}), f"{upload_id} {name}"
            begun = _same_as_before(state, about, f"The content of {name}", source.fingerprint, files)
            kept = KeptChecksums(state, about, source)
            self.log.info(
                "%s: %s, made of %s, to session %s",
                name,
                size_text(source.size),
                count_text(len(files), "file"),
                upload_id,
            )
            chunks = ChunkSizer(_positive(chunk_size))
            keep = _shown(state, chunks, file=name, upload_id=upload_id)
            lines = ProgressLog(name, source.size, keep=keep)

            def on_progress(progress: FileProgress) -> None:
                if not progress.complete:  # if it is complete, no checksum is needed any more
                    source.catch_up(progress.received)
                    kept.update()
                lines.update(progress.received)

            rows = self._manifest(manifest, aws_conn_id)
            sent = rows.digested(source)
            with self._after_the_project(upload_id, about, state, begun):
                try:
                    self._send(upload_id, sent, name, chunks, lines.begin, on_progress)
                except BaseException:
                    kept.save()
                    raise
                rows.add(name, sent)
                paths = (file.path for file in files)
                rows.finish(name, self.lineage, paths, self.client.session_url(upload_id))
        return {"files": 1, "bytes": source.size}

    @contextmanager
    def _after_the_project(
        self, upload_id: str, about: str, state: TaskState | None, begun: bool
    ) -> Iterator[None]:
        """Record that an upload is complete; tolerate a missing session if it became a project.

        A session may end when its project is created. If you clear an upload after that, the server can no
        longer check it.

        :param begun: whether saved state shows that an earlier attempt started this upload.
        :raises UploadSessionNotFoundError: if the session has no project, or this is the first attempt.
        :raises UploadError: if saved state shows that the upload was not complete.
        """
        complete = state is not None and begun and bool(state.get("complete", about))
        try:
            yield
        except UploadSessionNotFoundError:
            if state is None or state.attempt == 1 or not (page := self._page_of_session(upload_id)):
                raise
            if begun and not complete:
                raise UploadError(
                    f"Session {upload_id} became project {page}, and this upload was not complete. Clear the "
                    "session task to start over with all files."
                ) from None
            unchecked = "" if complete else " It could not be checked whether this upload is part of it."
            level = logging.INFO if complete else logging.WARNING
            self.log.log(level, "Session %s became project %s.%s", upload_id, page, unchecked)
            return
        if state and not complete:
            state.set("complete", about, value=True)

    def _page_of_session(self, upload_id: str) -> str | None:
        """Return the page of the project that a session became, or None."""
        try:
            return self.client.project_url(self.client.get_project(upload_id).name)
        except NotFoundError:
            return None

    def _send(
        self,
        upload_id: str,
        source: Source,
        name: str,
        chunks: ChunkSizer,
        on_begin: Callable[[int], None],
        on_progress: OnProgress,
        ask: bool = True,
    ) -> None:
        from airflow_360.upload.engine import upload
        from airflow_360.upload.many import saying_what_is_too_large
        from airflow_360.upload.progress import duration_text, size_text

        seconds, first = _stopwatch(), self.client
        unasked = not ask and source.size <= chunks.size
        with saying_what_is_too_large(name, source.size):
            self.with_current_key(
                lambda client: upload(
                    client,
                    upload_id,
                    source,
                    name,
                    chunks=chunks,
                    ask=not unasked or client is not first,
                    on_begin=on_begin,
                    on_progress=on_progress,
                )
            )
        self.log.info("%s: complete, %s in %s", name, size_text(source.size), duration_text(seconds()))

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
    ) -> list[Listed]:
        """Return the files of a path, which can be a file, folder, prefix or glob.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param pattern: a glob or a list of globs, case-insensitive; None selects all files. A glob without
            ``/`` must match the file's name, a glob with ``/`` its path below the folder.
        :param recursive: whether to enter subfolders. If not, a warning counts the files in them.
        :param aws_conn_id: see :meth:`upload`.
        :param exclude: a glob or a list of globs; matching files are skipped.
        :param left_out: counts the skipped files, which are logged as well.
        :param follow_links: whether to follow links that lead out of the folder. By default they are refused,
            because anybody who can write to the folder could upload any file that this worker can read.
        :raises AirflowException: if the path cannot be listed.
        """
        from airflow_360.sources.listing import list_files

        with airflow_errors(self.three_sixty_conn_id):
            opener = self._location_opener(aws_conn_id, follow_links)
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
        """Tell whether a path has any file; the listing stops at the first one.

        The parameters are those of :meth:`list_files`.

        :raises AirflowException: if the path cannot be listed.
        """
        from airflow_360.sources.listing import has_files

        with airflow_errors(self.three_sixty_conn_id):
            opener = self._location_opener(aws_conn_id, follow_links)
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
        :param aws_conn_id: see :meth:`upload`.
        :param exclude: a glob or a list of globs for files that do not count.
        :param left_out: counts the skipped folders and files.
        :param follow_links: see :meth:`list_files`.
        :raises AirflowException: if the path cannot be listed.
        """
        from airflow_360.sources.listing import list_scans

        with airflow_errors(self.three_sixty_conn_id):
            opener = self._location_opener(aws_conn_id, follow_links)
            return list_scans(opener, path_text(path), pattern, exclude=exclude, left_out=left_out)

    def _location_opener(self, aws_conn_id: str | None, follow_links: bool) -> Callable[[str], Location]:
        return lambda path: self.open_location(path, aws_conn_id, follow_links=follow_links)

    def look_at_scans(
        self, paths: Sequence[str], aws_conn_id: str | None = "aws_default", *, follow_links: bool = False
    ) -> Iterator[Scan]:
        """Yield a snapshot of each of several folders.

        :param paths: the result of :meth:`list_scans`.
        :param aws_conn_id: see :meth:`upload`.
        :param follow_links: see :meth:`list_files`.
        :raises AirflowException: if a folder cannot be listed.
        """
        import time

        from airflow_360.sources.listing import look_at_scan

        with airflow_errors(self.three_sixty_conn_id):
            opener = self._location_opener(aws_conn_id, follow_links)
            for path in paths:
                yield look_at_scan(opener(path), path, time.time())

    def open_source(
        self,
        path: AnyPath,
        aws_conn_id: str | None = "aws_default",
        size: int | None = None,
        etag: str | None = None,
        modified: float | None = None,
    ) -> Source:
        """Open one file for reading.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param aws_conn_id: see :meth:`upload`.
        :param size: the size in bytes that it must have.
        :param etag: the ETag that it must have.
        :param modified: the modification time that it must have, in seconds since the epoch. It is
            not checked in S3 and Google Cloud Storage.
        :raises SourceChangedError: if size, ETag or modification time are different.
        :raises SourceError: if the file does not exist or cannot be read.
        """
        location, found = self._find(path, aws_conn_id, size, etag, modified)
        return location.source(found)

    def _find(
        self,
        path: AnyPath,
        aws_conn_id: str | None,
        size: int | None,
        etag: str | None,
        modified: float | None,
    ) -> tuple[Location, Listed]:
        """Return one file and its location; see :meth:`open_source`."""
        from airflow_360.sources.file_info import plain_etag

        location = self.open_location(path, aws_conn_id)
        found = location.listed()
        _check_as_listed(found.path, "size", size, found.size, _bytes_text)
        _check_as_listed(found.path, "ETag", etag and plain_etag(etag), found.etag, str)
        if found.modified is not None:
            _check_as_listed(found.path, "modification time", modified, found.modified, _time_text)
        return location, found

    def open_location(
        self, path: AnyPath, aws_conn_id: str | None = "aws_default", *, follow_links: bool = False
    ) -> Location:
        """Open a path that a user wrote: a file or a folder.

        :param path: local, ``s3://[conn_id@]bucket/key`` or any ``scheme://`` of Airflow's object storage.
        :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
        :param follow_links: see :meth:`list_files`.
        :raises SourceError: if the path is empty or has no bucket.
        """
        text: str = path_text(path)
        required(path=text)
        return self._paths.open(text, aws_conn_id, follow_links=follow_links)

    def presigned_link(self, path: AnyPath, seconds: int, aws_conn_id: str | None = "aws_default") -> str:
        """Return a presigned URL of an object. It is a secret: anybody who has it can read the object.

        :param path: the object: ``s3://``, or a store whose library can sign URLs (``gs://``, ``abfs://``).
        :param seconds: how long the URL is valid.
        :param aws_conn_id: see :meth:`upload`.
        :raises AirflowFailException: if the store cannot sign URLs, or the object does not exist.
        :raises AirflowException: if the store is not available at the moment.
        """
        with airflow_errors(self.three_sixty_conn_id):
            location = self.open_location(path, aws_conn_id)
            link = getattr(location, "link", None)
            if link is None:
                raise SourceError(
                    f"{path} is a local file, and only object stores make links. Upload it instead.",
                    path=path_text(path),
                )
            return str(link(seconds))

    def _manifest(self, manifest: bool | str | None, aws_conn_id: str | None) -> Manifest:
        """Return the manifest; it does nothing if no manifest is wanted."""
        return Manifest(manifest, lambda conn_id: self._paths.s3_client(conn_id or aws_conn_id))

    def _opener(self, file: Listed, aws_conn_id: str | None) -> Callable[[], Source]:
        # Opened here, in the task's main thread: another thread must not look up an AWS connection.
        location = self.open_location(file.path, aws_conn_id)
        return lambda: location.source(file)

    def _warn_of_names(self, names: Sequence[tuple[str, str]]) -> None:
        from airflow_360.sources.names import KNOWN_EXTENSIONS, extension

        changed = [f"{name} is sent as {sent}" for name, sent in names if name != sent]
        if changed:
            self.log.info("%s", some(changed))
        if unknown := sorted({extension(sent) for _, sent in names} - KNOWN_EXTENSIONS):
            self.log.warning(
                "Not in the default list of allowed extensions: %s. The server may reject these files.",
                ", ".join(repr(item) if item else "files without an extension" for item in unknown),
            )

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2."""
        from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found,unused-ignore]
            BS3TextFieldWidget,
        )
        from wtforms import StringField  # type: ignore[import-untyped,unused-ignore]

        return {
            name: StringField(
                field["label"],
                widget=BS3TextFieldWidget(),
                description=field["description"],
                default=str(_default(name)),
            )
            for name, field in CONN_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows its standard fields, for Airflow before 3.2, in its spelling."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}


class UsesThreeSixty:
    """A mixin that gives an operator or a sensor its hook."""

    three_sixty_conn_id: str

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **more: Any
    ) -> None:
        """Render templates, except in mapped fields.

        Mapped values are data, like a file's name: a name that is rendered could read any connection. Airflow
        documents that mapped fields are not rendered, but 3.3 does render them.
        """
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[attr-defined]
        partial = getattr(task, "partial_kwargs", None)
        if partial is not None:
            template_fields = [field for field in template_fields if field in partial]
        super()._do_render_template_fields(parent, template_fields, *args, **more)  # type: ignore[misc]
        for field in PATH_FIELDS:
            if field in template_fields:  # an XCom, or a mapping of a task group, may contain a path
                setattr(parent, field, path_text(getattr(parent, field)))

    @cached_property
    def hook(self) -> ThreeSixtyHook:
        """Return the hook of this task's connection."""
        return ThreeSixtyHook(self.three_sixty_conn_id)


async def async_client(three_sixty_conn_id: str) -> ThreeSixtyClient:
    """Return a client for a trigger; it does not retry requests.

    :param three_sixty_conn_id: the connection; it is looked up without blocking the event loop.
    :raises ThreeSixtyError: if the connection is not defined or has no key, or a field is wrong.
    """
    import asyncio

    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    loop = asyncio.get_running_loop()
    async with _doors.setdefault(loop, asyncio.Semaphore(AT_ONCE)):
        with _settings_of(three_sixty_conn_id):
            connection = await get_async_connection(three_sixty_conn_id, hook=ThreeSixtyHook)
            extra = await get_async_extra_dejson(connection)
            # In a thread: it reads certificates and imports requests, which takes a fifth of a second.
            await _mask_key_in_trigger(connection)
        return await asyncio.to_thread(client_from, connection, extra, patient=False, mask=False)


def _shown(
    state: TaskState | None, chunks: ChunkSizer, **about: str
) -> Callable[[dict[str, Any]], None] | None:
    """Return a function that saves an upload's progress for the UI, or None if the task has no state."""
    if state is None:
        return None
    return lambda numbers: state.show(**numbers, **about, chunk_size=chunks.size)


def required(**values: Any) -> None:
    """Require that templates were rendered to a value.

    :raises ThreeSixtyError: if one is empty; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, str) or value.strip() in ("", "None"):  # a template renders None as "None"
            raise ThreeSixtyError(
                f"{name} came out as {value!r}: check its template, and that the task it comes from has run. "
                "If you marked that task as success, it returned nothing: clear it instead."
            )


def check_literal(name: str, value: Any, *allowed: str) -> None:
    """Refuse a wrong value while the DAG is parsed, unless the value is known only when the task runs.

    :param name: the parameter.
    :param value: the value in the DAG file; templates and outputs of tasks are accepted.
    :param allowed: the allowed values.
    :raises ValueError: if the value is not allowed; the message names the parameter and the allowed values.
    """
    if is_literal(value) and value not in allowed:
        raise ValueError(_choice_text(name, value, allowed))


def is_literal(value: Any) -> bool:
    """Tell whether a value is known while the DAG is parsed: neither a template nor the output of a task."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    return value is None or isinstance(value, (int, float))


def required_choice(name: str, value: Any, *allowed: str) -> None:
    """Require that a value, which may come from a template, is one of the allowed values.

    :raises ThreeSixtyError: if not; the message names the parameter and the allowed values.
    """
    if value not in allowed:
        raise ThreeSixtyError(_choice_text(name, value, allowed))


def _choice_text(name: str, value: Any, allowed: Sequence[str]) -> str:
    return f"{name} must be {' or '.join(repr(choice) for choice in allowed)}, not {value!r}."


def path_text(path: Any) -> Any:
    """Return a path as text; a value that is not known before the task runs is returned unchanged.

    :param path: a text, a ``Path``, an ``ObjectStoragePath``, or a list of them.
    """
    if isinstance(path, (list, tuple)):
        return [path_text(item) for item in path]
    # By name, because the import takes half a second. Before Airflow 3, str(path) omits the connection.
    if any(kind.__name__ == "ObjectStoragePath" for kind in type(path).__mro__):
        return str(path.serialize()["path"])
    return os.fspath(path) if isinstance(path, os.PathLike) else path


@contextmanager
def _settings_of(conn_id: str) -> Iterator[None]:
    """Add the connection's ID to errors in its settings."""
    try:
        yield
    except AirflowNotFoundException:
        raise ThreeSixtyError(
            f'There is no connection {conn_id!r}: create it in Airflow with the type "360 for you".'
        ) from None
    except ThreeSixtyError as error:
        raise ThreeSixtyError(f"Connection {conn_id!r}: {error}") from None


class airflow_errors(ContextDecorator):  # noqa: N801 - used like a function, as contextlib's own are
    """A context manager that turns this package's errors into Airflow's; also a decorator for methods.

    :param conn_id: the connection; errors that it can cause name it. A decorated method uses the connection
        of its object.
    :raises AirflowFailException: for permanent errors, so that no retry is spent.
    :raises AirflowException: for errors that a retry may fix, so that Airflow retries the task.
    """

    def __init__(self, conn_id: str | None = None) -> None:
        self._conn_id = conn_id

    def __call__(self, method: Method) -> Method:
        """Decorate a method."""

        @wraps(method)
        def translating(own: Any, *args: Any, **more: Any) -> Any:
            with airflow_errors(getattr(own, "three_sixty_conn_id", self._conn_id)):
                return method(own, *args, **more)

        return cast("Method", translating)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ThreeSixtyError):
            airflow_kind = AirflowException if error.retryable else AirflowFailException
            raise airflow_kind(f"{error}{_connection_of(error, self._conn_id)}") from error


def _connection_of(error: ThreeSixtyError, conn_id: str | None) -> str:
    """Return a sentence that names the connection if it can be the cause of an error, else nothing."""
    about_connection = isinstance(error, OF_A_CONNECTION) or isinstance(error.__cause__, OF_A_CONNECTION)
    if conn_id is None or not about_connection or repr(conn_id) in str(error):
        return ""
    return f" The connection is {conn_id!r}."


def client_from(
    connection: Any, extra: Mapping[str, Any], *, patient: bool = True, mask: bool = True
) -> ThreeSixtyClient:
    """Return a client for a connection.

    :param connection: Airflow's connection: host (the server's URL), schema, port, password (the key).
    :param extra: its extra fields; the caller reads them, because a trigger must read them asynchronously.
    :param patient: whether to retry requests that are safe to retry, with the timeouts of the connection. If
        False, there are no retries and no timeout is longer than :data:`PATIENCE_OF_A_PERSON`.
    :param mask: whether to mask the key in logs. False in a trigger, which must mask it asynchronously.
    :raises ThreeSixtyError: if the key is missing or a field is wrong.
    """
    from airflow import __version__ as airflow_version

    from airflow_360.api.backoff import Backoff
    from airflow_360.api.bandwidth import shared_bandwidth
    from airflow_360.api.budget import shared_budget
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.transport import Transport, server_url

    if mask and (unmasked := _unmasked_key(connection)):
        mask_secret(unmasked)
    server, key = server_url(_server(connection)), _key(connection)
    longest = math.inf if patient else PATIENCE_OF_A_PERSON
    transport = Transport(
        server,
        key,
        connect_timeout=min(_seconds(extra, "connect_timeout"), longest),
        read_timeout=min(_seconds(extra, "read_timeout"), longest),
        reply_timeout=None if patient else PATIENCE_OF_A_PERSON,
        verify=_verify(extra),
        user_agent=f"apache-airflow/{airflow_version}",
        budget=shared_budget(server, key, _factor(extra)),
    )
    wait = _seconds(extra, "rate_limit_wait")
    backoff = Backoff(longest_rate_limit_wait=wait)
    limit = _limit(extra)
    bandwidth = shared_bandwidth(transport.server, limit) if limit else None
    return ThreeSixtyClient(transport, backoff if patient else Backoff(tries=0), bandwidth)


def _key(connection: Any) -> str:
    return (connection.password or "").strip()


def _unmasked_key(connection: Any) -> str:
    """Return the key if the password has spaces around it: Airflow masks the password with its spaces."""
    key = _key(connection)
    return key if key != connection.password else ""


async def _mask_key_in_trigger(connection: Any) -> None:
    """Mask the key as :func:`client_from` does, without blocking the event loop.

    Airflow before 3.2 cannot do this in a trigger: there, the key is redacted only from the server's replies.
    """
    if unmasked := _unmasked_key(connection):
        try:
            from airflow.sdk.log import amask_secret
        except ImportError:
            return
        await amask_secret(unmasked)


def _server(connection: Any) -> str:
    from airflow_360.api.transport import DEFAULT_SERVER

    host = (connection.host or DEFAULT_SERVER).strip()
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    default = str(connection.port) == DEFAULT_PORTS.get(scheme)
    if connection.port and not default and not authority.rpartition("]")[2].partition(":")[2]:
        authority = f"{authority.rstrip(':')}:{connection.port}"
    return f"{scheme}://{authority}{slash}{path}"


def _field(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    return str(_default(name) if value in (None, "") else value).strip()


def _default(name: str) -> Any:
    schema: Any = CONN_FIELDS[name]["schema"]
    return schema["default"]


def _seconds(extra: Mapping[str, Any], name: str) -> float:
    try:
        seconds = float(_field(extra, name))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ThreeSixtyError(f"The extra field {name!r} must be a number of seconds above 0.")
    return seconds


def _limit(extra: Mapping[str, Any]) -> float:
    try:
        limit = float(_field(extra, "bandwidth_limit"))
    except ValueError:
        limit = -1.0
    if not (limit == 0 or 1024 <= limit < 1e15):
        raise ThreeSixtyError(
            "The extra field 'bandwidth_limit' must be a number of bytes a second, at least "
            "1024, or 0 for no limit."
        )
    return limit


def _factor(extra: Mapping[str, Any]) -> float | None:
    text = _field(extra, "rate_limits")
    if text.lower() in ("off", "false"):
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise ThreeSixtyError(f"The extra field 'rate_limits' must be a number above 0 or off, not {text!r}.")
    return factor


def _verify(extra: Mapping[str, Any]) -> bool | str:
    text = _field(extra, "verify")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not Path(text).exists():
        raise ThreeSixtyError(
            f"The extra field 'verify' must be true, false or a certificate file, not {text}."
        )
    return text


def _positive(chunk_size: int | None) -> int | None:
    if chunk_size is not None and chunk_size < 1:
        raise ThreeSixtyError(f"chunk_size must be at least 1 byte, not {chunk_size}.")
    return chunk_size


def _archive_name(archive: str) -> str:
    from airflow_360.sources.names import extension, flat_name

    if extension(name := flat_name(archive)) != "zip":
        raise ThreeSixtyError(f"archive must be a file name that ends in .zip, not {archive!r}.")
    return name


def _same_as_before(
    state: TaskState, about: str, what: str, fingerprint: str, files: Sequence[Listed]
) -> bool:
    """Check that a later attempt sends the same bytes as the first one; return False for the first attempt.

    :param fingerprint: identifies the bytes on any machine.
    :param files: the files that contain the bytes.
    """
    before, here = state.get("source of", about), _inodes(files)
    host, digests = state.get("inodes of", about) or ("", [])
    replaced = host == here[0] and not {*here[1]} <= {*digests}
    if before is not None and (fingerprint not in before or replaced):
        raise SourceChangedError(
            f"{what} changed since this upload started: files were modified, added or removed. Nothing more "
            "was sent. Clear the session task to start over."
        )
    if before is None:
        state.set("source of", about, value=[fingerprint])
    if host != here[0]:
        state.set("inodes of", about, value=here)
    return before is not None


def _inodes(*choices: Sequence[Listed]) -> list[Any]:
    """Return this machine's name and digests of the inodes and change times of local files, as plain JSON.

    Another machine may see other values for the same files. Only the machine that saved them compares them.

    :param choices: lists of files; a later attempt may find exactly the files of any one of them.
    """
    import hashlib
    import socket

    lines = [sorted(f"{file.path} {file.local}" for file in files if file.local) for files in choices]
    texts = ["\n".join(some).encode("utf-8", "surrogateescape") for some in lines if some]
    return [socket.gethostname() if texts else "", [hashlib.sha256(text).hexdigest() for text in texts]]


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


@contextmanager
def _clear_the_listing_too(is_listed: bool) -> Iterator[None]:
    """Add to a changed-source error that the listing task, which has old results, must be cleared too."""
    try:
        yield
    except SourceChangedError as error:
        if not is_listed:
            raise
        raise SourceChangedError(
            f"{error} The file came from a listing: clear the listing task too, with its downstream tasks.",
            filename=error.filename,
            received=error.received,
            total=error.total,
        ) from error


def _bytes_text(count: int) -> str:
    from airflow_360.sources.listing import count_text

    return count_text(count, "byte")


def _time_text(moment: float) -> str:
    """Return seconds since the epoch as a readable time, exact enough to show small differences."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).isoformat(sep=" ")


def _check_readable(files: Sequence[Listed]) -> None:
    """Fail before the first byte, and not hours later, if this worker may not read some local files."""
    local = [file.path for file in files if "://" not in file.path]
    if unreadable := [path for path in local if not os.access(path, os.R_OK)]:
        raise SourceError(
            f"This worker may not read {some(unreadable, ', ')}. Nothing was sent: fix the permissions, or "
            "leave the files out with exclude."
        )


def _digest(files: Sequence[Listed]) -> str:
    import hashlib

    lines = sorted(f"{file.path} {file.size} {file.etag} {file.modified}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _stopwatch() -> Callable[[], float]:
    import time

    began = time.monotonic()
    return lambda: time.monotonic() - began
