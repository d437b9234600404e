"""The durations of project creation and of waits.

Separate because a DAG file may replace them: parsing it imports them, but not the code that obeys them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from airflow_360.values import is_number

__all__ = ["CreationTimes", "WaitTimes", "as_seconds", "pause_left"]


@dataclass(frozen=True)
class CreationTimes:
    """All durations of project creation, in seconds.

    :param in_place: how long a task may wait in its worker slot before it gives the slot back.
    :param shortest: the shortest wait between two requests.
    :param longest: the longest wait between two requests.
    :param after_break: from a 502, 503 or a broken connection until another POST is safe.
    :param after_timeout: the same after a 504, a 408 or a timeout: behind a proxy the server may still be
        working on the request. Also used if the task was stopped during the request, which was slow then, or
        if the records of earlier attempts are lost.
    :param without_session: how long to search if the session is gone or incomplete, before the task stops.
    :param record: how long an attempt waits until the record of an existing project can be read.
    :param failing: how long an attempt tolerates failures of requests that change nothing. Then it fails,
        and uses a retry.
    :param refused: how long an attempt tolerates POSTs that certainly created nothing. Twice as long, because
        other requests may fail for an hour between two POSTs.
    :param rate_limited: how long an attempt tolerates rate limits that name a time. A session on the server
        lives as long.
    :param missing: the wait between two of the three requests that show that a project was deleted.
    :param triggerer: how long a pause may last beyond its end, in case no triggerer is running.
    """

    in_place: float = 10.0
    shortest: float = 1.0
    longest: float = 120.0
    after_break: float = 15 * 60.0
    after_timeout: float = 60 * 60.0
    without_session: float = 30 * 60.0
    record: float = 24 * 3600.0
    failing: float = 60 * 60.0
    refused: float = 2 * 60 * 60.0
    rate_limited: float = 72 * 3600.0
    missing: float = 10.0
    triggerer: float = 6 * 3600.0


@dataclass(frozen=True)
class WaitTimes:
    """The durations and counts that determine how long a wait tolerates failures.

    To change them, for example in a DAG for tests, set the attribute ``times`` of the sensor or operator.

    :param failure_tolerance: seconds for which failed polls in a row are tolerated. 900 by default: a restart
        or an update of a server takes minutes.
    :param tolerated_failures: failed polls in a row that are always tolerated, even if they take longer. 3 by
        default.
    :param missing_polls: polls in a row that must get a 404 before the project counts as deleted. 3 by
        default, because a new project may not be visible immediately.
    :param missing_interval: seconds between these polls if the task cannot save its state between two runs
        and therefore repeats them immediately. 5 by default.
    :param fresh_pause: seconds. A pause that started less than this long ago is waited for in full, because
        the clocks of worker and triggerer may differ. 60 by default.
    :param least_pause: seconds. A restarted triggerer waits at least this long, or for the whole pause if it
        is shorter. 30 by default.
    :param after_deferral: seconds for which a trigger waits at least, also after a restart. 10 by default: if
        a task continues before the scheduler has read from its executor that the worker has ended, Airflow
        fails it (its issues 66374, 67287 and 72716). The task itself has polled just before. Reschedules and
        pauses for a rate limit always use the default.
    """

    failure_tolerance: float = 900.0
    tolerated_failures: int = 3
    missing_polls: int = 3
    missing_interval: float = 5.0
    fresh_pause: float = 60.0
    least_pause: float = 30.0
    after_deferral: float = 10.0

    def to_json(self) -> dict[str, float]:
        """Return the values that differ from the defaults, as plain JSON."""
        default = WaitTimes()
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, float] | None) -> WaitTimes:
        """Read the result of :meth:`to_json`; unknown names are ignored, because versions may differ."""
        names = {field.name for field in fields(cls)}
        given: dict[str, Any] = {name: value for name, value in (values or {}).items() if name in names}
        return cls(**given)


def pause_left(seconds: float, started: float | None, now: float, times: WaitTimes = WaitTimes()) -> float:
    """Return the seconds that a trigger must still wait, also after a restart of its triggerer.

    A pause that seems to have just started is waited for in full: the trigger is new, or the clocks differ. A
    pause that started earlier ends at its time, so that it also ends if the triggerer restarts again and
    again.

    A pause whose start is known is at least ``times.after_deferral`` long.

    :param seconds: the length of the pause.
    :param started: the start of the pause and time of the deferral, on the worker's wall clock; None if it
        is not known.
    :param now: the wall clock of the triggerer.
    :param times: how long failures are tolerated; see :class:`.WaitTimes`.
    """
    if started is None:
        return seconds
    seconds = max(seconds, times.after_deferral)
    if now - started < times.fresh_pause:
        return seconds
    return max(min(times.least_pause, seconds), seconds - (now - started))


def as_seconds(value: float | timedelta | None, name: str) -> float | None:
    """Return a duration in seconds.

    :param value: seconds, a timedelta, or None.
    :param name: the parameter's name, for the message.
    :raises ValueError: if it is not a duration above 0.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is not None and not (is_number(seconds) and seconds > 0):
        raise ValueError(f"{name} must be a timedelta or a number of seconds above 0, not {value!r}.")
    return seconds
