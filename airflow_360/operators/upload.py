"""Operators that list files and folders, create upload sessions, and upload into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowSkipException, conf

from airflow_360.exceptions import (
    ConfigurationError,
    NotFoundError,
    ProjectError,
    ProjectStatusError,
    SourceError,
    ThreeSixtyError,
)
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.parameters import (
    INSPECT_MODES,
    check_literal,
    path_text,
    require_choice,
    require_rendered,
)
from airflow_360.operators.base import ThreeSixtyOperator, waits_out_rate_limits
from airflow_360.runtime.lasting_store import lasting_inlets
from airflow_360.runtime.results import PROJECT_REQUEST
from airflow_360.runtime.scan_records import SCAN_KEYS, ScanRecord, scan_key
from airflow_360.runtime.task_state import Key, TaskState
from airflow_360.texts import LeftOut, count_text, duration_text
from airflow_360.values import is_unset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_360.hooks.inspections import Inspector
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.sources import FileInfo, Scan
    from airflow_360.sources.listing import Globs

__all__ = [
    "CreateUploadSessionOperator",
    "DeleteUploadSessionOperator",
    "ListFilesOperator",
    "ListScansOperator",
    "UploadFileOperator",
    "UploadFilesOperator",
]

ON_EMPTY = ("skip", "fail")
NAMES = ("path", "basename")
#: The XCom with the findings of an inspection; the page in Airflow's UI shows it.
INSPECTION = "inspection"
_FOLDER_LABEL = (
    "{{ task.path or task.upload_id }}"
    "{% if task.shards | int > 1 %}, shard {{ task.shard }} of {{ task.shards }}{% endif %}"
)


class ListFilesOperator(ThreeSixtyOperator):
    """List the files of a path, one entry per upload task, without a request to the server.

    Hidden files, folder markers and system files (``.DS_Store``, ``Thumbs.db``, ``desktop.ini``) are
    left out. The log says how many.

    XCom: a list of ``{path, filename, size, etag, modified}``, the keyword arguments of
    :class:`UploadFileOperator`. ``etag`` and ``modified`` are None if the store does not have them. If files
    were inspected, the XCom ``inspection`` is ``{damaged, doubtful, files}``: two numbers of files, and texts
    about the first twenty of them. On retry and on clear it lists and inspects again.

    :param path: a file, a folder, a prefix or a glob; local or any ``scheme://`` (templated). A string, a
        ``Path`` or an ``ObjectStoragePath``.
    :param pattern: a glob or a list of globs, case-insensitive; None takes all. A glob without ``/`` is
        compared with the file's name, one with ``/`` with its path below the folder (templated). A path to
        a single file selects this file, regardless of its name.
    :param exclude: a glob or a list of globs, compared in the same way; files that match are left out
        (templated).
    :param recursive: whether to enter subfolders. If not, a warning counts the files in them.
    :param follow_links: whether to follow links that lead out of the folder. By default the task fails and
        names them: with such a link, anyone who can write into the folder could upload any file that the
        worker can read.
    :param names: ``"path"`` joins the subfolders into the name on the server with ``_``; ``"basename"`` takes
        the last part of the path (templated).
    :param on_empty: ``"skip"`` skips this task and those after it if there is no file, so that a night
        without scans is not a failure; ``"fail"`` fails (templated).
    :param inspect: ``"warn"`` reads head and tail of each file and logs files that are empty, truncated or
        damaged; ``"fail"`` fails and names them, so that nothing of a bad scan is uploaded; ``"off"``
        does not read files. With ``"warn"`` the upload tasks inspect photos while they are sent (templated).
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves (templated).
    """

    template_fields: Sequence[str] = (
        "path",
        "pattern",
        "exclude",
        "names",
        "on_empty",
        "inspect",
        "aws_conn_id",
        "three_sixty_conn_id",
    )

    def __init__(
        self,
        *,
        path: AnyPath | XComArg,
        pattern: Globs = None,
        exclude: Globs = None,
        recursive: bool = True,
        follow_links: bool = False,
        names: str = "path",
        on_empty: str = "skip",
        inspect: str = "warn",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        check_literal("names", names, *NAMES)
        check_literal("on_empty", on_empty, *ON_EMPTY)
        check_literal("inspect", inspect, *INSPECT_MODES)
        super().__init__(**kwargs)
        self.path: str = path_text(path)
        self.pattern = pattern
        self.exclude = exclude
        self.recursive = recursive
        self.follow_links = follow_links
        self.names = names
        self.on_empty = on_empty
        self.inspect = inspect
        self.aws_conn_id = aws_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the files; fail before any byte is sent if two have the same name."""
        require_choice("names", self.names, *NAMES)
        require_choice("on_empty", self.on_empty, *ON_EMPTY)
        left_out = LeftOut()
        files = self.hook.paths.list_files(
            self.path,
            self.pattern,
            self.recursive,
            self.aws_conn_id,
            exclude=self.exclude,
            left_out=left_out,
            follow_links=self.follow_links,
        )
        if not files:
            conditions = self.hook.paths.conditions_text(self.pattern, self.exclude)
            _raise_empty(self.on_empty, f"No files in {self.path}{conditions}", left_out)
        most = conf.getint("core", "max_map_length", fallback=1024)
        if len(files) > most:
            raise ConfigurationError(
                f"{self.path} contains {len(files):,} files, and Airflow maps at most {most:,} ([core] "
                "max_map_length). Use UploadFilesOperator, which uploads a whole folder in one task.",
                parameter="path",
            )
        flat = self.hook.paths.flat_names(files, self.names)
        with _reported(context, self.hook.paths.inspector(self.inspect, self.aws_conn_id)) as inspector:
            inspector.inspect(files)
        return [
            {
                "path": file.path,
                "filename": flat[file.path],
                "size": file.size,
                "etag": file.etag,
                "modified": file.modified or file.written or None,
            }
            for file in files
        ]


