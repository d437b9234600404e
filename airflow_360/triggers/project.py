"""Wait in the triggerer until a project is ready, and read how the wait ended."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_360.exceptions import AuthenticationError, NotFoundError, ProjectError, ThreeSixtyError
from airflow_360.hooks.three_sixty import async_client
from airflow_360.triggers.round import Seat, seat_in_round

if TYPE_CHECKING:
    from airflow_360.api.records import Project
    from airflow_360.hooks.task_state import TaskState
    from airflow_360.hooks.three_sixty import ThreeSixtyHook

__all__ = [
    "ProjectReadyTrigger",
    "check_stall",
    "look",
    "project_of",
    "ready_record",
]

log = logging.getLogger(__name__)

#: Seconds for which polls may fail one after another before the wait ends with an error.
PATIENCE = 900.0
#: Polls in a row that must not find a project before it is gone for good.
GONE = 3
NOTABLE = 1.5  # an interval that grows or shrinks by this factor is worth a line in the log


class ProjectReadyTrigger(BaseTrigger):
    """Poll a project until its status is 100, and hand its record to the task.

    :param project_name: the project's slug.
    :param three_sixty_conn_id: the connection; the key is looked up where the trigger runs.
    :param poll_interval: seconds between two polls, at least. The server allows 60 a minute for all projects
        of a key, so that with many waits it takes longer; the log says how long.
    :param stall_timeout: seconds for which the status may stand still; None waits on.
    """

    def __init__(
        self,
        project_name: str,
        three_sixty_conn_id: str,
        poll_interval: float,
        stall_timeout: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stall_timeout = stall_timeout
        self.project_name = project_name
        self.three_sixty_conn_id = three_sixty_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments; none of them is a secret."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "project_name": self.project_name,
                "three_sixty_conn_id": self.three_sixty_conn_id,
                "poll_interval": self.poll_interval,
                "stall_timeout": self.stall_timeout,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the record of the ready project, or why the wait cannot go on."""
        try:
            event = await self._wait()
        except (AirflowException, ThreeSixtyError) as error:
            event = _failure(error)
        yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        client = await async_client(self.three_sixty_conn_id)
        while True:
            try:
                with seat_in_round(client, self.poll_interval) as seat:
                    return await self._poll(seat)
            except AuthenticationError as error:
                if error.status != 401:
                    raise
                used, client = client, await async_client(self.three_sixty_conn_id)
                if client.has_key_of(used):
                    raise
                self.log.warning("The connection's key was replaced meanwhile: going on with the new one.")

    async def _poll(self, seat: Seat) -> dict[str, Any]:
        """Return how the wait ended.

        :raises AuthenticationError: when the key is refused.
        :raises ThreeSixtyError: when the wait cannot go on.
        """
        watch, told = _Watch(self.stall_timeout), 0.0
        while True:
            if not told / NOTABLE < seat.every < told * NOTABLE:
                told = self._tell(seat)
            try:
                project = await seat.ask(lambda client: client.get_project(self.project_name))
                if project.ready:
                    return {"status": "ready", "record": dict(project.record)}
                watch.saw(project)
            except AuthenticationError:
                raise
            except ThreeSixtyError as error:
                watch.failed(error, seat.every)
                seat.not_before(getattr(error, "retry_after", None) or 0.0)
                self.log.warning("%s Asking again later.", error)

    def _tell(self, seat: Seat) -> float:
        """Say in the log how often the project is asked for, and return it."""
        every = seat.every
        log.info(
            "Project %s: asked for about every %.0f s, as one of %s waits of this triggerer on the server.",
            self.project_name,
            every,
            f"{seat.among:,}",
        )
        return every


class _Watch:
    """Decide whether a wait goes on."""

    def __init__(self, stall_timeout: float | None) -> None:
        self._stall_timeout = stall_timeout
        self._failures = _Failures()
        self._status: int | None = None
        self._since = time.monotonic()

    def saw(self, project: Project) -> None:
        """Take note of a project that is not ready.

        :raises ProjectError: when its status has stood still for too long.
        """
        now = time.monotonic()
        self._failures = _Failures()
        if project.status != self._status:
            self._status, self._since = project.status, now
            _log_status(project)
        check_stall(project, now - self._since, self._stall_timeout)

    def failed(self, error: ThreeSixtyError, every: float) -> None:
        """Take note of a poll that failed.

        :raises ThreeSixtyError: this error, where it ends the wait.
        """
        self._failures = self._failures.bear(error, time.monotonic(), every)


