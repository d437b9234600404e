"""Wait for a project without a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_360.exceptions import AuthenticationError, ThreeSixtyError
from airflow_360.hooks.connection import async_client
from airflow_360.projects.waiting import (
    GiveUp,
    PollAgain,
    Ready,
    WaitRecord,
    WaitTimes,
    error_event,
    log_status,
    log_step,
    next_step,
    pause_left,
    poll_project,
    ready_event,
)
from airflow_360.triggers.poll_queue import QueuedWait, queued_wait

if TYPE_CHECKING:
    from airflow_360.api.records import Project

__all__ = ["ProjectReadyTrigger"]

log = logging.getLogger(__name__)

#: An interval that grows or shrinks by this factor is logged.
LOG_INTERVAL_FACTOR = 1.5


class ProjectReadyTrigger(BaseTrigger):
    """A trigger that polls a project until its status is 100, and returns its record to the task.

    The event is ``{"status": "ready", "record": {…}}``, or ``{"status": "error", "message": …, "retryable":
    …}``. Both are plain JSON without secrets, and the trigger never raises.

    :param project_name: the project's slug.
    :param three_sixty_conn_id: the connection; the triggerer looks up the key.
    :param poll_interval: seconds between two polls, at least. The server allows 60 polls a minute for all
        projects of a key, so with many waits the interval is longer; the log says how long.
    :param stall_timeout: seconds for which the status may stay the same; None for no limit.
    :param first_poll_after: seconds before the first poll, because the server asked for them.
    :param deferred_at: when these seconds started, as the worker's ``time.time()``.
    :param times: the durations of :class:`~airflow_360.projects.waiting.WaitTimes` that are not the default.
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
        self._record = WaitRecord()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments; none of them is a secret."""
        arguments: dict[str, Any] = {
            "project_name": self.project_name,
            "three_sixty_conn_id": self.three_sixty_conn_id,
            "poll_interval": self.poll_interval,
            "stall_timeout": self.stall_timeout,
        }
        if self.first_poll_after:
            arguments |= {"first_poll_after": self.first_poll_after, "deferred_at": self.deferred_at}
        if times := self.times.to_json():
            arguments["times"] = times
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the record of the ready project, or the reason why the wait failed."""
        try:
            event = await self._wait()
        except ThreeSixtyError as error:
            event = error_event(error)
        except Exception as error:  # a trigger that raises fails its task without a reason
            log.exception("The wait for project %s failed unexpectedly.", self.project_name)
            event = error_event(error)
        yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        if self.first_poll_after:
            pause = pause_left(self.first_poll_after, self.deferred_at, time.time(), self.times)
            await asyncio.sleep(pause)
        client = await async_client(self.three_sixty_conn_id)
        while True:
            try:
                with queued_wait(client, self.poll_interval) as wait:
                    return ready_event(await self._ready_project(wait))
            except AuthenticationError as error:
                if error.status != 401:
                    raise
                used, client = client, await async_client(self.three_sixty_conn_id)
                if client.has_key_of(used):
                    raise
                log.warning("The connection's API key has changed. Continuing with the new key.")

    async def _ready_project(self, wait: QueuedWait) -> Project:
        """Return the project once it is ready.

        :raises AuthenticationError: if the key is refused.
        :raises ThreeSixtyError: if the wait has failed.
        """
        logged = 0.0
        while True:
            if not logged / LOG_INTERVAL_FACTOR < wait.every < logged * LOG_INTERVAL_FACTOR:
                logged = self._log_interval(wait)
            match await self._poll(wait):
                case Ready(project):
                    return project
                case GiveUp(error):
                    raise error
                case PollAgain(record, seconds):
                    self._record = record
                    wait.not_before(seconds)

    async def _poll(self, wait: QueuedWait) -> Ready | PollAgain | GiveUp:
        outcome = await wait.poll(lambda client: poll_project(lambda: client.get_project(self.project_name)))
        step = next_step(
            self._record, outcome, time.monotonic(), stall_timeout=self.stall_timeout, times=self.times
        )
        log_step(outcome, step, wait.every)
        if not isinstance(outcome, ThreeSixtyError) and outcome.status not in (self._record.status, 100):
            log_status(outcome)
        return step

    def _log_interval(self, wait: QueuedWait) -> float:
        """Log how often the project is polled, and return the interval."""
        every = wait.every
        log.info(
            "Polling project %s about every %.0f s (projects that this triggerer polls: %s).",
            self.project_name,
            every,
            f"{wait.among:,}",
        )
        return every
