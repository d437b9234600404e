"""Wait until a project is ready; poke, reschedule and deferrable mean the same."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_360.hooks.assets import announce
from airflow_360.hooks.task_state import TaskState, time_left
from airflow_360.hooks.three_sixty import DEFAULT_CONN_ID, UsesThreeSixty, airflow_errors, required
from airflow_360.links.project import ProjectLink
from airflow_360.triggers.project import (
    ProjectReadyTrigger,
    check_stall,
    look,
    project_of,
    ready_record,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_360.api.records import Project

__all__ = ["ProjectReadySensor"]


class ProjectReadySensor(UsesThreeSixty, BaseSensorOperator):
    """Wait until a project is ready (status 100).

    XCom: the project's full record; and ``project_url``, its page, which the button opens. The event of an
    asset or an alias in ``outlets`` says which project is ready.

    On retry and on clear it waits again, and a project that is ready ends it at once.

    :param project_name: the project's slug (templated).
    :param fail_on_errors: whether a project that is ready but counts errors fails; by default a warning.
    :param uploads: what the upload tasks returned, as in
        :class:`~airflow_360.operators.project.CreateProjectOperator`; only for the number of files in the
        event of an asset (templated).
    :param stall_timeout: seconds for which the status may stand still before the wait fails; off by default,
        since nothing says how long a step of the server takes.
    :param three_sixty_conn_id: the connection to the server (templated).
    :param deferrable: whether to wait in the triggerer; the default is Airflow's ``default_deferrable``.
    :param poke_interval: seconds between two polls. 60 by default: processing takes minutes, and the server
        allows 60 polls a minute for all projects of a key.
    :param timeout: seconds after which the wait fails; Airflow's ``[sensors] default_timeout`` by default.
    :param mode: when not deferrable: ``"reschedule"``, the default, holds no worker slot; ``"poke"`` does.
    """

    template_fields: Sequence[str] = ("project_name", "uploads", "three_sixty_conn_id")
    operator_extra_links = (ProjectLink(),)

    def __init__(
        self,
        *,
        project_name: str | XComArg,
        fail_on_errors: bool = False,
        uploads: Any = None,
        stall_timeout: float | None = None,
        three_sixty_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.project_name = cast("str", project_name)
        self.fail_on_errors = fail_on_errors
        self.uploads = uploads
        self.stall_timeout = stall_timeout
        self.three_sixty_conn_id = three_sixty_conn_id
        self.deferrable = deferrable

    @airflow_errors()
    def execute(self, context: Context) -> Any:
        """Look once, and wait where the project is not ready."""
        required(project_name=self.project_name)
        page = self.hook.client.project_url(self.project_name)
        self.log.info("Project %s: %s", self.project_name, page)
        ProjectLink.persist(context, page)
        if not self.deferrable:
            return super().execute(context)
        seen = self._first_look(context)
        if not seen.is_done:
            left = time_left(TaskState(context), self.project_name, self.timeout)
            self.defer(
                timeout=timedelta(seconds=left),
                trigger=ProjectReadyTrigger(
                    self.project_name, self.three_sixty_conn_id, self.poke_interval, self.stall_timeout
                ),
                method_name="execute_complete",
            )
        return seen.xcom_value

    @airflow_errors()
    def poke(self, context: Context) -> PokeReturnValue:
        """Ask the server once for the project's status; a server that fails for a while is waited for."""
        state = TaskState(context)
        project = look(self.hook, self.project_name, None if self.deferrable else state, self.poke_interval)
        if project is None:
            return PokeReturnValue(False)
        if project.ready:
            return PokeReturnValue(True, self._ready(context, project))
        if self.stall_timeout is not None:
            check_stall(project, self._unchanged_for(project, state), self.stall_timeout)
        return PokeReturnValue(False)

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the record of the project that the trigger saw ready."""
        return self._ready(context, project_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the wait in the triggerer, and say what was waited for where it took too long."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            page = self.hook.client.project_url(self.project_name)
            raise AirflowSensorTimeout(
                f"Project {self.project_name} was not ready within {self.timeout:.0f} s. See {page}; clear "
                "this task to wait on."
            ) from None

    def _first_look(self, context: Context) -> PokeReturnValue:
        try:
            return self.poke(context)
        except AirflowException as error:  # as BaseSensorOperator does in its other modes
            if self.soft_fail or getattr(self, "never_fail", False):
                raise AirflowSkipException("Skipping, because soft_fail or never_fail is set.") from error
            raise

    def _unchanged_for(self, project: Project, state: TaskState) -> float:
        """Return for how many seconds the status has been what it is, as far as the task remembers."""
        seen = state.get("status of", project.name, state.clears) or {}
        if seen.get("status") != project.status:
            seen = {"status": project.status, "since": time.time()}
            state.set("status of", project.name, state.clears, value=seen)
        return float(time.time() - seen["since"])

    def _ready(self, context: Context, project: Project) -> dict[str, Any]:
        page = self.hook.client.project_url(project.name)
        record = ready_record(project, page, self.fail_on_errors)
        announce(context, self.outlets, project, page, self.uploads)
        return record
