"""The operator that creates a project from an upload session, a link, or an object in S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowSkipException, conf

from airflow_360.exceptions import ProjectError
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.parameters import (
    checked_options,
    checked_privacy_mode,
    is_literal,
    mask_link,
    path_text,
    privacy_mode_number,
)
from airflow_360.links.project import ProjectLink
from airflow_360.operators.base import ThreeSixtyOperator, is_mapped, reschedule, seconds_to_wait
from airflow_360.projects.contents import check_contents
from airflow_360.projects.times import CreationTimes, WaitTimes, as_seconds
from airflow_360.runtime.assets import add_asset_events
from airflow_360.runtime.lasting_store import lasting_inlets
from airflow_360.runtime.results import PROJECT_REQUEST, coordinate_system_of, results_of
from airflow_360.runtime.scan_records import SCAN_KEYS, ScanRecord, listing_task_id
from airflow_360.runtime.task_state import TaskState, is_waiting, time_left
from airflow_360.triggers.pause import PauseTrigger
from airflow_360.triggers.project import ProjectReadyTrigger
from airflow_360.values import is_unset
from airflow_360.version_compat import TaskDeferralTimeout

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import Project
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.projects.creation import Pause, ProjectCreation, RecordStore

__all__ = ["CreateProjectOperator"]

AUTO = "auto"  # the coordinate system that the files state
ORIGINS = ("upload_id", "download_link", "download_from")  # exactly one must be set
MAX_PATH_CHARACTERS = 200  # from the end of the path; they fit into a key of Airflow's task state
LINK_SECONDS = 24 * 3600  # the time until the server fetches the object is not documented


class CreateProjectOperator(ThreeSixtyOperator):
    """Create one project from a session whose files are complete, from a link, or from an object in S3.

    XCom: ``project_name``, the project's slug; and ``project_url``, its page, which the button opens. With
    ``wait_for_completion`` the event of an asset or an alias in ``outlets`` names the ready project.

    The session is listed first. The project is created only if every file is complete and, with ``uploads``,
    only if the session contains exactly the uploaded files.

    If the request to create the project gets no clear answer, the task searches for the project, without a
    worker slot after some seconds. If it does not appear, the request is sent again when that is safe:
    15 minutes after a broken connection, 60 minutes after a timeout, at most twice. A project from a link
    cannot be searched for: in doubt the task stops and lists the possible projects.

    **On retry and on clear** the existing project is reused, whether Airflow kept the task's saved state or
    deleted it. A project is created again only if it was deleted on the server and you clear this task.

    Before the request it pushes the XCom ``project_request``: ``"asked"``, or later ``"refused"`` if the
    request certainly created nothing. A teardown reads it.

    :param upload_id: the session (templated).
    :param download_link: a URL that the server downloads from, instead of a session (templated).
    :param download_from: an object, ``s3://bucket/key``, instead of either: the server downloads it with a
        presigned URL, and no bytes pass through the worker. The URL is created together with the project,
        opens only this object, and is valid for a day. It is not stored or logged (templated).
    :param aws_conn_id: the connection for a ``download_from`` that names none itself (templated).
    :param uploads: the results of the upload tasks: one result, a list, or a mapped task's ``output``
        (templated).
    :param title: the project's title; if it is empty, the server chooses one (templated).
    :param path: the folder that the files came from. If ``title`` is empty, its last part is the title. If it
        is the output of a ``ListScansOperator(only_new=True)``, the scan is recorded as done once its project
        exists, and it is skipped if another run has created its project in the meantime (templated).
    :param privacy_mode: ``"private"`` (the owner and invited users), ``"link"``, ``"public"``, or the
        server's number. Private by default, as in the vendor's own client (templated).
    :param coordinate_system: for example ``"EPSG:25832"``. ``"auto"`` takes the one that the files in
        ``uploads`` state: if they state different ones, the task fails and lists them; if they state none, a
        warning says so, and the project has none (templated).
    :param options: any other fields of the server's API, sent unchanged (templated).
    :param wait_for_completion: whether to wait, without a worker slot, until the project is ready.
    :param poll_interval: seconds (or a timedelta) between two polls of that wait. 60 by default: the server
        allows 60 a minute for all projects of a key.
    :param timeout: seconds (or a timedelta) after which that wait fails, counted from its start;
        Airflow's ``[sensors] default_timeout`` by default.
    :param fail_on_errors: whether a ready project with processing errors fails that wait; by default it logs
        a warning.
    :param stall_timeout: seconds (or a timedelta) for which the status may stay the same during that wait;
        off by default.
    """

    template_fields: Sequence[str] = (
        "upload_id",
        "download_link",
        "download_from",
        "aws_conn_id",
        "uploads",
        "title",
        "path",
        "privacy_mode",
        "coordinate_system",
        "options",
        "three_sixty_conn_id",
    )
    operator_extra_links = (ProjectLink(),)
    #: The durations of creating a project and, below, of waiting for it. A test may set shorter ones.
    creation_times = CreationTimes()
    #: A teardown uses this to find the tasks that may have requested a project.
    creates_projects = True
    times = WaitTimes()

    def __init__(
        self,
        *,
        upload_id: str | XComArg | None = None,
        download_link: str | None = None,
        download_from: AnyPath | XComArg | None = None,
        aws_conn_id: str | None = "aws_default",
        uploads: Any = None,
        title: str | None = None,
        path: AnyPath | XComArg | None = None,
        privacy_mode: str | int = "private",
        coordinate_system: str | None = None,
        options: Mapping[str, Any] | None = None,
        wait_for_completion: bool = False,
        poll_interval: float | timedelta = 60.0,
        timeout: float | timedelta | None = None,
        fail_on_errors: bool = False,
        stall_timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        if is_literal(privacy_mode):
            privacy_mode_number(privacy_mode)
        super().__init__(**kwargs)
        if [upload_id, download_link, download_from].count(None) != 2:
            raise ValueError(f"{self.task_id}: give one of {', '.join(ORIGINS)}.")
        if coordinate_system == AUTO and uploads is None:
            raise ValueError(
                f'{self.task_id}: coordinate_system="auto" needs uploads, the results of the upload tasks.'
            )
        self.upload_id = cast("str | None", upload_id)
        self.download_link = download_link
        self.download_from: str | None = path_text(download_from)
        self.aws_conn_id = aws_conn_id
        self.uploads = uploads
        self._wants_uploads = uploads is not None
        self.title = title
        self.path: str | None = path_text(path)
        self.listing_task = listing_task_id(path)
        self.inlets = [*self.inlets, *lasting_inlets()]
        self.privacy_mode = privacy_mode
        self.coordinate_system = coordinate_system
        self.options = options
        self.wait_for_completion = wait_for_completion
        self.fail_on_errors = fail_on_errors
        self.poll_interval = as_seconds(poll_interval, "poll_interval") or 60.0
        self.stall_timeout = as_seconds(stall_timeout, "stall_timeout")
        self.timeout = as_seconds(timeout, "timeout") or conf.getfloat("sensors", "default_timeout")

    def _do_render_template_fields(self, *args: Any, **more: Any) -> None:
        """Render the fields, and mask the link in those that Airflow stores and shows."""
        super()._do_render_template_fields(*args, **more)
        mask_link(str(self.download_link or ""))

    @airflow_errors()
    def execute(self, context: Context) -> str:
        """Create the project, or reuse the one that exists."""
        return self._run(context)

    @airflow_errors()
    def resume(self, context: Context, event: Any = None, record: Mapping[str, Any] | None = None) -> str:
        """Continue after a pause without a worker slot.

        :param record: the record of the project from before the pause.
        """
        return self._run(context, record)

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> str:
        """Return the name of the project that the trigger found ready."""
        project = self.hook.projects.of_event(event)
        self._ready(context, project)
        return project.name

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral; if the project was not ready in time, raise an error with its page."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            page = context["ti"].xcom_pull(task_ids=self.task_id, key=ProjectLink.key)
            if not page or not self.wait_for_completion or str(error) == "Trigger failure":
                raise
            with airflow_errors(self.three_sixty_conn_id):
                raise ProjectError(self.hook.projects.late_text(str(page), self.timeout)) from None

    def _run(self, context: Context, resumed: Mapping[str, Any] | None = None) -> str:
        state = TaskState(context)
        self._clear_unset_templates()
        fields = self._fields()
        scan = ScanRecord(context, self._key(context))
        if made := scan.made_by_another_run():
            raise AirflowSkipException(f"{self.path} {made}: no second one is created.")
        records = self._records(context, state, resumed)
        name = records.load().name
        if self.wait_for_completion and name and is_waiting(state, name):
            ProjectLink.persist(context, self.hook.client.project_url(name))  # each run deletes the XComs
            self._wait(context, name, state)
            return name
        project = self._creation(context, state, records, fields).run()
        if isinstance(project, self.hook.projects.Pause):
            self._pause(context, state, project)
        scan.add(str(self.path), project.name)
        page = self.hook.client.project_url(project.name)
        self.log.info("Project %s: %s", project.name, page)
        ProjectLink.persist(context, page)
        self._trace(page)
        if project.ready and self.wait_for_completion:
            self._ready(context, project)
        elif self.wait_for_completion:
            self._wait(context, project.name, state)
        return project.name

    def _records(self, context: Context, state: TaskState, resumed: Mapping[str, Any] | None) -> RecordStore:
        return self.hook.projects.records(
            context,
            state,
            self.upload_id,
            about=self._about,
            retries=self.retries or 0,
            resumed=resumed,
            waits=self.wait_for_completion,
        )

    def _creation(
        self, context: Context, state: TaskState, records: RecordStore, fields: dict[str, Any]
    ) -> ProjectCreation:
        return self.hook.projects.creation(
            records,
            state,
            self.upload_id,
            fields,
            about=self._about,
            check=lambda client: self._check(client, fields),
            on_request=lambda request: context["ti"].xcom_push(key=PROJECT_REQUEST, value=request),
            times=self.creation_times,
        )

    def _pause(self, context: Context, state: TaskState, pause: Pause) -> NoReturn:
        """Give the worker slot back until it is time for the next request.

        A reschedule loses everything that is not saved. So without saved state the task always defers, and
        the deferral carries the record.
        """
        seconds = pause.seconds
        if pause.rate_limit:
            seconds = max(seconds, seconds_to_wait(pause.rate_limit, is_mapped(context)))
        if state.available and not self.deferrable:
            reschedule(seconds)
        self.defer(
            trigger=PauseTrigger(seconds, time.time()),
            method_name="resume",
            kwargs={"record": pause.record.to_json()},
            timeout=timedelta(seconds=seconds + self.creation_times.triggerer),
        )

    def _key(self, context: Context) -> str | None:
        """Return the key of the scan's record if a listing task with ``only_new`` returned it, or None."""
        if not self.listing_task:
            return None
        keys = context["ti"].xcom_pull(task_ids=self.listing_task, key=SCAN_KEYS, map_indexes=-1) or {}
        if self.path not in keys:
            self.log.warning(
                "%s is not in the last result of %s, so it is not recorded as done.",
                self.path,
                self.listing_task,
            )
        return keys.get(self.path)

    def _clear_unset_templates(self) -> None:
        """Set parameters to None whose templates rendered to nothing."""
        for name in (*ORIGINS, "title"):
            if is_unset(getattr(self, name)):
                setattr(self, name, None)

    def _fields(self) -> dict[str, Any]:
        """Return the body of the request, after checking the rendered templates."""
        if sum(bool(getattr(self, name)) for name in ORIGINS) != 1:
            raise ProjectError(
                "A project is created from exactly one of a session, a link and an object in S3, but "
                f"upload_id is {self.upload_id!r}, download_from is {self.download_from!r}, and "
                f"download_link is {'set' if self.download_link else 'empty'}."
            )
        if self.download_link and not str(self.download_link).startswith(("http://", "https://")):
            raise ProjectError("download_link must begin with http:// or https://; it is not shown here.")
        if self._wants_uploads and not self.uploads:
            raise ProjectError(
                "uploads is empty: the upload tasks returned nothing. Clear them to run again."
            )
        given = {
            "upload_id": self.upload_id,
            "download_link": self.download_link,
            "title": self.title or (self.path or "").rstrip("/").rpartition("/")[2],
            "privacy_mode": checked_privacy_mode(self.privacy_mode),
            "coordinate_system": self.coordinate_system,
        }
        fields = {name: value for name, value in given.items() if value not in (None, "")}
        options = checked_options(self.options, fields)
        if fields.get("coordinate_system") == AUTO:
            del fields["coordinate_system"]  # until the session was checked
        return {**fields, **options}

    def _stated_system(self, uploads: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
        """Return the coordinate system that the uploaded files state, as a field of the request."""
        if self.coordinate_system != AUTO:
            return {}
        system, warning = coordinate_system_of(uploads or [])
        if system:
            self.log.info("Coordinate system of the uploaded files: %s.", system)
        if warning:
            self.log.warning("%s", warning)
        return {"coordinate_system": system} if system else {}

    def _check(self, client: ThreeSixtyClient, fields: dict[str, Any]) -> None:
        """Make sure that the session contains exactly the uploaded files, or that the object exists."""
        if self.download_from:
            link = self.hook.paths.presigned_link(self.download_from, LINK_SECONDS, self.aws_conn_id)
            mask_link(link)
            fields["download_link"] = link
        if self.upload_id:
            uploads = results_of(self.uploads)
            check_contents(self.upload_id, client.list_files(self.upload_id), uploads)
            fields.update(self._stated_system(uploads))

    @property
    def _about(self) -> str:
        if self.download_from:  # its link is different each time
            return f"object {self.download_from[-MAX_PATH_CHARACTERS:]}"
        # A link may be presigned, so it may be a secret.
        link = hashlib.sha256((self.download_link or "").encode()).hexdigest()[:16]
        return f"session {self.upload_id}" if self.upload_id else f"link {link}"

    def _wait(self, context: Context, project_name: str, state: TaskState) -> None:
        """Return if the project is ready; until then give the slot back."""
        left = time_left(state, project_name, self.timeout)
        # Without saved state the next run of a rescheduled task could not know of the project.
        defers = self.deferrable or not state.available
        poll = self.hook.projects.poll(
            project_name,
            None if defers else state,  # the trigger counts failures for itself
            self.poll_interval,
            self.stall_timeout,
            times=self.times,
        )
        if poll.project:
            self._ready(context, poll.project)
            return
        if left <= 1:
            page = self.hook.client.project_url(project_name)
            raise ProjectError(self.hook.projects.late_text(page, self.timeout))
        if not defers:
            reschedule(min(poll.seconds, left))
        self.defer(
            trigger=ProjectReadyTrigger(
                project_name,
                self.three_sixty_conn_id,
                self.poll_interval,
                self.stall_timeout,
                first_poll_after=poll.pause,
                deferred_at=time.time(),
                times=self.times,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=left),
        )

    def _trace(self, page: str) -> None:
        """Record the lineage. A link is not recorded as a source, because it may be a secret."""
        sources = [self.hook.client.session_url(self.upload_id)] if self.upload_id else []
        sources += [self.download_from] if self.download_from else []
        self.hook.lineage.moved(sources, page)

    def _ready(self, context: Context, project: Project) -> None:
        if project.name == self.upload_id:
            self.hook.projects.forget_session(context, project.name)
        page = self.hook.client.project_url(project.name)
        self._trace(page)
        self.hook.projects.ready_record(project, page, self.fail_on_errors)
        add_asset_events(context, self.outlets, project, page, self.uploads)
