"""The sensor that waits until a project is ready, with the same rules in all modes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_360.exceptions import ProjectError, ThreeSixtyError
from airflow_360.hooks.connection import DEFAULT_CONN_ID
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.parameters import require_rendered
from airflow_360.hooks.task_mixin import UsesThreeSixty
from airflow_360.links.project import ProjectLink
from airflow_360.projects.times import WaitTimes, as_seconds
from airflow_360.runtime.assets import add_asset_events
from airflow_360.runtime.task_state import TaskState, time_left
from airflow_360.triggers.project import ProjectReadyTrigger
from airflow_360.version_compat import AirflowRescheduleException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_360.api.records import Project
    from airflow_360.hooks.project_polls import PollResult
    from airflow_360.projects.waiting import WaitRecord

__all__ = ["ProjectReadySensor"]


class ProjectReadySensor(UsesThreeSixty, BaseSensorOperator):
    """Wait until a project is ready (status 100).

    XCom: the project's full record (dict); and ``project_url``, its page, which the button opens. The event
    of an asset or an alias in ``outlets`` names the ready project.

    On retry and on clear it waits again. If the project is ready, the wait ends at once.

    In every mode, retryable errors are tolerated for 15 minutes or three polls, whichever is longer. A 404
    must repeat three times in a row. Any other error fails the task at once. If the server asks to wait (429
    with ``Retry-After``), the sensor does not poll sooner.

    :param project_name: the project's slug (templated).
    :param fail_on_errors: whether a ready project with processing errors fails the task; by default it logs
        a warning.
    :param uploads: the results of the upload tasks, as in
        :class:`~airflow_360.operators.project.CreateProjectOperator`; only for the number of files in the
        event of an asset (templated).
    :param stall_timeout: seconds or a timedelta. If the status stays the same for longer, the task fails. Off
        by default, because the server does not say how long a step takes.
    :param three_sixty_conn_id: the connection to the server (templated).
    :param deferrable: whether to wait in the triggerer; the default is Airflow's ``default_deferrable``.
    :param poke_interval: seconds between two polls. 60 by default: processing takes minutes, and the server
        allows 60 polls a minute for all projects of a key.
    :param timeout: seconds after which the wait fails; Airflow's ``[sensors] default_timeout`` by default.
    :param mode: if not deferrable: ``"reschedule"``, the default, holds no worker slot; ``"poke"`` does.
    """

    template_fields: Sequence[str] = ("project_name", "uploads", "three_sixty_conn_id")
    operator_extra_links = (ProjectLink(),)
    #: How long failures are tolerated; replace it to shorten a test.
    times: WaitTimes = WaitTimes()

    def __init__(
        self,
        *,
        project_name: str | XComArg,
        fail_on_errors: bool = False,
        uploads: Any = None,
        stall_timeout: timedelta | float | None = None,
        three_sixty_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.project_name = cast("str", project_name)
        self.fail_on_errors = fail_on_errors
        self.uploads = uploads
        self.stall_timeout = as_seconds(stall_timeout, "stall_timeout")
        self.three_sixty_conn_id = three_sixty_conn_id
        self.deferrable = deferrable
        # From the last poll: the record, in case no state can be saved, and the pause from the server.
        self._record: WaitRecord | None = None
        self._pause = 0.0

    @airflow_errors()
    def execute(self, context: Context) -> Any:
        """Poll once, and wait if the project is not ready."""
        _require_name(self.project_name)
        page = self.hook.client.project_url(self.project_name)
        self.log.info("Project %s: %s", self.project_name, page)
        ProjectLink.persist(context, page)
        if not self.deferrable:
            return self._poke_until_ready(context)
        polled = self._first_poll(context)
        if not polled.is_done:
            self._defer(context)
        return polled.xcom_value

    @airflow_errors()
    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the server once for the project's status; failures are tolerated for a while."""
        result = self._poll(context)
        self._record, self._pause = result.record, result.pause
        if result.project:
            return PokeReturnValue(True, self._ready(context, result.project))
        return PokeReturnValue(False)

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the record of the project that the trigger found ready."""
        return self._ready(context, self.hook.projects.of_event(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the wait in the triggerer; after a timeout, raise an error with the page's URL."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            raise self._timed_out() from None

    def _poke_until_ready(self, context: Context) -> Any:
        """Wait as Airflow's sensors do, but reschedule no sooner than the server asked."""
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            raise self._timed_out() from None
        except AirflowRescheduleException as planned:
            if not self._pause:
                raise
            allowed = datetime.now(UTC) + timedelta(seconds=self._pause_within_timeout(context))
            raise AirflowRescheduleException(max(planned.reschedule_date, allowed)) from None

    def _pause_within_timeout(self, context: Context) -> float:
        """Return the pause that the server asked for, or the rest of the timeout if that is shorter.

        A sensor that cannot save its state would poll at the end of the timeout, so it waits for the pause.
        """
        state = TaskState(context)
        if not state.available:
            return self._pause
        return min(self._pause, time_left(state, self.project_name, self.timeout))

    def _defer(self, context: Context) -> None:
        left = time_left(TaskState(context), self.project_name, self.timeout)
        self.defer(
            timeout=timedelta(seconds=left),
            trigger=ProjectReadyTrigger(
                self.project_name,
                self.three_sixty_conn_id,
                self.poke_interval,
                self.stall_timeout,
                first_poll_after=self._pause,
                deferred_at=time.time(),
                times=self.times,
            ),
            method_name="execute_complete",
        )

    def _first_poll(self, context: Context) -> PokeReturnValue:
        try:
            return self.poke(context)
        except AirflowException as error:  # as BaseSensorOperator does in its other modes
            if self.soft_fail or getattr(self, "never_fail", False):
                raise AirflowSkipException("Skipping, because soft_fail or never_fail is set.") from error
            raise

    def _poll(self, context: Context) -> PollResult:
        """Poll once; if the record cannot be saved when the task is rescheduled, repeat a 404 immediately."""
        state = TaskState(context)
        result = self._poll_once(state)
        forgets = not self.deferrable and not state.available and self.mode == "reschedule"
        while forgets and result.record.missing:
            time.sleep(self.times.missing_interval)
            self._record = result.record
            result = self._poll_once(state)
        return result

    def _poll_once(self, state: TaskState) -> PollResult:
        return self.hook.projects.poll(
            self.project_name,
            None if self.deferrable else state,
            self.poke_interval,
            self.stall_timeout,
            record=self._record,
            times=self.times,
        )

    def _timed_out(self) -> AirflowSensorTimeout:
        page = self.hook.client.project_url(self.project_name)
        return AirflowSensorTimeout(
            f"Project {self.project_name} was not ready within {self.timeout:.0f} s. See {page}. Clear this "
            "task to wait again."
        )

    def _ready(self, context: Context, project: Project) -> dict[str, Any]:
        page = self.hook.client.project_url(project.name)
        record = self.hook.projects.ready_record(project, page, self.fail_on_errors)
        add_asset_events(context, self.outlets, project, page, self.uploads)
        return record


def _require_name(project_name: str) -> None:
    """Make sure that the name was rendered.

    :raises ProjectError: if the project task returned nothing.
    """
    try:
        require_rendered(project_name=project_name)
    except ThreeSixtyError:
        raise ProjectError(
            "project_name is empty. If you marked the upstream task as success, it returned no XCom: clear "
            "that task instead. A cleared project task reuses its project."
        ) from None
