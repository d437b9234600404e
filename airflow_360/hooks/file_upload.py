"""The upload of one file.

Separate because a mapped upload task is a process of its own and needs nothing else: this module imports all
that moves bytes, but not the code for several files or a zip. The hook imports it when a task uploads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import (
    NotFoundError,
    ProjectStatusError,
    SourceChangedError,
    UploadError,
    UploadSessionNotFoundError,
)
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.parameters import checked_chunk_size, path_text, require_rendered
from airflow_360.runtime.manifest import Manifest
from airflow_360.runtime.source_records import SourceRecord
from airflow_360.runtime.task_state import TaskState
from airflow_360.sources.names import KNOWN_EXTENSIONS, extension, flat_name
from airflow_360.sources.path import check_readable
from airflow_360.texts import duration_text, first_few, size_text
from airflow_360.upload.engine import upload
from airflow_360.upload.progress import PROGRESS_INTERVAL_SECONDS, ProgressLog, ProgressRecord
from airflow_360.upload.ranges import ChunkSizer
from airflow_360.upload.too_large import saying_what_is_too_large

if TYPE_CHECKING:
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.hooks.three_sixty import ThreeSixtyHook
    from airflow_360.sources import Source
    from airflow_360.upload.engine import OnProgress

__all__ = ["FileUpload"]


class FileUpload:
    """Uploads of one file into a session.

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
        self._warn_of_names([(own_name, name)])
        record = SourceRecord(state, f"{upload_id} {name}")
        # Before the fingerprint is saved, so that a damaged file can be replaced.
        inspector = self._hook.paths.inspector(inspect, aws_conn_id)
        inspector.inspect([found], is_scan=False)
        with _clear_the_listing_too(is_listed):
            record.check_unchanged(own_path, source.fingerprint, [found])
        self._log.info("%s: %s from %s to session %s", name, size_text(source.size), own_path, upload_id)
        chunks = ChunkSizer(checked_chunk_size(chunk_size))
        keep = self._shown(state, chunks, file=name, upload_id=upload_id)
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
        except ProjectStatusError:
            return self._hook.client.project_url(upload_id)
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
        seconds, first_client = self._stopwatch(), self._hook.client
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

    @staticmethod
    def _shown(
        state: TaskState | None, chunks: ChunkSizer, **about: str
    ) -> Callable[[ProgressRecord], None] | None:
        """Return a function that saves an upload's progress for the UI, or None if the task has no state."""
        if state is None:
            return None
        return lambda record: state.show(**record, **about, chunk_size=chunks.size)

    @staticmethod
    def _stopwatch() -> Callable[[], float]:
        began = time.monotonic()
        return lambda: time.monotonic() - began

    def _warn_of_names(self, names: Sequence[tuple[str, str]]) -> None:
        changed = [f"{name} is sent as {sent}" for name, sent in names if name != sent]
        if changed:
            self._log.info("%s", first_few(changed))
        if unknown := sorted({extension(sent) for _, sent in names} - KNOWN_EXTENSIONS):
            self._log.warning(
                "Not in the default list of allowed extensions: %s. The server may reject these files.",
                ", ".join(repr(item) if item else "files without an extension" for item in unknown),
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
