"""The only place that reads a 360 connection, turns a path into a source, and speaks to Airflow of errors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
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
    NotFoundError,
    SourceChangedError,
    SourceError,
    ThreeSixtyError,
    UploadError,
    UploadSessionNotFoundError,
    some,
)
from airflow_360.get_provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_360.hooks.lineage import Lineage
from airflow_360.hooks.manifest import Manifest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Semaphore

    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import FileProgress
    from airflow_360.hooks.task_state import TaskState
    from airflow_360.sources import Listed, Location, Scan, Source
    from airflow_360.upload.engine import OnProgress
    from airflow_360.upload.ranges import ChunkSizer

T = TypeVar("T")

__all__ = [
    "DEFAULT_CONN_ID",
    "ThreeSixtyHook",
    "UsesThreeSixty",
    "airflow_errors",
    "async_client",
    "client_from",
    "required",
]

DEFAULT_CONN_ID = "three_sixty_default"
#: Seconds for which a person who pressed Test is kept waiting for one reply.
PATIENCE_OF_A_PERSON = 15.0
DEFAULT_PORTS = {"http": "80", "https": "443"}

#: How many triggers of a triggerer begin at a time: a thousand at once would hold its event loop for long.
AT_ONCE = 4
_doors: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()


class ThreeSixtyHook(BaseHook):
    """Connect to a 360 server.

    :param three_sixty_conn_id: the connection: its host is the server's URL, its password the API key.
    """

    conn_name_attr = "three_sixty_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "three_sixty"
    hook_name = "360 for you"

    def __init__(self, three_sixty_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.three_sixty_conn_id = three_sixty_conn_id
        self._s3_clients: dict[str, Any] = {}
        #: What was moved by this hook, for collectors of lineage.
        self.lineage = Lineage(self)

    @cached_property
    def client(self) -> ThreeSixtyClient:
        """Return the synchronous API client; it raises this package's own errors.

        :raises ThreeSixtyError: when the connection lacks a key, or a field is wrong.
        """
        with _defined(self.three_sixty_conn_id):
            connection = self.get_connection(self.three_sixty_conn_id)
        return client_from(connection, connection.extra_dejson)

    def with_current_key(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Call the API, and once more where the key was replaced meanwhile.

        A long upload may outlive its key: after a 401 the connection is read once more.

        :param call: what to do; it goes on where the server stands.
        :raises AuthenticationError: when the key is refused and is still the connection's.
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
            self.log.warning("The connection's key was replaced meanwhile: going on with the new one.")
            return call(self.client)

    def get_conn(self) -> ThreeSixtyClient:
        """Return the client, under the name that Airflow's hooks share."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether server and key are good for an upload, and what is wrong if not; creates nothing.

        :returns: whether they are, and a text for people, which never holds the key.
        """
        from airflow_360.api.check import check

        try:
            with _defined(self.three_sixty_conn_id):
                connection = self.get_connection(self.three_sixty_conn_id)
            return check(client_from(connection, connection.extra_dejson, patient=False))
        except ThreeSixtyError as error:
            return False, str(error)

    def upload(
        self,
        upload_id: str,
        path: str,
        filename: str | None = None,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        on_progress: OnProgress | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
        ask: bool = True,
        state: TaskState | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload one file into a session, resuming where the server stands; also for use inside a ``@task``.

        :param upload_id: the session.
        :param path: the file: local, ``s3://`` or any ``scheme://`` that Airflow's object storage opens.
        :param filename: its name on the server; by default that of the path. It is made flat.
        :param chunk_size: bytes of a chunk; by default it follows the line, so that one takes some seconds.
        :param aws_conn_id: the connection for ``s3://`` paths that name none themselves.
        :param on_progress: called with the server's numbers; by default they are logged every few seconds.
        :param size: bytes that the file must have, as a listing found them.
        :param etag: the ETag that it must have.
        :param ask: whether to ask first what the server holds of a file of at most one chunk.
        :param state: what the task remembers: that the bytes are those of its first attempt is checked by it.
        :param manifest: True writes name, size and SHA-256 of what was sent into the log; a path writes them
            there, see :class:`~airflow_360.operators.upload.UploadFileOperator`.
        :returns: ``{filename, path, size}``; ``filename`` is the name that the server holds.
        :raises AirflowFailException: when trying again is of no use.
        :raises AirflowException: when it may be of use.
        """
        from airflow_360.sources.names import flat_name
        from airflow_360.upload.progress import ProgressLog, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors():
            required(upload_id=upload_id, path=path)
            source = self.open_source(path, aws_conn_id, size, etag)
            own_name = filename or path.rstrip("/").rpartition("/")[2]
            name = flat_name(own_name)
            self._warn_of_names([(own_name, name)])
            about = f"{upload_id} {name}"
            begun = state is not None and _same_as_before(state, about, path, source.fingerprint)
            self.log.info("%s: %s from %s to session %s", name, size_text(source.size), path, upload_id)
            chunks = ChunkSizer(_positive(chunk_size))
            keep = _shown(state, chunks, file=name, upload_id=upload_id)
            lines = ProgressLog(name, source.size, keep=keep)
            on_progress = on_progress or (lambda progress: lines.update(progress.received))
            rows = self._manifest(manifest, aws_conn_id)
            sent = rows.digested(source)
            with self._after_the_project(upload_id, about, state, begun):
                self._send(upload_id, sent, name, chunks, lines.begin, on_progress, ask)
                rows.add(name, sent)
                rows.finish(name, self.lineage, [path], self.client.session_url(upload_id))
        return {"filename": name, "path": path, "size": source.size}

    def upload_files(
        self,
        upload_id: str,
        files: Sequence[Listed],
        *,
        names: str = "basename",
        parallel: int = 4,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        shards: int = 1,
        shard: int = 0,
        state: TaskState | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, int]:
        """Upload several files into a session side by side, resuming where the server stands.

        :param upload_id: the session.
        :param files: what :meth:`list_files` returned.
        :param names: ``"basename"``, or ``"path"`` to join folders into the name.
        :param parallel: how many files at a time.
        :param chunk_size: see :meth:`upload`.
        :param aws_conn_id: see :meth:`upload`.
        :param shards: how many tasks share the files; each is given all of them, and takes its own.
        :param shard: which of them this is, from 0.
        :param state: see :meth:`upload`; one digest of the shard's files is kept.
        :param manifest: see :meth:`upload`.
        :returns: ``{files, bytes}``.
        :raises AirflowFailException: when trying again is of no use, naming each file that was refused.
        :raises AirflowException: when it may be of use.
        """
        from airflow_360.sources.names import flat_names, shard_of
        from airflow_360.upload.many import Job, upload_many
        from airflow_360.upload.progress import ProgressLog, duration_text, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors():
            required(upload_id=upload_id)
            files = list({file.path: file for file in files}.values())
            flat = flat_names(((file.path, file.relative) for file in files), names)
            about = f"{upload_id} files"
            if shards > 1:
                self.log.info("Shard %d of %d, counted from 0, of %s files", shard, shards, f"{len(files):,}")
                files = [file for file in files if shard_of(flat[file.path], shards) == shard]
                about += f" of shard {shard} of {shards}"
            self._warn_of_names([(file.path.rpartition("/")[2], flat[file.path]) for file in files])
            _check_readable(files)
            begun = state is not None and _same_as_before(state, about, "The folder", _digest(files))
            total = sum(file.size for file in files)
            self.log.info("%s files, %s, to session %s", f"{len(files):,}", size_text(total), upload_id)
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
                    if state:  # a person may take the files that failed away, and clear the task
                        left = [file for file in files if flat[file.path] not in error.failed]
                        state.set("source of", about, value=[_digest(files), _digest(left)])
                    raise
                self.log.info(
                    "session %s: %s files complete, %s in %s",
                    upload_id,
                    f"{len(files):,}",
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
        """Upload several files into a session as one stored zip, resuming where the server stands.

        The zip is computed while it is sent. What resuming it takes to know of the files that were sent is
        kept in the task's state; without one it is read again.

        :param upload_id: the session.
        :param files: what :meth:`list_files` returned; each is called in the zip as it lies below its folder.
        :param archive: the zip's name, which ends in ``.zip``. It is made flat.
        :param chunk_size: see :meth:`upload`.
        :param aws_conn_id: see :meth:`upload`.
        :param state: see :meth:`upload`.
        :param manifest: see :meth:`upload`; the zip is one file.
        :returns: ``{files, bytes}`` as the session holds them: one file, and the bytes of the zip.
        :raises AirflowFailException: when trying again is of no use.
        :raises AirflowException: when it may be of use.
        """
        from airflow_360.hooks.task_state import KeptChecksums, TaskState
        from airflow_360.sources.archive import ArchiveSource, Member
        from airflow_360.upload.progress import ProgressLog, size_text
        from airflow_360.upload.ranges import ChunkSizer

        with airflow_errors():
            required(upload_id=upload_id, archive=archive)
            name = _archive_name(archive)
            self._warn_of_names([(archive, name)])
            files = list({file.path: file for file in files}.values())
            _check_readable(files)
            source = ArchiveSource(name, [Member(file, self._opener(file, aws_conn_id)) for file in files])
            state, about = state or TaskState({}), f"{upload_id} {name}"
            begun = _same_as_before(state, about, f"What {name} is made of", source.fingerprint)
            kept = KeptChecksums(state, about, source)
            self.log.info(
                "%s: %s, made of %s files, to session %s",
                name,
                size_text(source.size),
                f"{len(files):,}",
                upload_id,
            )
            chunks = ChunkSizer(_positive(chunk_size))
            keep = _shown(state, chunks, file=name, upload_id=upload_id)
            lines = ProgressLog(name, source.size, keep=keep)

            def on_progress(progress: FileProgress) -> None:
                if not progress.complete:  # else nothing is sent that would need it
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
        """Record that an upload is complete; if its session is gone because it became a project, accept that.

        Creating a project may end its session. An upload that is cleared after that cannot be checked on the
        server any more.

        :param begun: whether saved state shows that an earlier attempt began this upload.
        :raises UploadSessionNotFoundError: if there is no project of the session, or this is a first attempt.
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
        from airflow_360.upload.progress import duration_text, size_text

        seconds, first = _stopwatch(), self.client
        unasked = not ask and source.size <= chunks.size
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
        path: str,
        pattern: str | None = None,
        recursive: bool = False,
        aws_conn_id: str | None = "aws_default",
    ) -> list[Listed]:
        """Return the files that a path means: a file, folder, prefix or glob.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param pattern: a glob for the files' names.
        :param recursive: whether to enter folders below.
        :param aws_conn_id: see :meth:`upload`.
        :raises AirflowException: when it cannot be listed.
        """
        from airflow_360.sources.listing import list_files

        with airflow_errors():
            return list_files(lambda p: self.open_location(p, aws_conn_id), path, pattern, recursive)

    def list_scans(
        self, path: str, pattern: str | None = None, aws_conn_id: str | None = "aws_default"
    ) -> list[str]:
        """Return the paths of the folders directly below a path that hold files.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param pattern: a glob for the names of the files that count.
        :param aws_conn_id: see :meth:`upload`.
        :raises AirflowException: when it cannot be listed.
        """
        from airflow_360.sources.listing import list_scans

        with airflow_errors():
            return list_scans(lambda p: self.open_location(p, aws_conn_id), path, pattern)

    def look_at_scans(self, paths: Sequence[str], aws_conn_id: str | None = "aws_default") -> Iterator[Scan]:
        """Yield what each of several folders holds at the moment.

        :param paths: what :meth:`list_scans` returned.
        :param aws_conn_id: see :meth:`upload`.
        :raises AirflowException: when one cannot be listed.
        """
        import time

        from airflow_360.sources.listing import look_at_scan

        with airflow_errors():
            for path in paths:
                yield look_at_scan(self.open_location(path, aws_conn_id), path, time.time())

    def open_source(
        self,
        path: str,
        aws_conn_id: str | None = "aws_default",
        size: int | None = None,
        etag: str | None = None,
    ) -> Source:
        """Open one file's bytes.

        :param path: local, ``s3://`` or any ``scheme://``.
        :param aws_conn_id: see :meth:`upload`.
        :param size: bytes that it must have.
        :param etag: the ETag that it must have.
        :raises SourceChangedError: when size or ETag are others.
        :raises SourceError: when there is no such file, or it cannot be read.
        """
        from airflow_360.sources.errors import check_unchanged

        location = self.open_location(path, aws_conn_id)
        found = location.listed()
        check_unchanged(path, "size", size, found.size)
        check_unchanged(path, "ETag", etag and etag.strip('"'), found.etag)
        return location.source(found)

    def open_location(self, path: str, aws_conn_id: str | None = "aws_default") -> Location:
        """Open a path that a user wrote: a file or a folder.

        :param path: local, ``s3://[conn_id@]bucket/key`` or any ``scheme://`` of Airflow's object storage.
        :param aws_conn_id: the connection for ``s3://`` paths that name none themselves.
        :raises SourceError: when the path is empty or names no bucket.
        """
        from airflow_360.sources.path import PathLocation, open_object_storage

        required(path=path)
        scheme, remote, rest = path.partition("://")
        if not remote:
            return PathLocation(Path(path).expanduser().absolute())
        if scheme not in ("s3", "s3a", "s3n"):
            from airflow.providers.common.compat.sdk import ObjectStoragePath

            return open_object_storage(ObjectStoragePath, path)
        from airflow_360.sources.s3 import S3Location

        authority, _, key = rest.partition("/")
        conn_id, _, bucket = authority.rpartition("@")
        if not bucket:
            raise SourceError(f"{path} names no bucket; write it like s3://bucket/folder/.", path=path)
        return S3Location(self._s3_client(conn_id or aws_conn_id), authority, key)

    def presigned_link(self, path: str, seconds: int, aws_conn_id: str | None = "aws_default") -> str:
        """Return a URL by which anybody can read an object in S3 for some time: a secret.

        :param path: the object, ``s3://[conn_id@]bucket/key``.
        :param seconds: how long the URL is valid.
        :param aws_conn_id: see :meth:`upload`.
        :raises AirflowFailException: when the path is none of S3, or there is no such object.
        :raises AirflowException: when the store cannot be asked at the moment.
        """
        from airflow_360.sources.s3 import S3Location

        with airflow_errors():
            location = self.open_location(path, aws_conn_id)
            if not isinstance(location, S3Location):
                raise SourceError(f"{path} does not begin with s3://, and only S3 makes links.", path=path)
            return location.link(seconds)

    def _s3_client(self, aws_conn_id: str | None) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        key = aws_conn_id or ""
        if key not in self._s3_clients:
            self._s3_clients[key] = S3Hook(aws_conn_id).get_conn()
        return self._s3_clients[key]

    def _manifest(self, manifest: bool | str | None, aws_conn_id: str | None) -> Manifest:
        """Return what collects the rows of a manifest, or does nothing where none is wanted."""
        return Manifest(manifest, lambda conn_id: self._s3_client(conn_id or aws_conn_id))

    def _opener(self, file: Listed, aws_conn_id: str | None) -> Callable[[], Source]:
        # Opened here, in the task's main thread: an AWS connection must not be looked up in another.
        location = self.open_location(file.path, aws_conn_id)
        return lambda: location.source(file)

    def _warn_of_names(self, names: Sequence[tuple[str, str]]) -> None:
        from airflow_360.sources.names import KNOWN_EXTENSIONS, extension

        changed = [f"{name} is sent as {sent}" for name, sent in names if name != sent]
        if changed:
            self.log.info("%s", some(changed))
        if unknown := sorted({extension(sent) for _, sent in names} - KNOWN_EXTENSIONS):
            self.log.warning(
                "A default server does not take files with the extension %s; this one decides for itself.",
                ", ".join(repr(item) for item in unknown),
            )

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow before 3.2."""
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
        """Return how the form's own fields are shown, for Airflow before 3.2, which spells the names so."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}


class UsesThreeSixty:
    """Give an operator or a sensor its hook."""

    three_sixty_conn_id: str

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **more: Any
    ) -> None:
        """Render templates, but never what came out of a mapping.

        Such values are data, like a file's name: rendered, a name could read any connection. Airflow
        documents that mapped fields are not rendered, and 3.3 does render them.
        """
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[attr-defined]
        partial = getattr(task, "partial_kwargs", None)
        if partial is not None:
            template_fields = [field for field in template_fields if field in partial]
        super()._do_render_template_fields(parent, template_fields, *args, **more)  # type: ignore[misc]

    @cached_property
    def hook(self) -> ThreeSixtyHook:
        """Return the hook of this task's connection."""
        return ThreeSixtyHook(self.three_sixty_conn_id)


async def async_client(three_sixty_conn_id: str) -> ThreeSixtyClient:
    """Return a client for use in a trigger, which repeats nothing by itself.

    :param three_sixty_conn_id: the connection; looked up without blocking the event loop.
    :raises ThreeSixtyError: when the connection is not defined, lacks a key, or a field is wrong.
    """
    import asyncio

    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    loop = asyncio.get_running_loop()
    async with _doors.setdefault(loop, asyncio.Semaphore(AT_ONCE)):
        with _defined(three_sixty_conn_id):
            connection = await get_async_connection(three_sixty_conn_id, hook=ThreeSixtyHook)
        extra = await get_async_extra_dejson(connection)
        # In a thread, since it imports requests, which takes a fifth of a second, and reads certificates.
        await _mask_key_in_trigger(connection)
        return await asyncio.to_thread(client_from, connection, extra, patient=False, mask=False)


def _shown(
    state: TaskState | None, chunks: ChunkSizer, **about: str
) -> Callable[[dict[str, Any]], None] | None:
    """Return what shows an upload's numbers to people, where the task has a memory."""
    if state is None:
        return None
    return lambda numbers: state.show(**numbers, **about, chunk_size=chunks.size)


def required(**values: Any) -> None:
    """Make sure that templates came out as something.

    :raises ThreeSixtyError: when one did not, naming it.
    """
    for name, value in values.items():
        if not isinstance(value, str) or value.strip() in ("", "None"):  # "None" is how a template says null
            raise ThreeSixtyError(
                f"{name} came out as {value!r}: check its template, and that the task it comes from has run."
            )


@contextmanager
def _defined(conn_id: str) -> Iterator[None]:
    try:
        yield
    except AirflowNotFoundException:
        raise ThreeSixtyError(
            f'There is no connection {conn_id!r}: create it in Airflow with the type "360 for you".'
        ) from None


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn this package's errors into Airflow's; also a decorator.

    :raises AirflowFailException: for what trying again cannot mend, so that no retry is spent.
    :raises AirflowException: for what it may, so that Airflow's retries count.
    """
    try:
        yield
    except ThreeSixtyError as error:
        kind = AirflowException if error.retryable else AirflowFailException
        raise kind(str(error)) from error


def client_from(
    connection: Any, extra: Mapping[str, Any], *, patient: bool = True, mask: bool = True
) -> ThreeSixtyClient:
    """Return a client for a connection.

    :param connection: Airflow's connection: host (the server's URL), schema, port, password (the key).
    :param extra: its extra fields; read by the caller, since a trigger must read them asynchronously.
    :param patient: whether to repeat requests that are safe to repeat, and to wait for a reply for as long as
        the connection says; else nobody waits longer than :data:`PATIENCE_OF_A_PERSON`.
    :param mask: whether to mask the key in logs. Not in a trigger, where Airflow masks asynchronously.
    :raises ThreeSixtyError: when the key is missing or a field is wrong.
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

    Airflow before 3.2 cannot do this in a trigger. There the key is only redacted from what the server says.
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
        raise ThreeSixtyError(f"The connection's extra field {name!r} must be a number of seconds above 0.")
    return seconds


