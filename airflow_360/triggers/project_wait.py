"""The wait of a trigger: it polls its project, in a queue with the other waits of the process.

Separate from the trigger, which is imported while a DAG file is parsed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import AuthenticationError, ThreeSixtyError
from airflow_360.hooks.connection import async_client
from airflow_360.projects.times import pause_left
from airflow_360.projects.waiting import (
    GiveUp,
    PollAgain,
    Ready,
    WaitRecord,
    error_event,
    log_status,
    log_step,
    next_step,
    poll_project,
    ready_event,
)
from airflow_360.triggers.poll_queue import QueuedWait, queued_wait

if TYPE_CHECKING:
    from airflow_360.api.records import Project
    from airflow_360.triggers.project import ProjectReadyTrigger

__all__ = ["ProjectWait"]

log = logging.getLogger(__name__)

#: An interval that grows or shrinks by this factor is logged.
LOG_INTERVAL_FACTOR = 1.5


class ProjectWait:
    """The wait for one project.

    :param trigger: says which project, and how long to wait for what.
    """

    def __init__(self, trigger: ProjectReadyTrigger) -> None:
        self._trigger = trigger
        self._record = WaitRecord()

    async def event(self) -> dict[str, Any]:
        """Return the event of the wait: the record of the ready project, or the reason why it failed."""
        try:
            return await self._wait()
        except ThreeSixtyError as error:
            return error_event(error)
        except Exception as error:  # a trigger that raises fails its task without a reason
            log.exception("The wait for project %s failed unexpectedly.", self._trigger.project_name)
            return error_event(error)

    async def _wait(self) -> dict[str, Any]:
        given = self._trigger
        pause = pause_left(given.first_poll_after, given.deferred_at, time.time(), given.times)
        await asyncio.sleep(pause)
        client = await async_client(given.three_sixty_conn_id)
        while True:
            try:
                with queued_wait(client, given.poll_interval) as wait:
                    return ready_event(await self._ready_project(wait))
            except AuthenticationError as error:
                if error.status != 401:
                    raise
                used, client = client, await async_client(given.three_sixty_conn_id)
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
        outcome = await wait.poll(
            lambda client: poll_project(lambda: client.get_project(self._trigger.project_name))
        )
        step = next_step(
            self._record,
            outcome,
            time.monotonic(),
            stall_timeout=self._trigger.stall_timeout,
            times=self._trigger.times,
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
            self._trigger.project_name,
            every,
            f"{wait.among:,}",
        )
        return every
