"""A rate limit that asks for most of an hour costs no worker slot and no retry."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_360.emulator import Emulator
from airflow_360.exceptions import RateLimitedError
from airflow_360.operators import base
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator
from airflow_360.triggers.pause import PauseTrigger
from tests.airflow.conftest import AIRFLOW, AirflowRescheduleException, StateStore, connect, context
from tests.airflow.test_poll_queue import VirtualLoop

LIMIT = {"on": "POST /uploads", "do": "rate_limit", "retry_after": 3000}


def test_a_deferrable_task_waits_in_the_triggerer(emulator: Emulator) -> None:
    """A deferrable task waits in the triggerer for as long as the server asked, then continues."""
    emulator.faults.add(LIMIT)
    operator = CreateUploadSessionOperator(task_id="session", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(store=StateStore()))
    pause = deferred.value.trigger.serialize()[1]
    assert pause["seconds"] == 3000
    assert pause["started"] == pytest.approx(time.time(), abs=60)
    assert operator.resume(context(store=StateStore()), {"status": "over"})
    assert len(emulator.exchanges) == 2


def test_a_server_that_asks_for_ever_to_wait(emulator: Emulator) -> None:
    """An attempt that has waited for three days fails, so that no task waits for ever."""
    emulator.faults.add({**LIMIT, "times": 3})
    operator = CreateUploadSessionOperator(task_id="session", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(store=StateStore()))
    kwargs = deferred.value.kwargs or {}
    with pytest.raises(TaskDeferred) as deferred:
        operator.resume(context(store=StateStore()), {"status": "over"}, **kwargs)
    assert deferred.value.kwargs == kwargs
    kwargs["record"]["limited_since"] -= 72 * 3600
    with pytest.raises(AirflowException, match="3000 s") as caught:
        operator.resume(context(store=StateStore()), {"status": "over"}, **kwargs)
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="would run the task at once")
def test_a_rescheduled_task_does_not_wait_for_ever(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was rescheduled for the first time three days ago fails."""
    emulator.faults.add({**LIMIT, "times": 2})
    operator = CreateUploadSessionOperator(task_id="session", deferrable=False)
    given = context(store=StateStore())
    for hours, expected in ((71, AirflowRescheduleException), (73, AirflowException)):
        first = datetime.now(UTC) - timedelta(hours=hours)
        monkeypatch.setattr(given["ti"], "get_first_reschedule_date", lambda _context, first=first: first)
        with pytest.raises(AirflowException) as caught:
            operator.execute(given)
        assert type(caught.value) is expected


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="would run the task at once: see the next test")
def test_other_tasks_are_rescheduled(emulator: Emulator) -> None:
    """A task that is not deferrable is rescheduled for the moment that the server named."""
    emulator.faults.add(LIMIT)
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        CreateUploadSessionOperator(task_id="session", deferrable=False).execute(context(store=StateStore()))
    assert rescheduled.value.reschedule_date.timestamp() - time.time() == pytest.approx(3000, abs=5)


def test_where_dates_are_not_obeyed(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Airflow would run a rescheduled task immediately, the task fails instead and is retried."""
    monkeypatch.setattr(base, "DATES_ARE_OBEYED", False)
    emulator.faults.add(LIMIT)
    operator = CreateUploadSessionOperator(task_id="session", deferrable=False)
    with pytest.raises(AirflowException, match="3000 s") as caught:
        operator.execute(context(store=StateStore()))
    assert isinstance(caught.value.__cause__, RateLimitedError)
    assert not isinstance(caught.value, AirflowFailException)
    assert len(emulator.exchanges) == 1


@pytest.mark.skipif(AIRFLOW >= (3, 1), reason="reschedules: see the test before")
def test_left_to_retries(emulator: Emulator) -> None:
    """If Airflow would reschedule the task immediately, the task fails, and its retries count this."""
    emulator.faults.add(LIMIT)
    with pytest.raises(AirflowException, match="429") as caught:
        CreateUploadSessionOperator(task_id="session", deferrable=False).execute(context())
    assert not isinstance(caught.value, (AirflowFailException, AirflowRescheduleException))


def test_without_a_time(emulator: Emulator) -> None:
    """A rate limit that names no time is left to Airflow's retries."""
    emulator.faults.add(
        {"on": "POST /uploads", "do": "status", "status": 429, "body": {"error": "rate_limited"}}
    )
    operator = CreateUploadSessionOperator(task_id="session", deferrable=True)
    object.__setattr__(operator.hook.client.backoff, "tries", 0)
    with pytest.raises(AirflowException) as caught:
        operator.execute(context(store=StateStore()))
    assert not isinstance(caught.value, AirflowFailException)


def test_a_mapped_task_waits_for_a_whole_window(emulator: Emulator) -> None:
    """A mapped task waits for a whole window from its own refusal, however soon there is room for one."""
    emulator.faults.add({**LIMIT, "retry_after": 20})
    given = context(store=StateStore())
    given["ti"].map_index = 3
    with pytest.raises(TaskDeferred) as deferred:
        CreateUploadSessionOperator(task_id="session", deferrable=True).execute(given)
    assert 3600 <= deferred.value.trigger.serialize()[1]["seconds"] <= 3600 * 1.05


def test_not_by_the_hour(emulator: Emulator) -> None:
    """A mapped task continues about when the server allows it, after a per-minute limit."""
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 90})
    given = context(store=StateStore())
    given["ti"].map_index = 3
    with pytest.raises(TaskDeferred) as deferred:
        CreateProjectOperator(task_id="project", upload_id="x", deferrable=True).execute(given)
    assert 90 <= deferred.value.trigger.serialize()[1]["seconds"] <= 93


