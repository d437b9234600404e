"""Waiting until a project is ready: a record, a pure function that decides, and a runner for one poll.

Separate from the trigger and the sensor because every kind of wait follows these rules: a task in poke or
reschedule mode, and a trigger. This module never imports Airflow. :func:`next_step` does no I/O and reads no
clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from airflow_360.api.records import Project
from airflow_360.exceptions import NotFoundError, ProjectError, ThreeSixtyError
from airflow_360.projects.times import WaitTimes
from airflow_360.texts import duration_text
from airflow_360.values import is_number

__all__ = [
    "GiveUp",
    "PollAgain",
    "Ready",
    "WaitRecord",
    "error_event",
    "late_text",
    "log_status",
    "log_step",
    "next_step",
    "poll_once",
    "poll_project",
    "project_of",
    "ready_event",
    "ready_record",
]

log = logging.getLogger(__name__)

#: A message in a trigger's event is truncated to this many characters.
MAX_MESSAGE_CHARS = 2000


@dataclass(frozen=True)
class WaitRecord:
    """The saved state of a wait; all times are seconds of the same clock.

    :param status: the last status that was read, or None.
    :param since: the time when this status was first read.
    :param failing_since: the time of the first of the failed polls in a row, or None.
    :param failures: the number of polls in a row that failed, 404s included.
    :param missing: the number of polls in a row that got a 404.
    :param not_before: the time before which the server asked not to be polled, or 0.
    """

    status: int | None = None
    since: float = 0.0
    failing_since: float | None = None
    failures: int = 0
    missing: int = 0
    not_before: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return this record as plain JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, value: object) -> WaitRecord:
        """Read the result of :meth:`to_json`; return an empty record for any other value."""
        optional = {"status", "failing_since"}
        if not isinstance(value, Mapping):
            return cls()
        given: dict[str, Any] = {field.name: value.get(field.name) for field in fields(cls)}
        for name, number in given.items():
            if not is_number(number) and not (number is None and name in optional):
                return cls()
        return cls(**given)

    def with_status(self, status: int, now: float) -> WaitRecord:
        """Return this record after a poll that read a status."""
        since = self.since if status == self.status else now
        return WaitRecord(status=status, since=since)

    def failed(self, error: ThreeSixtyError, now: float) -> WaitRecord:
        """Return this record after a poll that failed."""
        return replace(
            self,
            failing_since=now if self.failing_since is None else self.failing_since,
            failures=self.failures + 1,
            missing=self.missing + 1 if isinstance(error, NotFoundError) else 0,
            not_before=now + seconds if (seconds := _retry_after(error)) else 0.0,
        )

    def without_failures(self) -> WaitRecord:
        """Return this record for another attempt, which tolerates failures for the full time again."""
        return replace(self, failing_since=None, failures=0, missing=0)


@dataclass(frozen=True)
class Ready:
    """The result of a poll: the project is ready.

    :param project: the project, with its full record.
    """

    project: Project


@dataclass(frozen=True)
class PollAgain:
    """The result of a poll that must be repeated.

    :param record: the new record.
    :param not_before_seconds: seconds that the server asked to wait, or 0; the poll interval may be longer.
    """

    record: WaitRecord
    not_before_seconds: float = 0.0


@dataclass(frozen=True)
class GiveUp:
    """The result of a poll that ends the wait with an error.

    :param error: the reason.
    """

    error: ThreeSixtyError


def next_step(
    record: WaitRecord,
    outcome: Project | ThreeSixtyError,
    now: float,
    *,
    stall_timeout: float | None = None,
    times: WaitTimes = WaitTimes(),
) -> Ready | PollAgain | GiveUp:
    """Decide the next step after one poll.

    Errors that may pass, such as an outage, a proxy's page or a status outside 0 to 100, are tolerated for
    ``times.failure_tolerance`` seconds or ``times.tolerated_failures`` polls, whichever is longer. A 404 must
    repeat ``times.missing_polls`` times in a row. Any other error ends the wait.

    :param record: the record before the poll.
    :param outcome: the result or the error of the poll.
    :param now: seconds, on the clock of the record.
    :param stall_timeout: seconds for which the status may stay the same; None for no limit.
    :param times: how long failures are tolerated; see :class:`.WaitTimes`.
    """
    if isinstance(outcome, ThreeSixtyError):
        record = record.failed(outcome, now)
        if _ends_wait(record, outcome, now, times):
            return GiveUp(outcome.given_up())
        return PollAgain(record, _retry_after(outcome))
    if outcome.ready:
        return Ready(outcome)
    record = record.with_status(outcome.status, now)
    if stall_timeout is not None and now - record.since > stall_timeout:
        return GiveUp(_stalled(outcome, now - record.since))
    return PollAgain(record)


def poll_project(get_project: Callable[[], Project]) -> Project | ThreeSixtyError:
    """Poll the server once, and return the error of a failed poll instead of raising it.

    :param get_project: sends the request.
    """
    try:
        return get_project()
    except ThreeSixtyError as error:
        return error


def poll_once(
    get_project: Callable[[], Project],
    record: WaitRecord,
    clock: Callable[[], float],
    *,
    stall_timeout: float | None = None,
    times: WaitTimes = WaitTimes(),
) -> tuple[Project | ThreeSixtyError, Ready | PollAgain | GiveUp]:
    """Poll the server once, and decide the next step.

    :param get_project: sends the request.
    :param record: the record before the poll.
    :param clock: returns the time in seconds, on the clock of the record.
    :param stall_timeout: see :func:`next_step`.
    :param times: see :func:`next_step`.
    :returns: the outcome of the poll, and the next step.
    """
    outcome = poll_project(get_project)
    return outcome, next_step(record, outcome, clock(), stall_timeout=stall_timeout, times=times)


def ready_event(project: Project) -> dict[str, Any]:
    """Return the event of a wait that ended with a ready project.

    :param project: the project. Airflow can store its record, see :class:`~airflow_360.api.records.Project`.
    """
    return {"status": "ready", "record": dict(project.record)}


def error_event(error: Exception) -> dict[str, Any]:
    """Return the event of a wait that failed.

    The text of an error that this package did not raise may contain a secret, so the event has only its type.

    :param error: the reason.
    """
    if isinstance(error, ThreeSixtyError):
        return {"status": "error", "message": _one_line(str(error)), "retryable": error.retryable}
    message = f"Unexpected {type(error).__name__} while waiting for the project. See the triggerer's log."
    return {"status": "error", "message": message, "retryable": True}


def project_of(event: Mapping[str, Any] | None) -> Project:
    """Return the ready project of a trigger's event.

    :param event: the event; see :func:`ready_event` and :func:`error_event`.
    :raises ProjectError: if the wait ended without a ready project, or the event is not one of these.
    """
    event = event if isinstance(event, Mapping) else {}
    if event.get("status") == "ready" and (project := _project_from(event.get("record"))):
        return project
    unknown = f"Unexpected trigger event: {dict(event)!r:.200}. Clear this task to wait again."
    error = ProjectError(str(event.get("message") or unknown))
    error.retryable = event.get("retryable") is True
    raise error


def ready_record(project: Project, page: str, fail_on_errors: bool = False) -> dict[str, Any]:
    """Return a ready project's record, and log its page and the number of processing errors.

    :param project: the ready project.
    :param page: the URL of its page.
    :param fail_on_errors: whether processing errors count as a failure.
    :raises ProjectError: if there are processing errors and ``fail_on_errors`` is set.
    """
    if project.errors and fail_on_errors:
        raise ProjectError(
            f"Project {project.name} finished with {project.errors} processing errors (fail_on_errors=True). "
            f"See {page}."
        )
    if project.errors:
        log.warning("Project %s is ready with %d errors: %s", project.name, project.errors, page)
    else:
        log.info("Project %s is ready: %s", project.name, page)
    return dict(project.record)


def log_status(project: Project) -> None:
    """Log the status of a project that is not ready.

    :param project: the project.
    """
    # plugin/page.js reads this log line, because a trigger cannot store anything.
    log.info("Project %s: status %d of 100", project.name, project.status)


def log_step(outcome: Project | ThreeSixtyError, step: Ready | PollAgain | GiveUp, every: float) -> None:
    """Log a failed poll, and the time until the next one.

    :param outcome: the outcome of the poll.
    :param step: the next step.
    :param every: seconds between two polls.
    """
    if isinstance(outcome, ThreeSixtyError) and isinstance(step, PollAgain):
        seconds = max(every, step.not_before_seconds)
        log.warning("%s Failed poll %d, next in %.0f s.", outcome, step.record.failures, seconds)


def _ends_wait(record: WaitRecord, error: ThreeSixtyError, now: float, times: WaitTimes) -> bool:
    """Return whether a failed poll, which the record already counts, ends the wait."""
    if record.missing:
        if record.missing >= times.missing_polls:
            return True
    elif not error.may_pass:
        return True
    failing_for = now - (now if record.failing_since is None else record.failing_since)
    return record.failures > times.tolerated_failures and failing_for > times.failure_tolerance


def _stalled(project: Project, seconds: float) -> ProjectError:
    return ProjectError(
        f"Project {project.name} has stayed at status {project.status} for {duration_text(seconds)}, "
        "longer than stall_timeout allows. Check the project on the server. Clear this task to wait again."
    )


def _retry_after(error: ThreeSixtyError) -> float:
    seconds = getattr(error, "retry_after", None)
    return max(0.0, seconds) if is_number(seconds) else 0.0


def _one_line(text: str) -> str:
    """Return a string as one bounded line that every encoder accepts."""
    line = " ".join(text.encode("utf-8", "replace").decode().replace("\0", " ").split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 1]}…"


def _project_from(record: object) -> Project | None:
    try:
        project = Project.from_reply(record) if isinstance(record, Mapping) else None
    except ThreeSixtyError:
        return None
    return project if project and project.ready else None


def late_text(page: str, seconds: float) -> str:
    """Return the message for a project that was not ready in time."""
    text = duration_text(seconds) if seconds > 600 else f"{seconds:.0f} s"
    return f"The project was not ready within {text}: {page}. Clear this task to wait again."
