"""The creation of projects, and the polls that tasks send.

Separate because it imports the rules of creation and of waits, and the records of both. The hook imports it
when a task runs, not while a DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_360.hooks.project_polls import PollResult, poll_from_task
from airflow_360.projects.creation import Pause, ProjectCreation
from airflow_360.projects.waiting import late_text, project_of, ready_record
from airflow_360.runtime.creation_records import LinkRecords, SessionRecords, forget_session, new_session

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.hooks.three_sixty import ThreeSixtyHook
    from airflow_360.projects.creation import RecordStore
    from airflow_360.projects.times import CreationTimes, WaitTimes
    from airflow_360.projects.waiting import WaitRecord
    from airflow_360.runtime.task_state import TaskState

__all__ = ["Projects"]


class Projects:
    """Projects of one connection.

    :param hook: the hook of the connection.
    """

    # These need no connection. They are here so that a DAG file does not import them.
    Pause = Pause
    late_text = staticmethod(late_text)
    of_event = staticmethod(project_of)
    ready_record = staticmethod(ready_record)
    forget_session = staticmethod(forget_session)
    record_new_session = staticmethod(new_session)

    def __init__(self, hook: ThreeSixtyHook) -> None:
        self._hook = hook

    def records(
        self,
        context: Any,
        state: TaskState,
        upload_id: str | None,
        *,
        about: str,
        retries: int,
        resumed: Mapping[str, Any] | None,
        waits: bool,
    ) -> RecordStore:
        """Return the store for the record of a project's creation.

        :param context: the task's context.
        :param state: the task's saved state.
        :param upload_id: the session; None for a link.
        :param about: the origin of the project, as text without secrets.
        :param retries: the task's ``retries``.
        :param resumed: the record that a deferral carried, or None.
        :param waits: whether the task waits for its project.
        """
        if upload_id:
            return SessionRecords(context, state, upload_id, resumed, waits)
        return LinkRecords(context, state, about, retries, resumed)

    def creation(
        self,
        records: RecordStore,
        state: TaskState,
        upload_id: str | None,
        fields: dict[str, Any],
        *,
        about: str,
        check: Callable[[ThreeSixtyClient], None],
        on_request: Callable[[str], None],
        times: CreationTimes,
    ) -> ProjectCreation:
        """Return the creation of one project, which has sent nothing yet.

        :param records: see :meth:`records`.
        :param state: the task's saved state.
        :param upload_id: the session; None for a link.
        :param fields: the body of the request; ``check`` may add to it.
        :param about: the origin of the project, as text without secrets.
        :param check: makes sure that the session is complete, or that the linked object exists.
        :param on_request: see :class:`~airflow_360.projects.creation.ProjectCreation`.
        :param times: the durations.
        """
        return ProjectCreation(
            call=self._hook.with_current_key,
            store=records,
            about=about,
            upload_id=upload_id,
            create=lambda client: client.create_project(fields),
            check=check,
            title=fields.get("title"),
            attempt=state.attempt,
            clears=state.clears,
            on_request=on_request,
            times=times,
        )

    def poll(
        self,
        project_name: str,
        state: TaskState | None,
        every: float,
        stall_timeout: float | None,
        *,
        record: WaitRecord | None = None,
        times: WaitTimes,
    ) -> PollResult:
        """Poll a project once from a task; see :func:`~airflow_360.hooks.project_polls.poll_from_task`."""
        return poll_from_task(
            self._hook, project_name, state, every, stall_timeout, record=record, times=times
        )