class Night:
    """Forty mapped scans on a server with the contract's limits, on a virtual clock."""

    def __init__(self, scans: int) -> None:
        self.now = 1_700_000_000.0
        self.began = self.now
        self.projects: dict[int, str] = {}
        self.refused: dict[tuple[str, int], list[float]] = {}
        self._dice = random.Random(scans)
        self._steps = [(self.now, scan, self.session(scan)) for scan in range(scans)]

    def clock(self) -> float:
        return self.now

    def session(self, scan: int) -> Callable[[Emulator], None]:
        given, operator = mapped_context(scan), CreateUploadSessionOperator(task_id="s", deferrable=True)

        def step(emulator: Emulator) -> None:
            upload_id = operator.execute(given)
            operator.hook.client.put_file(upload_id, "a.e57", b"abc")
            self._later(self._dice.uniform(60, 3600), scan, self.project(scan, upload_id))

        return self._told("session", scan, step)

    def project(self, scan: int, upload_id: str) -> Callable[[Emulator], None]:
        given = mapped_context(scan)

        def step(emulator: Emulator) -> None:
            operator = CreateProjectOperator(task_id="p", upload_id=upload_id, deferrable=True)
            self.projects[scan] = operator.execute(given)

        return self._told("project", scan, step)

    def pass_by(self, emulator: Emulator) -> None:
        while self._steps:
            self.now, _, step = heapq.heappop(self._steps)
            step(emulator)

    def _later(self, seconds: float, scan: int, step: Callable[[Emulator], None]) -> None:
        heapq.heappush(self._steps, (self.now + seconds, scan, step))

    def _told(self, task: str, scan: int, step: Callable[[Emulator], None]) -> Callable[[Emulator], None]:
        """Run a step as Airflow does: again, when its trigger fires."""

        def again(emulator: Emulator) -> None:
            before = len(emulator.exchanges)
            try:
                step(emulator)
            except TaskDeferred as deferred:
                self._later(deferred.trigger.serialize()[1]["seconds"], scan, again)
            refusals = [e.at for e in emulator.exchanges[before:] if e.status == 429]
            self.refused.setdefault((task, scan), []).extend(refusals)

        return again


def mapped_context(map_index: int) -> Any:
    given = context(store=StateStore())
    given["ti"].map_index = map_index
    return given


def test_a_mapped_night(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty mapped scans get through the limits by the hour, each task refused at most once in an hour."""
    night = Night(40)
    with Emulator(limits="real", clock=night.clock, processing_seconds=0) as emulator:
        connect(monkeypatch, host=emulator.url, extra={"rate_limits": 1000})
        night.pass_by(emulator)
        assert sorted(night.projects.values()) == sorted(emulator.store.projects)
    assert sorted(night.projects) == list(range(40))
    assert all(
        later - sooner >= 3600
        for moments in night.refused.values()
        for sooner, later in itertools.pairwise(moments)
    )
    assert 30 <= sum(map(len, night.refused.values())) <= 100
    assert night.now - night.began < 6 * 3600


def seconds_until_fired(trigger: PauseTrigger) -> float:
    """Run a trigger as another triggerer would that got it as JSON, on virtual time."""

    async def event() -> Any:
        elsewhere = PauseTrigger(**json.loads(json.dumps(trigger.serialize()[1])))
        return (await anext(elsewhere.run())).payload

    loop = VirtualLoop()
    began = loop.now
    try:
        assert loop.run_until_complete(event()) == {"status": "over"}
        return loop.now - began
    finally:
        loop.close()


@pytest.mark.parametrize("ago", [None, 0, 50, -3600], ids=str)
def test_a_pause_that_just_began_is_waited_for_in_full(ago: float | None) -> None:
    """A new trigger fires after as long as the server asked, also if its clock differs from the worker's."""
    started = None if ago is None else time.time() - ago
    assert seconds_until_fired(PauseTrigger(3000, started)) == pytest.approx(3000, abs=5)


@pytest.mark.parametrize(("ago", "left"), [(2000, 1000), (2990, 30), (90_000, 30)])
def test_a_restarted_triggerer_ends_a_pause_on_time(ago: float, left: float) -> None:
    """After a restart during a pause, a triggerer waits for the rest, and for half a minute at least."""
    assert seconds_until_fired(PauseTrigger(3000, time.time() - ago)) == pytest.approx(left, abs=5)


@pytest.mark.parametrize("ago", [0, 2, 90_000])
def test_a_short_pause_does_not_end_at_once(ago: float) -> None:
    """A trigger fires after 10 seconds at the earliest: Airflow may fail a task that continues sooner."""
    assert seconds_until_fired(PauseTrigger(2, time.time() - ago)) == pytest.approx(10)
