"""The poll that a task sends: before it defers, or each time that it is rescheduled.

Separate from the trigger, which polls many times in one process and saves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_360.exceptions import ThreeSixtyError
from airflow_360.projects.times import WaitTimes
from airflow_360.projects.waiting import (
    GiveUp,
    PollAgain,
    Ready,
    WaitRecord,
    log_status,
    log_step,
    poll_once,
)
from airflow_360.runtime.task_state import Key, TaskState

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import Project
    from airflow_360.hooks.three_sixty import ThreeSixtyHook

__all__ = ["PollResult", "poll_from_task"]

#: A saved moment further ahead than this comes from a wrong clock: no ``Retry-After`` is longer.
MAX_PAUSE_SECONDS = 86400.0


@dataclass(frozen=True)
class PollResult:
    """The result of one poll from a task.

    :param project: the ready project, or None: poll again.
    :param seconds: seconds until the next poll; at least the poll interval and the pause from the server.
    :param pause: the seconds of these that the server asked for, or 0.
    :param record: the new record. A task that cannot save its state passes it to the next poll.
    """

    project: Project | None
    seconds: float
    pause: float
    record: WaitRecord

    @property
    def ready(self) -> bool:
        """Return whether the project is ready."""
        return self.project is not None


def poll_from_task(
    hook: ThreeSixtyHook,
    project_name: str,
    state: TaskState | None,
    every: float,
    stall_timeout: float | None = None,
    *,
    record: WaitRecord | None = None,
    times: WaitTimes = WaitTimes(),
    clock: Callable[[], float] = time.time,
) -> PollResult:
    """Poll a project once from a task.

    This sends exactly one request, without retries in place. It sends none if the server asked for a pause
    that is not over yet.

    :param hook: the connection.
    :param project_name: the project's slug.
    :param state: the task's saved state, which keeps the record of the wait; None to save nothing.
    :param every: seconds between two polls.
    :param stall_timeout: seconds for which the status may stay the same; None for no limit.
    :param record: the record from the last poll, if the task cannot save its state.
    :param times: how long failures are tolerated; see :class:`.WaitTimes`.
    :param clock: returns the time in seconds; a wall clock, because another worker may send the next poll.
    :raises ThreeSixtyError: if the wait has failed.
    """
    saved = _SavedRecord(state, project_name)
    known = saved.load(record or WaitRecord())
    if 0 < (pause := known.not_before - clock()) <= MAX_PAUSE_SECONDS:
        return PollResult(None, max(every, pause), pause, known)
    outcome, step = poll_once(
        lambda: hook.with_current_key(lambda client: _get_project(client, project_name)),
        known,
        clock,
        stall_timeout=stall_timeout,
        times=times,
    )
    log_step(outcome, step, every)
    if not isinstance(outcome, ThreeSixtyError) and not outcome.ready:
        _show_status(outcome, state)
    match step:
        case Ready(project):
            return PollResult(project, 0.0, 0.0, known)
        case GiveUp(error):
            saved.save(known.failed(error, clock()))  # a retry obeys the pause that the server asked for
            raise error
        case PollAgain(after, pause):
            saved.save(after)
            return PollResult(None, max(every, pause), pause, after)


class _SavedRecord:
    """The record of one wait in the task's saved state; a clear starts a new one.

    A failure is counted in its own attempt only: the time between two attempts says nothing of the server.

    :param state: the task's saved state; None, or one that is not available, saves nothing.
    :param project_name: the project's slug.
    """

    def __init__(self, state: TaskState | None, project_name: str) -> None:
        self._state = state if state and state.available else None
        self._key = (Key.WAIT, project_name, state.clears if state else "")
        self._saved = WaitRecord()

    def load(self, otherwise: WaitRecord) -> WaitRecord:
        """Return the saved record, or another one if nothing can be saved."""
        if not self._state:
            return otherwise
        value = self._state.get(*self._key)
        self._saved = WaitRecord.from_json(value)
        if isinstance(value, Mapping) and value.get("attempt") == self._state.attempt:
            return self._saved
        return self._saved.without_failures()

    def save(self, record: WaitRecord) -> None:
        """Save a record that has changed."""
        if self._state and record != self._saved:
            value = {**record.to_json(), "attempt": self._state.attempt}
            self._state.set(*self._key, value=value)


def _get_project(client: ThreeSixtyClient, project_name: str) -> Project:
    return client.without_retries().get_project(project_name)


def _show_status(project: Project, state: TaskState | None) -> None:
    log_status(project)
    if state:
        text = f"status {project.status} of 100"
        state.show(progress=text, project_name=project.name, percent=project.status)