class ListScansOperator(ThreeSixtyOperator):
    """List the folders directly below a path that hold a scan: at least one file, at any depth.

    XCom: a list of folder paths, to map a task group over. On retry and on clear it lists again. With
    ``only_new``, if you clear a run, scans that this run already processed count as new again.

    :param path: a folder or prefix; local or any ``scheme://`` (templated). A string, a ``Path`` or an
        ``ObjectStoragePath``.
    :param pattern: a glob or a list of globs for the files that make a folder a scan, compared as in
        :class:`ListFilesOperator`; None counts any file (templated). It does not select the files to
        upload: give ``scan_to_project`` a ``pattern`` for that.
    :param exclude: a glob or a list of globs for files that do not make a folder a scan (templated).
    :param only_new: whether to skip scans that another run has already made into a project and that have not
        changed since: same folder, and same names, sizes, and ETags or modification times of all its files.
        The :class:`~airflow_360.operators.project.CreateProjectOperator` that takes this task's output as its
        ``path`` records them, as in ``scan_to_project.expand(path=scans.output)``. If there are more folders
        than Airflow maps, later runs take the rest.
    :param settle_seconds: skip folders with a file that was written less than this many seconds ago; they may
        still be incomplete. 0 takes every folder.
    :param follow_links: whether to follow links that lead out of ``path`` or, with ``only_new`` and
        ``settle_seconds``, out of a scan; see :class:`ListFilesOperator`. By default the task fails and names
        a folder that is such a link.
    :param on_empty: ``"skip"`` or ``"fail"``, as in :class:`ListFilesOperator` (templated).
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves (templated).
    """

    template_fields: Sequence[str] = (
        "path",
        "pattern",
        "exclude",
        "on_empty",
        "aws_conn_id",
        "three_sixty_conn_id",
    )

    def __init__(
        self,
        *,
        path: AnyPath | XComArg,
        pattern: Globs = None,
        exclude: Globs = None,
        only_new: bool = False,
        settle_seconds: float = 0.0,
        follow_links: bool = False,
        on_empty: str = "skip",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        check_literal("on_empty", on_empty, *ON_EMPTY)
        super().__init__(**kwargs)
        self.path: str = path_text(path)
        self.pattern = pattern
        self.exclude = exclude
        self.only_new = only_new
        self.settle_seconds = settle_seconds
        self.follow_links = follow_links
        self.on_empty = on_empty
        self.aws_conn_id = aws_conn_id
        if only_new:
            self.inlets = [*self.inlets, *lasting_inlets()]

    @airflow_errors()
    def execute(self, context: Context) -> list[str]:
        """List the folders."""
        require_choice("on_empty", self.on_empty, *ON_EMPTY)
        if self.only_new:
            self._check_remembered()
        left_out = LeftOut()
        paths = self.hook.paths.list_scans(
            self.path,
            self.pattern,
            self.aws_conn_id,
            exclude=self.exclude,
            left_out=left_out,
            follow_links=self.follow_links,
        )
        if self.only_new or self.settle_seconds:
            found = self.hook.paths.snapshot_scans(paths, self.aws_conn_id, follow_links=self.follow_links)
            scans = self._settled(found, left_out)
            paths = self._new(scans, context, left_out) if self.only_new else [scan.path for scan in scans]
        if not paths:
            what = "new scans" if self.only_new else "scans"
            conditions = self.hook.paths.conditions_text(self.pattern, self.exclude)
            _raise_empty(self.on_empty, f"No {what} in {self.path}{conditions}", left_out)
        noun = "new scan" if self.only_new else "scan"
        more = f"; left out: {left_out}" if str(left_out) else ""
        self.log.info("%s: %s%s.", self.path, count_text(len(paths), noun), more)
        return paths

    def _settled(self, scans: Iterable[Scan], left_out: LeftOut) -> list[Scan]:
        settled = []
        for scan in scans:
            if self.settle_seconds and scan.age is None:
                raise SourceError(
                    f"{scan.path} is in a store that does not say when a file was written: remove "
                    "settle_seconds. Instead, set pattern to the name of the file that is written last."
                )
            if scan.age is None or scan.age >= self.settle_seconds:
                settled.append(scan)
            else:
                left_out.add("scan", "not settled")
                self.log.info(
                    "%s is skipped in this run: a file in it was written %s ago.",
                    scan.path,
                    duration_text(scan.age),
                )
        return settled

    def _new(self, scans: Sequence[Scan], context: Context, left_out: LeftOut) -> list[str]:
        """Return the paths of the scans without a project of another run, and save the key of each record."""
        keys, files = {}, self._files_text()
        for scan in scans:
            key = scan_key(self.three_sixty_conn_id, files, scan)
            if made := ScanRecord(context, key).made_by_another_run():
                left_out.add("scan", "done before")
                self.log.info("%s %s.", scan.path, made)
            else:
                keys[scan.path] = key
        most = conf.getint("core", "max_map_length", fallback=1024)
        if len(keys) > most:
            left_out.add("scan", "for later runs", len(keys) - most)
            self.log.warning(
                "%s scans are new, and Airflow maps at most %s ([core] max_map_length): later runs take "
                "the rest.",
                f"{len(keys):,}",
                f"{most:,}",
            )
        handed_out = dict(list(keys.items())[:most])
        context["ti"].xcom_push(key=SCAN_KEYS, value=handed_out)
        return list(handed_out)

    def _files_text(self) -> str | None:
        """Return the text of the patterns; a single pattern has the form that older versions used."""
        pattern = self.pattern if isinstance(self.pattern, str) else self.hook.paths.globs_text(self.pattern)
        excluded = self.hook.paths.globs_text(self.exclude)
        return f"{pattern or ''} without {excluded}" if excluded else pattern or None

    def _check_remembered(self) -> None:
        """Make sure that a task of the DAG records finished scans, with the same connection."""
        if not self.has_dag():  # type: ignore[no-untyped-call]
            return
        makers = [task for task in self.dag.tasks if getattr(task, "listing_task", None) == self.task_id]
        if not makers:
            raise ConfigurationError(
                "only_new=True has no effect, because no downstream task records finished scans. Map "
                f"scan_to_project.expand(path={self.task_id}.output), or give CreateProjectOperator "
                f"path={self.task_id}.output.",
                parameter="only_new",
            )
        for task in makers:
            conn_id = getattr(task, "three_sixty_conn_id", None)
            if isinstance(conn_id, str) and "{{" not in conn_id and conn_id != self.three_sixty_conn_id:
                raise ConfigurationError(
                    f"Finished scans are recorded for each connection: give {self.task_id} the "
                    f"three_sixty_conn_id={conn_id!r} of {task.task_id} too.",
                    parameter="three_sixty_conn_id",
                )


class CreateUploadSessionOperator(ThreeSixtyOperator):
    """Create an upload session, which contains the files of one project.

    XCom: its ``upload_id``. The server discards an abandoned session after about 72 hours.

    With ``path``, a session is created only if the path contains at least one file. The listing stops at the
    first one.

    On retry the session of an earlier attempt is reused if it still exists. On clear a new one is created:
    you clear this task to start over. The old session expires; the log names it, and its project if there is
    one.

    :param path: the files that will be uploaded: a file, a folder, a prefix or a glob, as in
        :class:`ListFilesOperator`. By default no path is checked (templated).
    :param pattern: a glob or a list of globs, as in :class:`ListFilesOperator` (templated).
    :param exclude: a glob or a list of globs, as in :class:`ListFilesOperator` (templated).
    :param recursive: whether files in subfolders count.
    :param follow_links: as in :class:`ListFilesOperator`.
    :param on_empty: ``"skip"`` skips this task and those after it if ``path`` has no files; ``"fail"`` fails
        (templated).
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves (templated).
    """

    template_fields: Sequence[str] = (
        "path",
        "pattern",
        "exclude",
        "on_empty",
        "aws_conn_id",
        "three_sixty_conn_id",
    )

    def __init__(
        self,
        *,
        path: AnyPath | XComArg | None = None,
        pattern: Globs = None,
        exclude: Globs = None,
        recursive: bool = True,
        follow_links: bool = False,
        on_empty: str = "skip",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        check_literal("on_empty", on_empty, *ON_EMPTY)
        super().__init__(**kwargs)
        self.path: str | None = path_text(path)
        self.pattern = pattern
        self.exclude = exclude
        self.recursive = recursive
        self.follow_links = follow_links
        self.on_empty = on_empty
        self.aws_conn_id = aws_conn_id
        self.inlets = [*self.inlets, *lasting_inlets()]

    @waits_out_rate_limits
    @airflow_errors()
    def execute(self, context: Context) -> str:
        """Create the session, or reuse the one of an earlier attempt."""
        require_choice("on_empty", self.on_empty, *ON_EMPTY)
        if self.path is not None and not self.hook.paths.has_files(
            self.path,
            self.pattern,
            self.recursive,
            self.aws_conn_id,
            exclude=self.exclude,
            follow_links=self.follow_links,
        ):
            conditions = self.hook.paths.conditions_text(self.pattern, self.exclude)
            _raise_empty(self.on_empty, f"No files in {self.path}{conditions}")
        state, clears = TaskState(context), context["ti"].max_tries
        made = state.get(Key.SESSION) or {}
        if made.get("clears") == clears and self._session_exists(made["upload_id"]):
            self.log.info("Upload session %s of an earlier attempt is reused.", made["upload_id"])
            return str(made["upload_id"])
        if made:
            self._log_abandoned(made["upload_id"])
        projects = self.hook.projects  # imported before the request, so that no import can fail after it
        session = self.hook.client.create_upload_session()
        projects.record_new_session(context, session.upload_id, self.hook.client.server_now())
        state.set(Key.SESSION, value={"upload_id": session.upload_id, "clears": clears})
        self.log.info(
            "Upload session %s; the server discards it after %.0f hours.",
            session.upload_id,
            session.expires_in_seconds / 3600,
        )
        return session.upload_id

    def _session_exists(self, upload_id: str) -> bool:
        try:
            self.hook.client.list_files(upload_id)
        except NotFoundError:
            return False
        return True

    def _log_abandoned(self, upload_id: str) -> None:
        """Log the old session and its project, if any. An error from the server is logged, not raised."""
        self.log.info("Starting over: upload session %s will expire by itself.", upload_id)
        client = self.hook.client
        try:
            project = client.without_retries().get_project(upload_id)
        except NotFoundError:
            return
        except ThreeSixtyError as error:
            self.log.warning(
                "Session %s may have become a project already, which is kept: %s", upload_id, error
            )
            return
        self.log.warning(
            "Session %s already became a project, which is kept: %s. This run creates a second one.",
            upload_id,
            client.project_url(project.name),
        )


class UploadFileOperator(ThreeSixtyOperator):
    """Upload one file into a session in resumable chunks; usually mapped, with one task per file.

    XCom: ``{filename, path, size}``; ``filename`` is the file's name on the server. ``coordinate_system`` is
    added if the file states one, and ``damaged`` or ``doubtful`` with the number 1 if something is wrong.

    On retry and on clear, on any worker, it asks the server how many bytes it has and continues from there.
    If the file is already complete, this takes one request and sends nothing.

    :param upload_id: the session (templated).
    :param path: the file: local, ``s3://`` or any ``scheme://`` of Airflow's object storage (templated). A
        text, a ``Path`` or an ``ObjectStoragePath``.
    :param filename: its name on the server, without folders; by default the path's last part (templated).
    :param size: the size in bytes that the file must have, from a listing (templated).
    :param etag: the ETag that it must have, from a listing (templated).
    :param modified: the modification time that it must have, in seconds since the epoch, from a listing. A
        file in a store with ETags is identified by its ETag instead (templated).
    :param chunk_size: bytes of a chunk. By default it adapts to the speed of the network, so that a chunk
        takes some seconds and an interruption costs no more than that (templated).
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves (templated).
    :param inspect: ``"warn"`` reads head and tail of the file and logs if it is empty, truncated or damaged;
        a photo is inspected while it is sent. ``"fail"`` fails before the first byte, ``"off"`` does not
        inspect (templated).
    :param manifest: True writes name, size and SHA-256 of the sent file into the log. A path, local or any
        ``scheme://``, writes them there as CSV after the upload. A path that ends with ``/`` is a folder, in
        which each task writes its own file, named after the uploaded file; use this for mapped tasks. The
        SHA-256 is computed while the bytes are sent; bytes that an earlier attempt sent are read again
        (templated).
    :param map_index_template: the label of a mapped row in Airflow's UI; by default the file or folder.
    """

    template_fields: Sequence[str] = (
        "upload_id",
        "path",
        "filename",
        "size",
        "etag",
        "modified",
        "chunk_size",
        "aws_conn_id",
        "inspect",
        "manifest",
        "three_sixty_conn_id",
    )

    def __init__(
        self,
        *,
        upload_id: str | XComArg,
        path: AnyPath | XComArg,
        filename: str | None = None,
        size: int | str | None = None,
        etag: str | None = None,
        modified: float | str | None = None,
        chunk_size: int | str | None = None,
        aws_conn_id: str | None = "aws_default",
        inspect: str = "warn",
        manifest: bool | str | None = None,
        map_index_template: str | None = "{{ task.filename or task.path }}",
        **kwargs: Any,
    ) -> None:
        check_literal("inspect", inspect, *INSPECT_MODES)
        super().__init__(map_index_template=map_index_template, **kwargs)
        self.upload_id = cast("str", upload_id)
        self.path: str = path_text(path)
        self.filename = filename
        self.size = size
        self.etag = etag
        self.modified = modified
        self.chunk_size = chunk_size
        self.aws_conn_id = aws_conn_id
        self.inspect = inspect
        self.manifest = manifest

    @waits_out_rate_limits
    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the file."""
        return self.hook.upload(
            self.upload_id,
            self.path,
            self.filename,
            _parse_int("chunk_size", self.chunk_size),
            self.aws_conn_id,
            size=_parse_int("size", self.size),
            etag=None if is_unset(self.etag) else self.etag,
            modified=_parse_seconds("modified", self.modified),
            is_first_attempt=context["ti"].try_number == 1,
            state=TaskState(context),
            inspect=self.inspect,
            manifest=self.manifest,
        )


class UploadFilesOperator(ThreeSixtyOperator):
    """Upload all files of a folder into a session in one task, several in parallel or as one zip.

    XCom: ``{files, bytes}``, a summary of fixed size for any number of files; with ``shards`` also
    ``{shard, shards}``; with ``archive`` the summary of the zip, which is one file. ``coordinate_system`` is
    added if files state one, and ``damaged`` and ``doubtful``, numbers of files, if something is wrong. The
    XCom ``inspection`` is as in :class:`ListFilesOperator`.

    You can spread one folder over several workers: with ``shards=4``, mapped with
    ``.expand(shard=[0, 1, 2, 3])``, each task lists the folder and takes a share that depends only on the
    files' names. No list passes through Airflow. A task with an empty share succeeds and uploads nothing, and
    :class:`~airflow_360.operators.project.CreateProjectOperator` makes sure that no shard is missing.

    On retry and on clear it lists again, asks the server with one request which bytes it has, and sends only
    the missing ones. A refused file does not stop the others; the error at the end lists all of them.

    With ``archive`` everything below the path is sent as one zip with its folders: the server flattens loose
    files, so a model keeps its textures only in an archive. The zip is not compressed. It is computed while
    it is sent, without a temporary file, and resumes at any byte. Airflow 3.3 and newer save the checksums of
    the bytes that were sent; on older versions a retry reads these bytes again.

    :param upload_id: the session (templated).
    :param path: a file, a folder, a prefix or a glob; local or any ``scheme://`` (templated). A string, a
        ``Path`` or an ``ObjectStoragePath``.
    :param paths: several paths, instead of ``path`` (templated).
    :param pattern: a glob or a list of globs, as in :class:`ListFilesOperator` (templated).
    :param exclude: a glob or a list of globs, as in :class:`ListFilesOperator` (templated).
    :param recursive: whether to enter subfolders; with ``archive`` always True. If not, a warning counts the
        files in them.
    :param follow_links: as in :class:`ListFilesOperator`.
    :param names: ``"path"`` or ``"basename"``, as in :class:`ListFilesOperator` (templated). Has no
        effect with ``archive``, which keeps folders.
    :param archive: a file name that ends in ``.zip``, to send everything as one archive (templated).
    :param parallel: the number of files to upload at a time. On most networks 4 is enough to hide the round
        trips of small files. Has no effect with ``archive``.
    :param chunk_size: bytes of a chunk, as in :class:`UploadFileOperator` (templated).
    :param on_empty: ``"skip"`` or ``"fail"``, as in :class:`ListFilesOperator`; it applies to the whole
        folder, not to a shard (templated).
    :param inspect: ``"warn"`` reads head and tail of each file and logs files that are empty, truncated or
        damaged; photos are inspected while they are sent. ``"fail"`` fails before the first byte and names
        them, ``"off"`` does not inspect (templated).
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves (templated).
    :param manifest: as in :class:`UploadFileOperator`, one row per file; in a folder it is named after the
        session, and after the shard or the archive (templated).
    :param shards: the number of tasks that share the files, each with about the same number of files, of any
        size (templated).
    :param shard: the number of this task's share, from 0 to ``shards - 1`` (templated).
    :param map_index_template: the label of a mapped row in Airflow's UI; by default the folder and the shard.
    """

    template_fields: Sequence[str] = (
        "upload_id",
        "path",
        "paths",
        "pattern",
        "exclude",
        "names",
        "archive",
        "chunk_size",
        "on_empty",
        "shards",
        "shard",
        "inspect",
        "aws_conn_id",
        "manifest",
        "three_sixty_conn_id",
    )

    def __init__(
        self,
        *,
        upload_id: str | XComArg,
        path: AnyPath | XComArg | None = None,
        paths: Sequence[AnyPath] | XComArg | None = None,
        pattern: Globs = None,
        exclude: Globs = None,
        recursive: bool = True,
        follow_links: bool = False,
        names: str = "path",
        archive: str | None = None,
        parallel: int = 4,
        chunk_size: int | str | None = None,
        on_empty: str = "skip",
        inspect: str = "warn",
        aws_conn_id: str | None = "aws_default",
        shards: int | str = 1,
        shard: int | str = 0,
        manifest: bool | str | None = None,
        map_index_template: str | None = _FOLDER_LABEL,
        **kwargs: Any,
    ) -> None:
        check_literal("names", names, *NAMES)
        check_literal("on_empty", on_empty, *ON_EMPTY)
        check_literal("inspect", inspect, *INSPECT_MODES)
        super().__init__(map_index_template=map_index_template, **kwargs)
        if (path is None) == (paths is None):
            raise ValueError(f"{self.task_id}: give either path or paths, and not both.")
        self.upload_id = cast("str", upload_id)
        self.path: str | None = path_text(path)
        self.paths: Sequence[str] | None = path_text(paths)
        self.pattern = pattern
        self.exclude = exclude
        self.recursive = recursive
        self.follow_links = follow_links
        self.names = names
        self.archive = archive
        self.parallel = parallel
        self.chunk_size = chunk_size
        self.on_empty = on_empty
        self.inspect = inspect
        self.aws_conn_id = aws_conn_id
        self.manifest = manifest
        self.shards = shards
        self.shard = shard

    @waits_out_rate_limits
    def execute(self, context: Context) -> dict[str, Any]:
        """List the files, and upload all of them or those of this shard."""
        require_choice("names", self.names, *NAMES)
        require_choice("on_empty", self.on_empty, *ON_EMPTY)
        shards, shard = self._shard_position()
        if self.archive is not None and shards > 1:
            raise ConfigurationError(
                "An archive is one file: remove shards, or remove archive.", parameter="shards"
            )
        left_out = LeftOut()
        files = self._files(left_out)
        if not files:
            conditions = self.hook.paths.conditions_text(self.pattern, self.exclude)
            _raise_empty(self.on_empty, f"No files in {self.path or self.paths}{conditions}", left_out)
        summary = self._upload(files, shards, shard, context)
        if str(left_out):
            self.log.info("Left out: %s.", left_out)
        return summary

    def _upload(self, files: Sequence[FileInfo], shards: int, shard: int, context: Context) -> dict[str, Any]:
        with _reported(context, self.hook.paths.inspector(self.inspect, self.aws_conn_id)) as inspector:
            return self._send(files, shards, shard, context, inspector)

    def _send(
        self,
        files: Sequence[FileInfo],
        shards: int,
        shard: int,
        context: Context,
        inspector: Inspector,
    ) -> dict[str, Any]:
        if self.archive is not None:
            return self.hook.uploads.archive(
                self.upload_id,
                files,
                self.archive,
                chunk_size=_parse_int("chunk_size", self.chunk_size),
                aws_conn_id=self.aws_conn_id,
                state=TaskState(context),
                inspector=inspector,
                manifest=self.manifest,
            )
        summary = self.hook.uploads.files(
            self.upload_id,
            files,
            names=self.names,
            parallel=self.parallel,
            chunk_size=_parse_int("chunk_size", self.chunk_size),
            aws_conn_id=self.aws_conn_id,
            shards=shards,
            shard=shard,
            state=TaskState(context),
            inspector=inspector,
            manifest=self.manifest,
        )
        return {**summary, "shard": shard, "shards": shards} if shards > 1 else summary

    def _shard_position(self) -> tuple[int, int]:
        """Return the number of shards, and the number of this task's shard."""
        shards, shard = _parse_int("shards", self.shards, of=""), _parse_int("shard", self.shard, of="")
        if shards is None or shard is None or not 0 <= shard < shards:
            raise ConfigurationError(
                f"shard must be from 0 to shards - 1, not {self.shard!r} with shards="
                f"{self.shards!r}. Give the task shards=4 and map it with .expand(shard=[0, 1, 2, 3]).",
                parameter="shard",
            )
        return shards, shard

    def _files(self, left_out: LeftOut) -> list[FileInfo]:
        if self.paths is None:
            return self._listed(str(self.path or ""), left_out)
        if isinstance(self.paths, str) or not isinstance(self.paths, Sequence):
            raise ConfigurationError(f"paths must be a list of paths, not {self.paths!r}.", parameter="paths")
        # If there are several folders, names made of paths begin with the folder's own name.
        return [
            file if file.path == path else replace(file, relative=f"{_folder_of(file)}/{file.relative}")
            for path in map(path_text, self.paths)
            for file in self._listed(path, left_out)
        ]

    def _listed(self, path: str, left_out: LeftOut) -> list[FileInfo]:
        return self.hook.paths.list_files(
            path,
            self.pattern,
            self.recursive or self.archive is not None,
            self.aws_conn_id,
            exclude=self.exclude,
            left_out=left_out,
            follow_links=self.follow_links,
        )


class DeleteUploadSessionOperator(ThreeSixtyOperator):
    """Delete a session and everything in it; without this task a session expires by itself.

    A session with a project, or with a possible project, is not deleted: the task fails, or is skipped if it
    is a teardown. A project is possible if the project task sent its request and the result is unknown.

    On retry and on clear it deletes again, which the server accepts.

    :param upload_id: the session (templated).
    :param project_name: the result of the project task; empty if it failed. Normally a project has its
        session's name and is found without this; set it for the rare project with another name (templated).
    """

    template_fields: Sequence[str] = ("upload_id", "project_name", "three_sixty_conn_id")

    def __init__(
        self, *, upload_id: str | XComArg, project_name: str | XComArg | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.upload_id = cast("str", upload_id)
        self.project_name = cast("str | None", project_name)

    @waits_out_rate_limits
    @airflow_errors()
    def execute(self, context: Context) -> None:
        """Delete the session, unless it has a project."""
        require_rendered(upload_id=self.upload_id)
        name = self._project() if is_unset(self.project_name) else self.project_name
        if name is not None:
            page = self.hook.client.project_url(name)
            said = f"Upload session {self.upload_id} became project {name} and is not deleted: {page}."
        elif self._is_in_doubt(context):
            said = (
                f"Upload session {self.upload_id} is not deleted: a project may have been created from it, "
                "and the result of the request is not known. The session expires by itself."
            )
        else:
            self.hook.client.delete_upload_session(self.upload_id)
            self.log.info("Upload session %s is deleted.", self.upload_id)
            return
        raise AirflowSkipException(said) if self.is_teardown else ProjectError(said)

    def _is_in_doubt(self, context: Context) -> bool:
        """Return whether a project task of this DAG requested a project and does not know the result."""
        if not self.has_dag():  # type: ignore[no-untyped-call]
            return False
        # A mapped task only has the class of its operator; a subclass counts too.
        makers = [
            task.task_id
            for task in self.dag.tasks
            if getattr(getattr(task, "operator_class", task), "creates_projects", False)
        ]
        index = getattr(context["ti"], "map_index", -1)
        return any(
            context["ti"].xcom_pull(task_ids=task_id, key=PROJECT_REQUEST, map_indexes=at) == "asked"
            for task_id in makers
            for at in {index, -1}
        )

    def _project(self) -> str | None:
        try:
            return self.hook.client.get_project(self.upload_id).name
        except ProjectStatusError:
            return self.upload_id
        except NotFoundError:
            return None


@contextmanager
def _reported(context: Context, inspector: Inspector) -> Iterator[Inspector]:
    """Log what an inspection found and save it for Airflow's UI, also if the task fails because of it."""
    try:
        yield inspector
    finally:
        inspector.report()
        if inspector.is_on:
            context["ti"].xcom_push(key=INSPECTION, value=inspector.shown)


def _folder_of(file: FileInfo) -> str:
    """Return the name of the listed folder, which the path may contain as a glob."""
    return file.path.removesuffix(file.relative).rstrip("/").rpartition("/")[2]


def _raise_empty(on_empty: str, said: str, left_out: LeftOut | None = None) -> NoReturn:
    """End the task because there is nothing to do.

    :param on_empty: ``"fail"`` or ``"skip"``.
    :param said: the start of the message, for example "No files in …".
    :param left_out: the entries that were left out, which may be the reason.
    """
    said += f" (left out: {left_out})" if left_out and str(left_out) else ""
    if on_empty == "fail":
        raise SourceError(
            f"{said}. Check path, pattern and exclude, or set on_empty to skip if this is not an error."
        )
    raise AirflowSkipException(f"{said}: skipping. Set on_empty to fail if this is an error.")


def _parse_int(what: str, value: int | str | None, of: str = " of bytes") -> int | None:
    """Return a number that a template may have rendered as text."""
    if value is None or is_unset(value):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{what} must be a whole number{of}, not {value!r}.", parameter=what
        ) from None


def _parse_seconds(what: str, value: float | str | None) -> float | None:
    """Return seconds since the epoch that a template may have rendered as text."""
    if value is None or is_unset(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{what} must be seconds since the epoch, not {value!r}.", parameter=what
        ) from None