@dataclass(frozen=True)
class _Failures:
    """Decide which failed polls are borne, whoever polls; plain numbers, so that a task can keep them.

    :param since: when the first of those in a row was; None before it.
    :param missing: how many in a row did not find the project.
    """

    since: float | None = None
    missing: int = 0

    def bear(self, error: ThreeSixtyError, now: float, every: float) -> _Failures:
        """Return these failures and one more.

        :param error: one that may pass is borne for a quarter of an hour and three polls; a project that is
            not found must be missing three times in a row; anything else is final.
        :param now: seconds.
        :param every: seconds between two polls.
        :raises ThreeSixtyError: the error, where it is final.
        """
        since = now if self.since is None else self.since
        missing = self.missing + 1 if isinstance(error, NotFoundError) else 0
        final = missing >= GONE if missing else not error.retryable
        if final or now - since > max(PATIENCE, 3 * every):
            raise error
        return _Failures(since, missing)


def look(hook: ThreeSixtyHook, project_name: str, state: TaskState | None, every: float) -> Project | None:
    """Ask once for a project from a task; None where that failed, and is to be asked again.

    :param hook: the connection.
    :param project_name: the project's slug.
    :param state: where the task keeps how far the project is, and the failures before; without a memory a
        project that is not found is gone at once. None where a trigger goes on, which counts for itself.
    :param every: seconds between two polls.
    :raises ThreeSixtyError: when there is no use in asking again.
    """
    kept = state.get("failing") if state else None
    forgetful = state is not None and not state.available
    failures = _Failures(**kept) if kept else _Failures(missing=GONE - 1 if forgetful else 0)
    try:
        project = hook.with_current_key(lambda client: client.get_project(project_name))
    except ThreeSixtyError as error:
        _keep(state, _Failures())  # the next attempt has patience of its own
        _keep(state, failures.bear(error, time.time(), every))
        log.warning("%s Asking again later.", error)
        return None
    if kept:
        _keep(state, _Failures())
    if not project.ready:
        _log_status(project)
        if state:
            text = f"status {project.status} of 100"
            state.show(progress=text, project_name=project.name, percent=project.status)
    return project


def _keep(state: TaskState | None, failures: _Failures) -> None:
    if state:
        state.set("failing", value=asdict(failures) if failures != _Failures() else {})


def check_stall(project: Project, seconds: float, stall_timeout: float | None) -> None:
    """Make sure that a project moves.

    :param project: the project, not ready.
    :param seconds: for how long its status has been what it is.
    :param stall_timeout: for how long it may; None for ever.
    :raises ProjectError: when it has stood still for longer.
    """
    if stall_timeout is not None and seconds > stall_timeout:
        raise ProjectError(
            f"Project {project.name} has stood at status {project.status} for {seconds / 60:.0f} minutes, "
            "longer than stall_timeout allows. Look at it on the server; clear this task to wait on."
        )


def project_of(event: Mapping[str, Any] | None) -> Project:
    """Return the ready project that a trigger's event holds.

    :param event: what :class:`ProjectReadyTrigger` yielded.
    :raises ProjectError: when the wait ended without a ready project; fails closed on anything unknown.
    """
    from airflow_360.api.records import Project

    event = event or {}
    record = event.get("record")
    if event.get("status") == "ready" and isinstance(record, dict):
        return Project.from_reply(record)
    unknown = f"The wait ended with an event that means nothing: {dict(event)}."
    error = ProjectError(str(event.get("message") or unknown))
    error.retryable = event.get("retryable") is True
    raise error


def _log_status(project: Project) -> None:
    # plugin/page.js reads this line, since a trigger can keep nothing.
    log.info("Project %s: status %d of 100", project.name, project.status)


def ready_record(project: Project, page: str, fail_on_errors: bool = False) -> dict[str, Any]:
    """Return a ready project's record, after saying in the log where it is and how it went.

    :param project: the project, ready.
    :param page: the address of its page.
    :param fail_on_errors: whether errors that the server counted while processing are a failure.
    :raises ProjectError: when there are such errors and they are a failure.
    """
    if project.errors and fail_on_errors:
        raise ProjectError(
            f"Project {project.name} is ready with {project.errors} errors, which fails here: {page}"
        )
    if project.errors:
        log.warning("Project %s is ready with %d errors: %s", project.name, project.errors, page)
    else:
        log.info("Project %s is ready: %s", project.name, page)
    return dict(project.record)


def _failure(error: Exception) -> dict[str, Any]:
    retryable = getattr(error, "retryable", False)
    return {"status": "error", "message": str(error), "retryable": retryable}
