"""The uploads of several files: side by side, or as one zip.

Separate from the upload of one file, whose task need not import this. The hook imports it when a task
uploads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import UploadError
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.file_upload import FileUpload
from airflow_360.hooks.parameters import checked_chunk_size, require_rendered
from airflow_360.runtime.archive_checksums import ArchiveChecksums
from airflow_360.runtime.source_records import SourceRecord, fingerprint_of
from airflow_360.runtime.task_state import TaskState
from airflow_360.sources.archive import ArchiveSource, Member
from airflow_360.sources.names import (
    archive_name,
    flat_names,
    shard_of,
)
from airflow_360.sources.path import check_readable
from airflow_360.texts import count_text, duration_text, size_text
from airflow_360.upload.many import Job, upload_many
from airflow_360.upload.progress import ProgressLog
from airflow_360.upload.ranges import ChunkSizer

if TYPE_CHECKING:
    from airflow_360.api.records import FileProgress
    from airflow_360.hooks.inspections import Inspector
    from airflow_360.sources import FileInfo, Source

__all__ = ["Uploads"]


class Uploads(FileUpload):
    """Uploads of several files, or of an archive. For one file, see :meth:`.ThreeSixtyHook.upload`.

    :param hook: the hook of the connection.
    :param progress_interval: the shortest time between two lines of progress, in seconds.
    """

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
        self._warn_of_names(
            [
                (file.relative if names == "path" else file.path.rpartition("/")[2], flat[file.path])
                for file in files
            ]
        )
        check_readable(files)
        inspector = inspector or self._hook.paths.inspector("off")
        inspector.inspect(files, is_scan=shards == 1)
        record = SourceRecord(state, name)
        record.check_unchanged("The folder", fingerprint_of(files), files)
        total = sum(file.size for file in files)
        counted = count_text(len(files), "file")
        self._log.info("%s, %s, to session %s", counted, size_text(total), upload_id)
        seconds, rows = self._stopwatch(), self._manifest(manifest, aws_conn_id)
        jobs = [
            Job(flat[file.path], file.size, rows.opener(self._opener(file, aws_conn_id, inspector)), rows.add)
            for file in files
        ]
        chunks = ChunkSizer(checked_chunk_size(chunk_size))
        keep = self._shown(state, chunks, upload_id=upload_id)
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
        name = archive_name(archive)
        self._warn_of_names([(archive, name)])
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
        chunks = ChunkSizer(checked_chunk_size(chunk_size))
        keep = self._shown(state, chunks, file=name, upload_id=upload_id)
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

    def _opener(self, file: FileInfo, aws_conn_id: str | None, inspector: Inspector) -> Callable[[], Source]:
        # Opened here, in the task's main thread: another thread must not look up an AWS connection.
        location = self._hook.paths.open(file.path, aws_conn_id)
        return inspector.while_sent(file, lambda: location.source(file))
