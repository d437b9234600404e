"""The three ways to upload: one file, several files in parallel, several files as one zip.

Separate because it imports all modules that move bytes. The hook imports it when a task uploads, not while a
DAG file is parsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import (
    ConfigurationError,
    NotFoundError,
    SourceChangedError,
    UploadError,
    UploadSessionNotFoundError,
)
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.parameters import path_text, require_rendered
from airflow_360.runtime.archive_checksums import ArchiveChecksums
from airflow_360.runtime.manifest import Manifest
from airflow_360.runtime.source_records import SourceRecord, fingerprint_of
from airflow_360.runtime.task_state import TaskState
from airflow_360.sources.archive import ArchiveSource, Member
from airflow_360.sources.names import KNOWN_EXTENSIONS, extension, flat_name, flat_names, shard_of
from airflow_360.sources.path import check_readable
from airflow_360.texts import count_text, duration_text, first_few, size_text
from airflow_360.upload.engine import upload
from airflow_360.upload.many import Job, saying_what_is_too_large, upload_many
from airflow_360.upload.progress import PROGRESS_INTERVAL_SECONDS, ProgressLog, ProgressRecord
from airflow_360.upload.ranges import ChunkSizer

if TYPE_CHECKING:
    from airflow_360.api.records import FileProgress
    from airflow_360.hooks.inspections import Inspector
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.hooks.three_sixty import ThreeSixtyHook
    from airflow_360.sources import FileInfo, Source
    from airflow_360.upload.engine import OnProgress

__all__ = ["Uploads"]


class Uploads:
    """Uploads into sessions.

    :param hook: the hook of the connection.
    :param progress_interval: the shortest time between two lines of progress, in seconds.
    """

    def __init__(self, hook: ThreeSixtyHook, *, progress_interval: float = PROGRESS_INTERVAL_SECONDS) -> None:
        self._hook = hook
        self._progress_interval = progress_interval
        self._log = hook.log
        self.three_sixty_conn_id = hook.three_sixty_conn_id

    @airflow_errors()
    def file(
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
        is_first_attempt: bool = False,
        state: TaskState | None = None,
        inspect: str = "warn",
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload one file into a session, or resume its upload: see :meth:`.ThreeSixtyHook.upload`."""
        own_path: str = path_text(path)
        require_rendered(upload_id=upload_id, path=own_path)
        is_listed = not (size is None and etag is None and modified is None)
        location, found = self._hook.paths.find(own_path, aws_conn_id, size, etag, modified)
        check_readable([found])
        source = location.source(found)
        own_name = filename or own_path.rstrip("/").rpartition("/")[2]
        name = flat_name(own_name)
        _warn_of_names(self._log, [(own_name, name)])
        record = SourceRecord(state, f"{upload_id} {name}")
        # Before the fingerprint is saved, so that a damaged file can be replaced.
        inspector = self._hook.paths.inspector(inspect, aws_conn_id)
        inspector.inspect([found], is_scan=False)
        with _clear_the_listing_too(is_listed):
            record.check_unchanged(own_path, source.fingerprint, [found])
        self._log.info("%s: %s from %s to session %s", name, size_text(source.size), own_path, upload_id)
        chunks = ChunkSizer(_positive(chunk_size))
        keep = _shown(state, chunks, file=name, upload_id=upload_id)
        lines = ProgressLog(name, source.size, keep=keep, every=self._progress_interval)
        on_progress = on_progress or (lambda progress: lines.update(progress.received))
        rows = self._manifest(manifest, aws_conn_id)
        sent = rows.digested(inspector.while_sent(found, lambda: source)())
        with _clear_the_listing_too(is_listed), self._after_the_project(upload_id, record):
            self._send(upload_id, sent, name, chunks, lines.begin, on_progress, is_first_attempt)
            rows.add(name, sent)
            self._finish(upload_id, rows, name, [own_path])
        inspector.report()
        return {"filename": name, "path": own_path, "size": source.size, **inspector.findings.result}

    @airflow_errors()
    def files(
        self,
        upload_id: str,
        files: Sequence[FileInfo],
        *,
        names: str = "path",
        parallel: int = 4,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        shards: int = 1,
        shard: int = 0,
        state: TaskState | None = None,
        inspector: Inspector | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload several files into a session in parallel, or resume their upload.

        :param upload_id: the session.
        :param files: the result of :meth:`.Paths.list_files`.
        :param names: ``"path"`` joins the folders below the listed path with ``_`` into the name;
            ``"basename"`` uses only the last part.
        :param parallel: how many files to upload at the same time.
        :param chunk_size: see :meth:`.ThreeSixtyHook.upload`.
        :param aws_conn_id: see :meth:`.ThreeSixtyHook.upload`.
        :param shards: how many tasks share the files; each task gets the full list and uploads its part.
        :param shard: the number of this task, from 0.
        :param state: see :meth:`.ThreeSixtyHook.upload`; it contains one digest of the shard's files.
        :param inspector: inspects the files, see :meth:`.Paths.inspector`; None inspects nothing.
        :param manifest: see :meth:`.ThreeSixtyHook.upload`.
        :returns: ``{files, bytes}``; an inspection may add ``coordinate_system``, ``damaged``, ``doubtful``.
        :raises AirflowFailException: if a retry cannot help; the message names each refused file.
        :raises AirflowException: if a retry may help.
        """
        require_rendered(upload_id=upload_id)
        files = list({file.path: file for file in files}.values())
        flat = flat_names(((file.path, file.relative) for file in files), names)
        name = f"{upload_id} files"
        if shards > 1:
            counted = count_text(len(files), "file")
            self._log.info("Shard %d of %d, counted from 0, of %s", shard, shards, counted)
            files = [file for file in files if shard_of(flat[file.path], shards) == shard]
            name += f" of shard {shard} of {shards}"
        _warn_of_names(
            self._log,
            [
                (file.relative if names == "path" else file.path.rpartition("/")[2], flat[file.path])
                for file in files
            ],
        )
        check_readable(files)
        inspector = inspector or self._hook.paths.inspector("off")
        inspector.inspect(files, is_scan=shards == 1)
        record = SourceRecord(state, name)
        record.check_unchanged("The folder", fingerprint_of(files), files)
        total = sum(file.size for file in files)
        counted = count_text(len(files), "file")
        self._log.info("%s, %s, to session %s", counted, size_text(total), upload_id)
        seconds, rows = _stopwatch(), self._manifest(manifest, aws_conn_id)
        jobs = [
            Job(flat[file.path], file.size, rows.opener(self._opener(file, aws_conn_id, inspector)), rows.add)
            for file in files
        ]
        chunks = ChunkSizer(_positive(chunk_size))
        keep = _shown(state, chunks, upload_id=upload_id)
        lines = ProgressLog(
            f"session {upload_id}", total, files=len(files), keep=keep, every=self._progress_interval
        )
        with self._after_the_project(upload_id, record):
            try:
                self._hook.with_current_key(
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
                # A user may remove the failed files and clear the task.
                record.allow_only(files, [file for file in files if flat[file.path] not in error.failed])
                raise
            self._log.info(
                "session %s: %s complete, %s in %s",
                upload_id,
                counted,
                size_text(total),
                duration_text(seconds()),
            )
            part = f"{upload_id}-{shard}-of-{shards}" if shards > 1 else upload_id
            self._finish(upload_id, rows, part, (file.path for file in files))
        return {"files": len(files), "bytes": total, **inspector.findings.result}

    @airflow_errors()
    def archive(
        self,
        upload_id: str,
        files: Sequence[FileInfo],
        archive: str,
        *,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        state: TaskState | None = None,
        inspector: Inspector | None = None,
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload several files into a session as one uncompressed zip, or resume its upload.

        The zip is computed while it is sent. To resume it, the checksums of the sent files are needed. They
        are saved in the task's state; without a state, these files are read again.

        :param upload_id: the session.
        :param files: the result of :meth:`.Paths.list_files`; each file keeps its path below the folder.
        :param archive: the zip's name, which must end in ``.zip``. It is flattened.
        :param chunk_size: see :meth:`.ThreeSixtyHook.upload`.
        :param aws_conn_id: see :meth:`.ThreeSixtyHook.upload`.
        :param state: see :meth:`.ThreeSixtyHook.upload`.
        :param inspector: see :meth:`files`.
        :param manifest: see :meth:`.ThreeSixtyHook.upload`; the zip is one file.
        :returns: ``{files, bytes}`` of the session: one file, and its bytes; more as in :meth:`files`.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowException: if a retry may help.
        """
        require_rendered(upload_id=upload_id, archive=archive)
        name = _archive_name(archive)
        _warn_of_names(self._log, [(archive, name)])
        files = list({file.path: file for file in files}.values())
        check_readable(files)
        inspector = inspector or self._hook.paths.inspector("off")
        inspector.inspect(files)
        members = [Member(file, self._opener(file, aws_conn_id, inspector)) for file in files]
        source = ArchiveSource(name, members)
        record = SourceRecord(state, f"{upload_id} {name}")
        record.check_unchanged(f"The content of {name}", source.fingerprint, files)
        kept = ArchiveChecksums(state or TaskState({}), f"{upload_id} {name}", source)
        self._log.info(
            "%s: %s, a zip of %s, to session %s",
            name,
            size_text(source.size),
            count_text(len(files), "file"),
            upload_id,
        )
        chunks = ChunkSizer(_positive(chunk_size))
        keep = _shown(state, chunks, file=name, upload_id=upload_id)
        lines = ProgressLog(name, source.size, keep=keep, every=self._progress_interval)

        def on_progress(progress: FileProgress) -> None:
            if not progress.complete:  # if it is complete, no checksum is needed any more
                source.catch_up(progress.received)
                kept.update()
            lines.update(progress.received)

        rows = self._manifest(manifest, aws_conn_id)
        sent = rows.digested(source)
        with self._after_the_project(upload_id, record):
            try:
                self._send(upload_id, sent, name, chunks, lines.begin, on_progress)
            except BaseException:
                kept.save()
                raise
            rows.add(name, sent)
            self._finish(upload_id, rows, name, (file.path for file in files))
        return {"files": 1, "bytes": source.size, **inspector.findings.result}

    @contextmanager
    def _after_the_project(self, upload_id: str, record: SourceRecord) -> Iterator[None]:
        """Save that an upload is complete; tolerate a missing session if it became a project.

        A session may end when its project is created. If you clear an upload after that, the server can no
        longer check it.

        :raises UploadSessionNotFoundError: if the session has no project, or this is the first attempt.
        :raises UploadError: if saved state shows that the upload was not complete.
        """
        try:
            yield
        except UploadSessionNotFoundError:
            if not record.is_retried or not (page := self._page_of_session(upload_id)):
                raise
            if record.was_started and not record.was_complete:
                raise UploadError(
                    f"Session {upload_id} became project {page}, and this upload was not complete. Clear the "
                    "session task to start over with all files."
                ) from None
            if record.was_complete:
                self._log.info("Session %s became project %s.", upload_id, page)
            else:
                self._log.warning(
                    "Session %s became project %s. Cannot verify that this upload is part of it.",
                    upload_id,
                    page,
                )
            return
        record.save_complete()

    def _page_of_session(self, upload_id: str) -> str | None:
        """Return the page of the project that a session became, or None."""
        try:
            return self._hook.client.project_url(self._hook.client.get_project(upload_id).name)
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
        is_first_attempt: bool = False,
    ) -> None:
        seconds, first_client = _stopwatch(), self._hook.client
        # With another key, this is a repetition of the first attempt.
        skip_question = is_first_attempt and source.size <= chunks.size
        with saying_what_is_too_large(name, source.size):
            self._hook.with_current_key(
                lambda client: upload(
                    client,
                    upload_id,
                    source,
                    name,
                    chunks=chunks,
                    ask=not skip_question or client is not first_client,
                    on_begin=on_begin,
                    on_progress=on_progress,
                )
            )
        self._log.info("%s: complete, %s in %s", name, size_text(source.size), duration_text(seconds()))

    def _finish(self, upload_id: str, rows: Manifest, name: str, sources: Iterable[str]) -> None:
        """Write the manifest, and record the lineage of an upload that is complete."""
        manifest = rows.finish(name)
        session = self._hook.client.session_url(upload_id)
        self._hook.lineage.moved(sources, session, *([manifest] if manifest else []), sha256=rows.sha256)

    def _manifest(self, manifest: bool | str | None, aws_conn_id: str | None) -> Manifest:
        """Return the manifest; it does nothing if no manifest is wanted."""
        return Manifest(manifest, lambda conn_id: self._hook.paths.s3_client(conn_id or aws_conn_id))

    def _opener(self, file: FileInfo, aws_conn_id: str | None, inspector: Inspector) -> Callable[[], Source]:
        # Opened here, in the task's main thread: another thread must not look up an AWS connection.
        location = self._hook.paths.open(file.path, aws_conn_id)
        return inspector.while_sent(file, lambda: location.source(file))


