"""Wait for a project without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_360.projects.times import WaitTimes

__all__ = ["ProjectReadyTrigger"]


class ProjectReadyTrigger(BaseTrigger):
    """A trigger that polls a project until its status is 100, and returns its record to the task.

    The event is ``{"status": "ready", "record": {…}}``, or ``{"status": "error", "message": …, "retryable":
    …}``. Both are plain JSON without secrets. The wait never raises: each failure becomes an event.

    :param project_name: the project's slug.
    :param three_sixty_conn_id: the connection; the triggerer looks up the key.
    :param poll_interval: seconds between two polls, at least. The server allows 60 polls a minute for all
        projects of a key, so with many waits the interval is longer; the log says how long.
    :param stall_timeout: seconds for which the status may stay the same; None for no limit.
    :param first_poll_after: seconds before the first poll, because the server asked for them.
    :param deferred_at: when the task was deferred and these seconds started, as the worker's ``time.time()``.
        If it is set, the first poll comes no sooner than after ``times.after_deferral``.
    :param times: the durations of :class:`~airflow_360.projects.times.WaitTimes` that are not the default.
    """

    def __init__(
        self,
        project_name: str,
        three_sixty_conn_id: str,
        poll_interval: float,
        stall_timeout: float | None = None,
        first_poll_after: float = 0.0,
        deferred_at: float | None = None,
        times: WaitTimes | Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.project_name = project_name
        self.three_sixty_conn_id = three_sixty_conn_id
        self.poll_interval = poll_interval
        self.stall_timeout = stall_timeout
        self.first_poll_after = first_poll_after
        self.deferred_at = deferred_at
        self.times = times if isinstance(times, WaitTimes) else WaitTimes.from_json(times)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments; none of them is a secret."""
        arguments: dict[str, Any] = {
            "project_name": self.project_name,
            "three_sixty_conn_id": self.three_sixty_conn_id,
            "poll_interval": self.poll_interval,
            "stall_timeout": self.stall_timeout,
        }
        if self.first_poll_after or self.deferred_at:
            arguments |= {"first_poll_after": self.first_poll_after, "deferred_at": self.deferred_at}
        if times := self.times.to_json():
            arguments["times"] = times
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the record of the ready project, or the reason why the wait failed."""
        from airflow_360.triggers.project_wait import ProjectWait  # not while a DAG file is parsed

        yield TriggerEvent(await ProjectWait(self).event())
