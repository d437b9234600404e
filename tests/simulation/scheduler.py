"""As much of Airflow as decides about attempts: retries, deferrals, reschedules, kills and clears.

The operators are the package's own. A retry keeps the saved state, and loses XCom and the arguments of a
deferral. A deferral keeps all three. A reschedule keeps the attempt's number and loses XCom. A clear keeps or
deletes the saved state and raises ``max_tries``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_360.runtime.lasting_store import lasting_inlets
from tests.airflow.conftest import AirflowRescheduleException
from tests.simulation.clock import VirtualClock

__all__ = ["Cleared", "Interruption", "Interruptions", "Killed", "SavedState", "Task"]


class Killed(BaseException):
    """Raised when the worker's process ends."""


class Cleared(BaseException):
    """Raised when a person clears the task while it runs or waits.

    :param keep_state: whether the saved state is kept.
    """

    def __init__(self, keep_state: bool) -> None:
        super().__init__()
        self.keep_state = keep_state


@dataclass(frozen=True)
class Interruption:
    """Something from outside that ends an execution.

    :param moment: a part of the moment's name, for example ``"after POST"``.
    :param skip: how many such moments pass first.
    :param clear: whether a person clears the task; otherwise its process is killed.
    :param keep_state: whether the clear keeps the saved state.
    """

    moment: str
    skip: int = 0
    clear: bool = False
    keep_state: bool = True


class Interruptions:
    """The planned interruptions, which happen one after the other.

    :param planned: the interruptions.
    """

    def __init__(self, planned: Iterable[Interruption]) -> None:
        self._planned = list(planned)
        self._skipped = 0
        #: The moments at which something happened.
        self.happened: list[str] = []
        self.armed = False

    def reach(self, moment: str, process: bool = True) -> None:
        """Raise the interruption that is planned for this moment, if any.

        :param moment: the moment's name, for example ``"after POST /projects"``.
        :param process: whether there is a process that can be killed.
        """
        if not self.armed or not self._planned:
            return
        planned = self._planned[0]
        if planned.moment not in moment or not (process or planned.clear):
            return
        self._skipped += 1
        if self._skipped <= planned.skip:
            return
        self._planned.pop(0)
        self._skipped = 0
        self.happened.append(f"{'cleared' if planned.clear else 'killed'} {moment}")
        raise Cleared(planned.keep_state) if planned.clear else Killed


class SavedState:
    """A store of JSON values, whose saves are moments at which the process may end.

    :param reach: called before and after each save.
    """

    def __init__(self, reach: Callable[[str], None]) -> None:
        self._reach = reach
        self._values: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self._values[key]) if key in self._values else None

    def set(self, key: str, value: Any) -> None:
        assert value is not None  # Airflow's raises a ValueError
        what = f"a save of {value.get('stage') if isinstance(value, dict) else key}"
        self._reach(f"before {what}")
        self._values[key] = json.dumps(value, allow_nan=False)
        self._reach(f"after {what}")

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()


@dataclass
class TaskInstance:
    """The part of a task instance that operators use."""

    try_number: int
    max_tries: int
    xcom: dict[tuple[str, str], Any]
    task_id: str
    dag_id: str = "night"
    run_id: str = "run"
    map_index: int = -1

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int = -1) -> Any:
        return self.xcom.get((task_ids, key))

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[self.task_id, key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> None:
        return None


@dataclass
class Task:
    """One task of one run, from its first attempt to its end.

    :param task_id: its id.
    :param make: returns its operator, once for each execution.
    :param clock: the time.
    :param interruptions: the interruptions of its executions.
    :param state: its saved state; None before Airflow 3.3.
    :param lasting: the state saved with an asset, or None.
    :param xcom: the run's XComs.
    :param retries: its retries.
    :param pause_between: seconds between two attempts.
    :param note: writes a line into the journal.
    """

    task_id: str
    make: Callable[[], Any]
    clock: VirtualClock
    interruptions: Interruptions
    state: SavedState | None
    lasting: SavedState | None
    xcom: dict[tuple[str, str], Any] = field(default_factory=dict)
    retries: int = 3
    pause_between: float = 300.0
    note: Callable[[str], None] = lambda _line: None

    result: Any = None
    error: BaseException | None = None
    try_number: int = 1

    def __post_init__(self) -> None:
        self.max_tries = self.retries
        self._resume: tuple[str, str] | None = None

    def run(self) -> str:
        """Run it to its end, and return its state."""
        while (end := self._attempt()) is None:
            pass
        self._resume = None
        self.note(f"{self.task_id}: {end} {self.result if end == 'success' else self.error}")
        return end

    def clear(self, keep_state: bool) -> None:
        """Clear the task as Airflow does for a person; :meth:`run` then runs it again."""
        self.note(f"{self.task_id} is cleared, saved state {'kept' if keep_state else 'deleted'}")
        self.max_tries = self.try_number + self.retries
        self.try_number += 1
        self._resume = None
        self.result = self.error = None
        if self.state is not None and not keep_state:
            self.state.clear()

    def _attempt(self) -> str | None:
        """Run it until it gives its slot back; None if it runs again."""
        try:
            return self._execute()
        except Cleared as cleared:
            self.clear(cleared.keep_state)
        return None

    def _execute(self) -> str | None:
        resume, self._resume = self._resume, None
        if resume is None:
            for key in [key for key in self.xcom if key[0] == self.task_id]:
                del self.xcom[key]
        try:
            operator = self.make()
            if resume is None:
                self.result = operator.execute(self._context())
            else:
                method, kwargs = resume
                kwargs = json.loads(kwargs)
                event = {"event": {"status": "over"}}
                self.result = operator.resume_execution(method, {**kwargs, **event}, self._context())
        except TaskDeferred as deferred:
            self._wait("defers", deferred.trigger.seconds)
            self._resume = deferred.method_name, json.dumps(deferred.kwargs or {})
            return None
        except AirflowRescheduleException as rescheduled:
            seconds = (rescheduled.reschedule_date - datetime.now(UTC)).total_seconds()
            self._wait("reschedules", round(seconds, 1))
            return None
        except AirflowSkipException:
            return "skipped"
        except AirflowFailException as error:
            self.error = error
            return "failed"
        except Killed:
            self.note(f"{self.task_id} is {self.interruptions.happened[-1]}")
            return self._retry()
        except Exception as error:  # noqa: BLE001  (as Airflow does)
            self.error = error
            self.note(f"{self.task_id} fails: {error}")
            return self._retry()
        return "success"

    def _wait(self, how: str, seconds: float) -> None:
        self.note(f"{self.task_id} {how} for {seconds:,.1f} s")
        self.interruptions.reach("in a pause", process=False)
        self.clock.sleep(seconds)
        self.interruptions.reach("after a pause", process=False)

    def _retry(self) -> str | None:
        if self.try_number > self.max_tries:
            return "failed"
        self.clock.sleep(self.pause_between)
        self.interruptions.reach("before a retry", process=False)
        self.try_number += 1
        return None

    def _context(self) -> Any:
        assets = {} if self.lasting is None else dict.fromkeys(lasting_inlets(), self.lasting)
        return {
            "ti": TaskInstance(self.try_number, self.max_tries, self.xcom, self.task_id),
            "task_state_store": self.state,
            "asset_state_store": assets,
        }