def _shown(
    state: TaskState | None, chunks: ChunkSizer, **about: str
) -> Callable[[ProgressRecord], None] | None:
    """Return a function that saves an upload's progress for the UI, or None if the task has no state."""
    if state is None:
        return None
    return lambda record: state.show(**record, **about, chunk_size=chunks.size)


def _positive(chunk_size: int | None) -> int | None:
    if chunk_size is not None and chunk_size < 1:
        raise ConfigurationError(
            f"chunk_size must be at least 1 byte, not {chunk_size}.", parameter="chunk_size"
        )
    return chunk_size


def _archive_name(archive: str) -> str:
    if extension(name := flat_name(archive)) != "zip":
        raise ConfigurationError(
            f"archive must be a file name that ends in .zip, not {archive!r}.", parameter="archive"
        )
    return name


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


def _stopwatch() -> Callable[[], float]:
    began = time.monotonic()
    return lambda: time.monotonic() - began


def _warn_of_names(log: Any, names: Sequence[tuple[str, str]]) -> None:
    changed = [f"{name} is sent as {sent}" for name, sent in names if name != sent]
    if changed:
        log.info("%s", first_few(changed))
    if unknown := sorted({extension(sent) for _, sent in names} - KNOWN_EXTENSIONS):
        log.warning(
            "Not in the default list of allowed extensions: %s. The server may reject these files.",
            ", ".join(repr(item) if item else "files without an extension" for item in unknown),
        )
