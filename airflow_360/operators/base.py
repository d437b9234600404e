"""The base class of all operators, and their waits for rate limits."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_360.exceptions import RateLimitedError, ServerError
from airflow_360.hooks.connection import DEFAULT_CONN_ID
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.task_mixin import UsesThreeSixty
from airflow_360.projects.times import CreationTimes, WaitTimes
from airflow_360.texts import duration_text
from airflow_360.triggers.pause import PauseTrigger
from airflow_360.version_compat import AIRFLOW_VERSION, AirflowRescheduleException

__all__ = [
    "ThreeSixtyOperator",
    "is_mapped",
    "reschedule",
    "seconds_to_wait",
    "waits_out_rate_limits",
]

R = TypeVar("R")
log = logging.getLogger(__name__)
#: Whether this Airflow obeys the date of a reschedule; before 3.1 it runs the task immediately.
DATES_ARE_OBEYED = AIRFLOW_VERSION >= (3, 1)
SPREAD_DIVISOR = 20  # mapped tasks are spread over a twentieth of a window
#: After these seconds of waits for rate limits, an attempt fails. A session lives as long.
LONGEST_WAIT_SECONDS = CreationTimes().rate_limited


class ThreeSixtyOperator(UsesThreeSixty, BaseOperator):
    """The base class of all operators of this package.

    :param three_sixty_conn_id: the connection to the server (templated).
    :param deferrable: whether a wait defers to the triggerer; otherwise it reschedules the task. The default
        is Airflow's ``[operators] default_deferrable``. Neither holds a worker slot.
    """

    def __init__(
        self,
        *,
        three_sixty_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.three_sixty_conn_id = three_sixty_conn_id
        self.deferrable = deferrable
        self._limited_since: float | None = None

    def resume(self, context: Any, event: Any = None, record: Mapping[str, Any] | None = None) -> Any:
        """Continue after the wait for a rate limit.

        :param record: the record of the wait: ``limited_since`` is when the first of these waits began, in
            seconds since 1970.
        """
        self._limited_since = (record or {}).get("limited_since")
        return self.execute(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the OpenLineage inputs and outputs: from sources to session, or from session to project."""
        return self.hook.lineage.facets()

    def wait_out(self, error: RateLimitedError | ServerError, context: Any) -> None:
        """Give the worker slot back for as long as the server asks to wait. This uses no retry.

        :param error: the refusal. If it names no time, Airflow's retries handle it. They also handle a server
            failure (5xx) that names at most ``rate_limit_wait``: the task has already waited that long.
        :param context: the task's context. After three days of such waits, Airflow's retries handle it too.
        """
        if error.retry_after is None:
            return
        since = self._limited_since or _rescheduled_since(context) or time.time()
        if time.time() - since > LONGEST_WAIT_SECONDS:
            return
        if isinstance(error, ServerError) and (
            error.retry_after <= self.hook.client.backoff.longest_rate_limit_wait
        ):
            return
        seconds = seconds_to_wait(error, is_mapped(context))
        until = time.strftime("%H:%M", time.localtime(time.time() + seconds))
        self.log.warning("%s The task continues in %s, at %s.", error, duration_text(seconds), until)
        if self.deferrable:
            self.defer(
                trigger=PauseTrigger(seconds, time.time()),
                method_name="resume",
                kwargs={"record": {"limited_since": since}},
            )
        if DATES_ARE_OBEYED:
            reschedule(seconds)


def seconds_to_wait(error: RateLimitedError | ServerError, mapped: bool) -> float:
    """Return the seconds that a task should wait if the server asks it to.

    :param error: the refusal.
    :param mapped: whether the task is mapped. The server gives all mapped tasks the same retry time, but only
        one request is possible then. So each task waits for a full window after its own refusal, until all
        earlier requests no longer count, and adds a random delay, so that they do not all return at once.
    """
    seconds = error.retry_after or 0.0
    if mapped and isinstance(error, RateLimitedError) and error.window:
        seconds = max(seconds, error.window) + random.uniform(0, error.window / SPREAD_DIVISOR)
    return seconds


def is_mapped(context: Any) -> bool:
    """Return whether a task is one of several mapped task instances.

    :param context: the task's context, or None.
    """
    index = getattr(context["ti"], "map_index", None) if context else None
    return index is not None and index >= 0


def waits_out_rate_limits(execute: Callable[[Any, Any], R]) -> Callable[[Any, Any], R]:
    """Decorate an operator's ``execute``: translate errors, and wait without a slot if the server asks."""

    @wraps(execute)
    def wrapper(self: Any, context: Any) -> R:
        try:
            with airflow_errors():
                return execute(self, context)
        except AirflowException as error:
            if isinstance(error.__cause__, (RateLimitedError, ServerError)):
                self.wait_out(error.__cause__, context)
            raise

    return wrapper


def _rescheduled_since(context: Any) -> float | None:
    """Return when the task was rescheduled for the first time, or None if Airflow does not say it."""
    ask = getattr(context["ti"], "get_first_reschedule_date", None) if context else None
    try:
        date = ask(context) if ask else None
    except Exception as error:  # noqa: BLE001  (any error: the wait matters more)
        log.warning("Could not read when the task was rescheduled first: %s", error)
        return None
    return date.timestamp() if date else None


def reschedule(seconds: float) -> NoReturn:
    """Give the worker slot back and run the task again later, without using a retry.

    :param seconds: seconds until then, at least ``after_deferral`` of :class:`.WaitTimes`. Airflow confuses
        two runs of a task that follow each other closely, as after a deferral.
    """
    seconds = max(seconds, WaitTimes().after_deferral)
    raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=seconds))
