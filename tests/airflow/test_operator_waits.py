"""The project task that waits for its project itself, deferred and rescheduled."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_360.emulator import Emulator
from airflow_360.operators import project as module
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.projects.times import WaitTimes
from tests.airflow.conftest import AirflowRescheduleException, StateStore, context

TaskDeferralTimeout: type[Exception] = vars(module)["TaskDeferralTimeout"]
GONE = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}


def waiting(**more: Any) -> CreateProjectOperator:
    return CreateProjectOperator(
        task_id="p",
        download_link="https://x/y.e57",
        wait_for_completion=True,
        **{"deferrable": False, **more},
    )


def polls(emulator: Emulator) -> int:
    return sum(e.method == "GET" for e in emulator.exchanges)


def run_again(task: CreateProjectOperator, store: StateStore) -> None:
    with pytest.raises(AirflowRescheduleException):
        task.execute(context(store=store))


def test_each_poll_is_one_request(emulator: Emulator) -> None:
    """A rescheduled wait sends one GET each time, and none besides."""
    emulator.store.processing_seconds = 3600
    store = StateStore()
    for number in (1, 2, 3):
        run_again(waiting(), store)
        assert polls(emulator) == number
    emulator.store.processing_seconds = 0
    for project in emulator.store.projects.values():
        project.processing_seconds = 0
    assert waiting().execute(context(store=store)) in emulator.store.projects
    assert [e.method for e in emulator.exchanges] == ["POST", "GET", "GET", "GET", "GET"]


def test_it_ends_after_its_timeout(emulator: Emulator) -> None:
    """A rescheduled wait polls once more after its timeout, and fails permanently if that does not help."""
    emulator.store.processing_seconds = 3600
    store = StateStore()
    run_again(waiting(timeout=100), store)
    (began,) = [key for key in store if key.startswith("360 waiting for")]
    store[began] = time.time() - 101
    with pytest.raises(AirflowFailException, match=r"not ready within 100 s.*Clear this task"):
        waiting(timeout=timedelta(seconds=100)).execute(context(store=store))
    assert polls(emulator) == 2
    for project in emulator.store.projects.values():
        project.processing_seconds = 0
    assert waiting(timeout=100).execute(context(store=store))


def test_each_run_shows_the_button(emulator: Emulator) -> None:
    """Airflow deletes the XComs when a task is rescheduled, so each run pushes the project's page."""
    emulator.store.processing_seconds = 3600
    store = StateStore()
    for _ in range(2):
        given = context(store=store)
        with pytest.raises(AirflowRescheduleException):
            waiting().execute(given)
        (name,) = emulator.store.projects
        assert given["ti"].pushed["project_url"] == f"{emulator.url}/projects/{name}"


def test_it_tolerates_outages(emulator: Emulator) -> None:
    """Failed polls are tolerated as the sensor tolerates them, and not for ever."""
    emulator.store.processing_seconds = 3600
    store, task = StateStore(), waiting(poll_interval=0.01)
    task.times = WaitTimes(failure_tolerance=0.2, tolerated_failures=2)
    emulator.faults.add({"on": "GET /projects/*", "do": "status", "status": 503, "times": 3})
    run_again(task, store)
    run_again(task, store)
    time.sleep(0.3)
    with pytest.raises(AirflowException, match="503"):
        task.execute(context(store=store))


@pytest.mark.parametrize("missing", [2, 3])
def test_a_new_project_may_be_missing_twice(emulator: Emulator, missing: int) -> None:
    """A project that is not visible immediately is waited for; after three 404s it was deleted."""
    emulator.store.processing_seconds = 3600
    emulator.faults.add({**GONE, "times": missing})
    store = StateStore()
    run_again(waiting(), store)
    run_again(waiting(), store)
    if missing == 2:
        run_again(waiting(), store)
        return
    with pytest.raises(AirflowFailException, match="404"):
        waiting().execute(context(store=store))
    assert len(emulator.store.projects) == 1


def test_a_429_is_obeyed(emulator: Emulator) -> None:
    """The next poll comes no sooner than the server said."""
    emulator.store.processing_seconds = 3600
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 700})
    store = StateStore()
    with pytest.raises(AirflowRescheduleException) as planned:
        waiting().execute(context(store=store))
    assert planned.value.reschedule_date.timestamp() > time.time() + 690
    run_again(waiting(), store)
    assert polls(emulator) == 1


def test_a_short_interval_is_lengthened(emulator: Emulator) -> None:
    """A task is not rescheduled for the next few seconds: Airflow may confuse its two runs."""
    emulator.store.processing_seconds = 3600
    started = time.time()
    with pytest.raises(AirflowRescheduleException) as planned:
        waiting(poll_interval=1).execute(context(store=StateStore()))
    assert planned.value.reschedule_date.timestamp() >= started + 10


def test_a_status_that_stands_still(emulator: Emulator) -> None:
    """`stall_timeout` ends the wait."""
    emulator.store.processing_seconds = 3600
    store = StateStore()
    run_again(waiting(stall_timeout=0.1), store)
    time.sleep(0.2)
    with pytest.raises(AirflowFailException, match="status 0"):
        waiting(stall_timeout=0.1).execute(context(store=store))


@pytest.mark.parametrize("fails", [True, False])
def test_processing_errors(emulator: Emulator, fails: bool) -> None:
    """With `fail_on_errors` processing errors are a failure."""
    task = waiting(fail_on_errors=fails)
    emulator.faults.add({"on": "GET /projects/*", "do": "alter", "fields": {"errors": 2}})
    if fails:
        with pytest.raises(AirflowFailException, match="2 processing errors"):
            task.execute(context(store=StateStore()))
    else:
        assert task.execute(context(store=StateStore()))


def test_without_saved_state_it_defers(emulator: Emulator) -> None:
    """Without saved state the wait defers, also if the task is not deferrable."""
    emulator.store.processing_seconds = 3600
    with pytest.raises(TaskDeferred) as deferred:
        waiting(timeout=100).execute(context())
    assert deferred.value.timeout is not None
    assert 95 < deferred.value.timeout.total_seconds() <= 100


def test_a_deferral_that_takes_too_long_says_what_it_waited_for(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deferred wait fails permanently after its timeout, with the project's page."""
    task, given = waiting(timeout=100), context()
    given["ti"].pulled = {("p", "project_url"): f"{emulator.url}/projects/x"}

    def late(*arguments: Any) -> Any:
        raise TaskDeferralTimeout("late")

    monkeypatch.setattr("airflow_360.operators.base.BaseOperator.resume_execution", late)
    with pytest.raises(AirflowFailException, match=r"not ready within 100 s: http.*/projects/x"):
        task.resume_execution("__fail__", None, given)
    given["ti"].pulled = {}
    with pytest.raises(TaskDeferralTimeout):
        task.resume_execution("__fail__", None, given)


@pytest.mark.parametrize("name", ["poll_interval", "timeout", "stall_timeout"])
def test_a_wrong_duration_is_refused(name: str) -> None:
    """A duration that is none is refused when the DAG is parsed."""
    with pytest.raises(ValueError, match=name):
        waiting(**{name: -1})
