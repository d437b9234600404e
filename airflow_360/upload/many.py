"""Parallel upload of many files into one session, with at most one PUT per file.

Separate from the engine, which uploads one file. Worker threads upload the files; the caller stays in its
own thread, so that only that thread talks to Airflow.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.exceptions import (
    FileRejectedError,
    InvalidRequestError,
    SourceError,
    ThreeSixtyError,
    UploadError,
    UploadStalledError,
)
from airflow_360.sources import Source
from airflow_360.sources.names import extension
from airflow_360.texts import count_text, first_few, size_text
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from airflow_360.upload.too_large import AFTER_SPLIT_ADVICE, saying_what_is_too_large

__all__ = ["Job", "SessionProgress", "upload_many"]

log = logging.getLogger(__name__)

#: Error codes that the server returns for one file but that concern the whole session.
SESSION_ERROR_CODES = ("invalid_upload_id", "session_too_large")
SPLIT_ADVICE = "Split the file, or ask the server's operator for a higher limit."


def _nothing(filename: str, source: Source) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """One file to upload.

    :param filename: its flat name.
    :param size: its length in bytes, so that the largest files are sent first.
    :param open_source: opens its bytes; called in the thread that uploads it.
    :param on_finished: called with name and source in that thread after the file is complete, possibly twice.
    """

    filename: str
    size: int
    open_source: Callable[[], Source]
    on_finished: Callable[[str, Source], None] = _nothing


@dataclass(frozen=True)
class SessionProgress:
    """The progress of a session, in the server's numbers.

    :param files: the number of complete files.
    :param received: bytes that the server has.
    """

    files: int
    received: int


def upload_many(
    client: ThreeSixtyClient,
    upload_id: str,
    jobs: Sequence[Job],
    *,
    parallel: int = 4,
    chunks: ChunkSizer | None = None,
    on_progress: Callable[[SessionProgress], None] | None = None,
) -> None:
    """Upload files in parallel, the largest first, and ask for the progress of the session only once.

    A file that cannot be uploaded does not stop the others. An error that concerns all files (the key, the
    session, the network) stops them.

    :param client: the API; shared by the threads.
    :param upload_id: the session.
    :param jobs: the files, each with a unique name.
    :param parallel: the number of parallel uploads.
    :param chunks: see :func:`airflow_360.upload.engine.upload`.
    :param on_progress: called in the caller's thread: at the beginning, about once a second, and at the end.
    :raises UploadError: after all other files are done, with the name of each failed file and the reason;
        an :class:`~airflow_360.exceptions.UploadStalledError` if a retry may succeed for each of them.
    :raises ThreeSixtyError: if an error concerns all files.
    """
    if parallel < 1:
        raise UploadError(f"parallel must be at least 1, not {parallel}.")
    counts = Counter(job.filename.casefold() for job in jobs)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise UploadError(f"Several files of one session would have the same name: {first_few(twice, ', ')}.")
    known = {progress.name: progress for progress in client.list_files(upload_id)}
    workers = _Workers(client, upload_id, jobs, known, chunks or ChunkSizer(), parallel)
    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as pool:
        running = {pool.submit(workers.work) for _ in range(min(parallel, len(jobs)))}
        try:
            if on_progress:
                on_progress(workers.progress())
            while running:
                done, running = wait(running, timeout=1.0)
                if on_progress:
                    on_progress(workers.progress())
                for thread in done:
                    thread.result()
        finally:
            workers.stop()
    workers.report()


class _Workers:
    def __init__(
        self,
        client: ThreeSixtyClient,
        upload_id: str,
        jobs: Sequence[Job],
        known: dict[str, FileProgress],
        chunks: ChunkSizer,
        parallel: int,
    ) -> None:
        self._sleep = client.backoff.sleep
        self._client = copy.copy(client)
        self._client.backoff = replace(client.backoff, sleep=self._wait)
        self._upload_id = upload_id
        self._chunks = chunks
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in sorted(jobs, key=lambda job: -job.size):
            self._jobs.put(job)
        self._known = {job.filename: known.get(job.filename) for job in jobs}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._allowed: Sequence[str] = ()
        self._refused: set[str | None] = set()
        self._limit: int | None = None
        # If more files in a row stall than there are threads, the server is the reason, and not a file.
        self._stalls, self._max_stalls = 0, parallel
        self._failures: dict[str, ThreeSixtyError] = {}
        if done := sum(progress is not None and progress.complete for progress in self._known.values()):
            log.info("%s of %s already complete on the server", f"{done:,}", count_text(len(jobs), "file"))

    def work(self) -> None:
        """Upload one file after another until none is left or the upload is stopped."""
        while not self._stop.is_set():
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                self._upload(job)
                self._stalls = 0
            except (FileRejectedError, InvalidRequestError, SourceError, UploadError) as error:
                if getattr(error, "code", None) in SESSION_ERROR_CODES:
                    self._stop.set()
                    raise
                self._note(job, error)
                self._stalls = self._stalls + 1 if isinstance(error, UploadStalledError) else 0
                if self._stalls > self._max_stalls:
                    self._stop.set()
                    raise
            except BaseException:
                self._stop.set()
                raise

    def progress(self) -> SessionProgress:
        with self._lock:
            known = [progress for progress in self._known.values() if progress]
        return SessionProgress(sum(p.complete for p in known), sum(p.received for p in known))

    def stop(self) -> None:
        self._stop.set()

    def report(self) -> None:
        """Raise one error that names all files that could not be uploaded, if there are any."""
        if not self._failures:
            return
        failures = list(self._failures.values())
        others = "; the others are complete on the server and will not be sent again" * (
            len(failures) < len(self._known)
        )
        kind = UploadStalledError if all(error.retryable for error in failures) else UploadError
        raise kind(
            f"{len(failures):,} of {count_text(len(self._known), 'file')} could not be uploaded{others}:\n- "
            + first_few([_reason(name, error) for name, error in self._failures.items()], "\n- ")
            + self._allowed_text(),
            failed=list(self._failures),
        )

    def _allowed_text(self) -> str:
        """Return the advice on refused extensions, to print once after the files; empty if there are none."""
        if not any(map(_is_refused_extension, self._failures.values())):
            return ""
        takes = f"This server takes only {', '.join(self._allowed)}. " if self._allowed else ""
        return f"\n{takes}Leave other files out with exclude, or send them in an archive."

    def _upload(self, job: Job) -> None:
        kind = extension(job.filename)
        if kind in self._refused or (self._allowed and kind not in self._allowed):
            raise FileRejectedError(
                f"{job.filename}: not sent: this server does not accept the extension {kind!r}.",
                status=415,
                code="extension_not_allowed",
            )
        if self._limit is not None and job.size > self._limit:
            raise FileRejectedError(
                f"{job.filename}: not sent: it has {size_text(job.size)}, and this server accepts files of "
                f"at most {size_text(self._limit)}. {SPLIT_ADVICE} {AFTER_SPLIT_ADVICE}",
                status=413,
                code="file_too_large",
            )
        source = job.open_source()
        with saying_what_is_too_large(job.filename, job.size):
            progress = upload(
                self._client,
                self._upload_id,
                source,
                job.filename,
                chunks=self._chunks,
                ask=False,
                progress=self._known[job.filename],
                on_progress=lambda progress: self._learn(job, progress),
                stop=self._stop,
            )
        if progress.complete:
            job.on_finished(job.filename, source)

    def _wait(self, seconds: float) -> None:
        """Wait before a retry, unless another thread's error concerns all files."""
        if not self._stop.is_set():
            self._sleep(seconds)

    def _learn(self, job: Job, progress: FileProgress) -> None:
        with self._lock:
            self._known[job.filename] = progress

    def _note(self, job: Job, error: ThreeSixtyError) -> None:
        with self._lock:
            self._failures[job.filename] = error
            if isinstance(error, FileRejectedError):
                self._allowed = error.allowed or self._allowed
                self._refused |= {error.extension} - {None}
                if error.code == "file_too_large" and error.limit is not None:
                    self._limit = error.limit
        log.error("%s", error)


def _is_refused_extension(error: ThreeSixtyError) -> bool:
    return isinstance(error, FileRejectedError) and error.status == 415


def _reason(filename: str, error: ThreeSixtyError) -> str:
    """Return why a file was not uploaded, without the list of extensions that every 415 repeats."""
    if _is_refused_extension(error):
        return f"{filename}: this server does not accept the extension {extension(filename)!r} (415)"
    return str(error)