def _limit(extra: Mapping[str, Any]) -> float:
    try:
        limit = float(_field(extra, "bandwidth_limit"))
    except ValueError:
        limit = -1.0
    if not (limit == 0 or 1024 <= limit < 1e15):
        raise ThreeSixtyError(
            "The connection's extra field 'bandwidth_limit' must be a number of bytes a second, at least "
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
        raise ThreeSixtyError(
            f"The connection's extra field 'rate_limits' must be a number above 0 or off, not {text!r}."
        )
    return factor


def _verify(extra: Mapping[str, Any]) -> bool | str:
    text = _field(extra, "verify")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not Path(text).exists():
        raise ThreeSixtyError(
            f"The connection's extra field 'verify' must be true, false or a certificate file, not {text}."
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


def _same_as_before(state: TaskState, about: str, what: str, fingerprint: str) -> bool:
    """Make sure that a later attempt sends the bytes of the first one; return whether there was one."""
    before = state.get("source of", about)
    if before is None:
        state.set("source of", about, value=[fingerprint])
    elif fingerprint not in before:
        raise SourceChangedError(
            f"{what} is not what this upload began with: changed, added to or cut since. Nothing "
            "more was sent. Clear the session task to start over with what is there now."
        )
    return before is not None


def _check_readable(files: Sequence[Listed]) -> None:
    """Say before the first byte, and not hours later, which local files this worker may not read."""
    import os

    local = [file.path for file in files if "://" not in file.path]
    if unreadable := [path for path in local if not os.access(path, os.R_OK)]:
        raise SourceError(
            f"This worker may not read {some(unreadable, ', ')}. Nothing was sent: mend the permissions, or "
            "leave the files out with pattern."
        )


def _digest(files: Sequence[Listed]) -> str:
    import hashlib

    lines = sorted(f"{file.path} {file.size} {file.etag} {file.modified}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _stopwatch() -> Callable[[], float]:
    import time

    began = time.monotonic()
    return lambda: time.monotonic() - began
