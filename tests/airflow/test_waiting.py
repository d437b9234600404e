"""Waiting for a project: each kind of wait ends, and none polls more or sooner than it may."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_360.api.backoff import Backoff
from airflow_360.api.budget import RequestBudget
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.emulator import Emulator
from airflow_360.exceptions import ProjectStatusError, RateLimitedError
from airflow_360.hooks.project_polls import PollResult, poll_from_task
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.projects.times import WaitTimes
from airflow_360.runtime.task_state import TaskState
from airflow_360.sensors.project import ProjectReadySensor
from airflow_360.triggers.project import ProjectReadyTrigger
from tests.airflow.conftest import (
    AIRFLOW,
    AirflowRescheduleException,
    StateStore,
    connect,
    context,
)
from tests.airflow.test_poll_queue import VirtualLoop
from tests.fakes import client_for

#: Failures are tolerated for a moment only.
SHORT = WaitTimes(failure_tolerance=0.3, missing_interval=0.05)


#: The factor for the server's limits, so that polls need not wait for their turn.
FAST = {"rate_limits": 1000}


@pytest.fixture
def project(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project that takes half a second."""
    connect(monkeypatch, host=emulator.url, extra=FAST)
    emulator.store.processing_seconds = 0.5
    return str(emulator.store.create_project({"download_link": "https://x/y.e57"})["name"])


def gone(times: int = 1, **more: Any) -> dict[str, Any]:
    body = {"error": "project_not_found"}
    return {"on": "GET /projects/*", "do": "status", "status": 404, "body": body, "times": times, **more}


def down(times: int = 1, **more: Any) -> dict[str, Any]:
    return {"on": "GET /projects/*", "do": "status", "status": 503, "times": times, **more}


def altered(status: Any, times: int = 1, **more: Any) -> dict[str, Any]:
    fields = {"status": status}
    return {"on": "GET /projects/*", "do": "alter", "fields": fields, "times": times, **more}


def limited(seconds: int, times: int = 1) -> dict[str, Any]:
    return {"on": "GET /projects/*", "do": "rate_limit", "retry_after": seconds, "times": times}


def sensor(project_name: str, times: WaitTimes = SHORT, **more: Any) -> ProjectReadySensor:
    ready = ProjectReadySensor(task_id="ready", project_name=project_name, **more)
    ready.times = times
    return ready


def trigger(project_name: str, every: float = 0.1, **more: Any) -> ProjectReadyTrigger:
    """Return a trigger as another process gets it: as plain JSON."""
    arguments: dict[str, Any] = {"times": SHORT, **more}
    given = ProjectReadyTrigger(project_name, "three_sixty_default", every, **arguments)
    return ProjectReadyTrigger(**json.loads(json.dumps(given.serialize()[1])))


def event_of(trigger: ProjectReadyTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(json.loads(json.dumps(event.payload, allow_nan=False)))
        raise AssertionError("The trigger ended without an event.")

    return asyncio.run(first())


# -- how a wait begins and ends


def test_poke_mode_returns_the_full_record(emulator: Emulator, project: str) -> None:
    """A sensor in poke mode returns the full record and saves the page's URL."""
    given = context()
    record = sensor(project, mode="poke", poke_interval=0.2).execute(given)
    assert (record["name"], record["status"]) == (project, 100)
    assert given["ti"].pushed == {"project_url": f"{emulator.url}/projects/{project}"}


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database here; see the next test")
def test_a_sensor_that_cannot_defer_reschedules(emulator: Emulator, project: str) -> None:
    """A sensor that is not deferrable gives its slot back."""
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        sensor(project, deferrable=False, poke_interval=60).execute(context())
    assert rescheduled.value.reschedule_date.timestamp() - time.time() == pytest.approx(60, abs=5)


def test_reschedule_is_the_default() -> None:
    """A sensor's mode is reschedule if none is named."""
    assert sensor("any").mode == "reschedule"


def test_a_deferrable_sensor_polls_once_and_defers(emulator: Emulator, project: str) -> None:
    """A deferrable sensor polls once, then waits in the triggerer for as long as its timeout allows."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True, timeout=100, poke_interval=5).execute(context())
    assert len(emulator.exchanges) == 1
    assert deferred.value.timeout is not None
    assert 60 < deferred.value.timeout.total_seconds() <= 100
    record = sensor(project, deferrable=True).execute_complete(context(), event_of(trigger(project)))
    assert record["status"] == 100


def test_the_trigger_gets_plain_arguments(emulator: Emulator, project: str) -> None:
    """A sensor hands plain numbers to its trigger, and durations only if they are not the default."""
    stall = timedelta(hours=2)
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, WaitTimes(), deferrable=True, poke_interval=5, stall_timeout=stall).execute(context())
    plain = {
        "project_name": project,
        "three_sixty_conn_id": "three_sixty_default",
        "poll_interval": 5,
        "stall_timeout": 7200,
    }
    arguments = deferred.value.trigger.serialize()[1]
    assert arguments.pop("deferred_at") == pytest.approx(time.time(), abs=60)
    assert arguments == {**plain, "first_poll_after": 0}
    assert trigger(project, 5, stall_timeout=7200).serialize()[1] == {**plain, "times": SHORT.to_json()}


def test_a_deferred_wait_does_not_end_at_once(emulator: Emulator, project: str) -> None:
    """A trigger polls some seconds after the deferral: Airflow may fail a task that continues sooner."""
    emulator.store.projects[project].processing_seconds = 0
    times = replace(SHORT, after_deferral=0.6)
    started = time.time()
    assert event_of(trigger(project, times=times, deferred_at=started))["status"] == "ready"
    assert time.time() - started >= 0.6
    assert WaitTimes().after_deferral == 10


def test_ready_does_not_defer(emulator: Emulator, project: str) -> None:
    """A project that is ready needs no trigger."""
    time.sleep(0.6)
    assert sensor(project, deferrable=True).execute(context())["status"] == 100


@pytest.mark.parametrize("name", [None, "None", "", " "], ids=repr)
@pytest.mark.parametrize("more", [{"deferrable": True}, {"mode": "poke"}, {"soft_fail": True}], ids=str)
def test_a_project_task_that_was_marked_as_success(emulator: Emulator, name: Any, more: Any) -> None:
    """A sensor without a project name fails immediately, and asks you to clear the project task."""
    with pytest.raises(AirflowFailException, match="clear") as caught:
        sensor(name, **more).execute(context())
    assert "success" in str(caught.value)
    assert not emulator.exchanges


@pytest.mark.parametrize("event", [None, {}, {"status": "ready"}, {"status": "done", "record": {}}], ids=str)
def test_unknown_events_fail_closed(emulator: Emulator, event: Any) -> None:
    """An unexpected event is a permanent failure."""
    with pytest.raises(AirflowFailException):
        sensor("x").execute_complete(context(), event)


def test_retryable_event(emulator: Emulator) -> None:
    """A wait that failed for a reason that may pass is left to Airflow's retries."""
    event = {"status": "error", "message": "no answer", "retryable": True}
    with pytest.raises(AirflowException) as caught:
        sensor("x").execute_complete(context(), event)
    assert not isinstance(caught.value, AirflowFailException)


def test_errors_of_a_ready_project(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A ready project with errors is a warning, or with `fail_on_errors` a failure."""
    event = {"status": "ready", "record": {"name": "x", "status": 100, "errors": 3}}
    assert sensor("x").execute_complete(context(), event)["errors"] == 3
    assert "ready with 3 errors" in caplog.text
    with pytest.raises(AirflowFailException, match="3"):
        sensor("x", fail_on_errors=True).execute_complete(context(), event)


def test_two_at_once(emulator: Emulator, project: str) -> None:
    """Two waits for one project, as of two triggerers, end alike, and change nothing on the server."""

    async def both() -> list[Any]:
        waits = [anext(trigger(project).run()) for _ in range(2)]
        return [event.payload for event in await asyncio.gather(*waits)]

    first, second = asyncio.run(both())
    assert first == second
    assert sensor(project).execute_complete(context(), first)["status"] == 100
    assert {e.method for e in emulator.exchanges} == {"GET"}


def test_soft_fail(emulator: Emulator) -> None:
    """With soft_fail a project that must not be read skips the task in each mode."""
    refused = {"on": "GET /projects/*", "do": "status", "status": 403}
    emulator.faults.add({**refused, "body": {"error": "insufficient_scope"}, "times": 2})
    for deferrable in (True, False):
        with pytest.raises(AirflowSkipException):
            sensor("x", deferrable=deferrable, mode="poke", soft_fail=True).execute(context())


# -- failures that pass


def test_trigger_survives_failures(emulator: Emulator, project: str) -> None:
    """A trigger tolerates failures of the server."""
    for do in ({"do": "status", "status": 503}, {"do": "lost_reply"}, {"do": "reset", "after_bytes": 0}):
        emulator.faults.add({"on": "GET /projects/*", **do})
    assert event_of(trigger(project, times=WaitTimes()))["status"] == "ready"


@pytest.mark.parametrize("status", [101, -1, "x", None, 5.5], ids=str)
def test_a_status_that_cannot_be_right_for_a_moment(emulator: Emulator, project: str, status: Any) -> None:
    """A wrong or unreadable status for three polls does not end a wait, triggered or poked."""
    emulator.faults.add(altered(status, 3))
    assert event_of(trigger(project, times=WaitTimes()))["status"] == "ready"
    emulator.faults.add(altered(status, 3))
    poked, given = sensor(project, WaitTimes(), poke_interval=0.1), context(store=StateStore())
    assert [poked.poke(given).is_done for _ in range(4)] == [False, False, False, True]


def test_status_goes_backwards(emulator: Emulator, project: str) -> None:
    """If a status goes backwards, the wait continues."""
    emulator.store.projects[project].processing_seconds = 2
    emulator.faults.add(altered(50), altered(10))
    assert event_of(trigger(project, 0.2))["status"] == "ready"


def test_gone_for_a_moment(emulator: Emulator, project: str) -> None:
    """A project that was seen and is missing twice is waited on; if it is missing three times, it is gone."""
    emulator.store.projects[project].processing_seconds = 1.5
    emulator.faults.add(gone(2, skip=1))
    assert event_of(trigger(project, 0.2))["status"] == "ready"
    emulator.store.projects[project].processing_seconds = 3600
    emulator.faults.add(gone(3, skip=1))
    assert "404" in event_of(trigger(project))["message"]


def test_just_made_and_not_there_yet(emulator: Emulator, project: str) -> None:
    """A project that is not visible right after its creation is waited for in the triggerer."""
    emulator.faults.add(gone(2))
    assert event_of(trigger(project, 0.3))["status"] == "ready"


def test_poked_and_gone_for_a_moment(emulator: Emulator, project: str) -> None:
    """A sensor that pokes tolerates a missing project twice in a row, and not a third time."""
    store, poked = StateStore(), sensor(project)
    emulator.store.projects[project].processing_seconds = 3600
    for missing in (2, 2, 3):
        emulator.faults.add(gone(missing))
        for _ in range(2):
            assert not poked.poke(context(store=store)).is_done
        if missing == 2:
            assert not poked.poke(context(store=store)).is_done
    with pytest.raises(AirflowFailException, match="404"):
        poked.poke(context(store=store))


def test_a_sensor_without_saved_state_repeats_a_404_at_once(emulator: Emulator, project: str) -> None:
    """A rescheduled sensor that cannot save its state detects a deleted project within one run."""
    emulator.faults.add(gone(2))
    assert not sensor(project).poke(context()).is_done
    assert len(emulator.exchanges) == 3
    emulator.faults.add(gone(3))
    with pytest.raises(AirflowFailException, match="404"):
        sensor(project).poke(context())


@pytest.mark.parametrize("killed", [False, True], ids=["failed", "killed"])
def test_a_retry_tolerates_failures_again(emulator: Emulator, project: str, killed: bool) -> None:
    """A wait that failed because of the server, or was killed, tolerates failures in full again on retry."""
    emulator.store.projects[project].processing_seconds = 3600
    store, none = StateStore(), WaitTimes(failure_tolerance=0, tolerated_failures=3)
    emulator.faults.add(down(6 if killed else 7))
    for try_number in (1, 2):
        poked = sensor(project, none)
        assert not any(poked.poke(context(try_number, store)).is_done for _ in range(3))
        if try_number == 1 and not killed:
            with pytest.raises(AirflowException, match="503"):
                poked.poke(context(try_number, store))


@pytest.mark.parametrize("mode", ["triggered", "poked"])
def test_key_replaced_during_the_wait(
    emulator: Emulator, project: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A key that is replaced during the wait is read again after a 401; one that is refused ends the wait."""
    refused = {"on": "GET /projects/*", "do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
    emulator.faults.add(refused)
    if mode == "triggered":
        keys = iter(["sk_old", "sk_new", "sk_new"])

        async def reads(conn_id: str) -> ThreeSixtyClient:
            return client_for(emulator, key=next(keys), tries=0)

        monkeypatch.setattr("airflow_360.triggers.project_wait.async_client", reads)
        assert event_of(trigger(project))["status"] == "ready"
        keys = iter(["sk_new", "sk_new"])
        emulator.faults.add(refused)
        event = event_of(trigger(project))
        assert ("401" in event["message"], event["retryable"]) == (True, False)
        return
    poked = sensor(project, mode="poke")
    poked.hook.get_conn()
    connect(monkeypatch, host=emulator.url, password="sk_the_new_key")
    assert not poked.poke(context()).is_done
    emulator.faults.add(refused)
    with pytest.raises(AirflowFailException, match="401"):
        poked.poke(context())


# -- every wait ends

ENDLESS: list[Any] = [
    pytest.param(gone, "404", False, id="404"),
    pytest.param(down, "503", True, id="503"),
    pytest.param(lambda times: altered(101, times), "101", False, id="101"),
    pytest.param(lambda times: altered(-1, times), "-1", False, id="-1"),
    pytest.param(lambda times: altered(None, times), "None", True, id="null"),
    pytest.param(lambda times: altered("failed", times), "failed", True, id="a word"),
    pytest.param(lambda times: limited(0, times), "429", True, id="429"),
]


@pytest.mark.parametrize(("fault", "seen", "retryable"), ENDLESS)
def test_every_triggered_wait_ends(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], Any], seen: str, retryable: bool
) -> None:
    """If the server only fails, the trigger's event contains the failures, and whether to retry."""
    with Emulator(processing_seconds=3600) as emulator:
        connect(monkeypatch, host=emulator.url, extra=FAST)
        name = emulator.store.create_project({"download_link": "https://x/y.e57"})["name"]
        emulator.faults.add(fault(999))
        event = event_of(trigger(name))
    assert (event["status"], event["retryable"]) == ("error", retryable)
    assert seen in event["message"]
    assert 3 <= len(emulator.exchanges) < 20


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize(("fault", "seen", "retryable"), ENDLESS)
def test_every_polled_wait_ends(
    monkeypatch: pytest.MonkeyPatch, mode: str, fault: Callable[[int], Any], seen: str, retryable: bool
) -> None:
    """If the server only fails, a polling sensor fails with these failures, with one request per poll."""
    with Emulator(processing_seconds=3600) as emulator:
        connect(monkeypatch, host=emulator.url, extra=FAST)
        name = emulator.store.create_project({"download_link": "https://x/y.e57"})["name"]
        emulator.faults.add(fault(999))
        error, polls = error_and_polls(name, mode)
    assert seen in str(error)
    assert isinstance(error, AirflowFailException) != retryable
    assert 3 <= len(emulator.exchanges) <= polls < 99


def error_and_polls(name: str, mode: str) -> tuple[AirflowException, int]:
    """Poke until the wait fails; in the mode reschedule as one process after the other would."""
    store, poked = StateStore() if mode == "reschedule" else None, sensor(name, mode=mode)
    for polls in itertools.count(1):
        try:
            assert not poked.poke(context(store=store)).is_done
        except AirflowException as error:
            return error, polls
        time.sleep(0.1)
        poked = sensor(name, mode=mode) if store is not None else poked
    raise AssertionError("The wait never ends.")


def test_failures_between_replies_are_tolerated(emulator: Emulator, project: str) -> None:
    """Only failed polls in a row count: a trigger whose server fails every other time waits on."""
    emulator.store.projects[project].processing_seconds = 1.2
    for _ in range(4):
        emulator.faults.add(down(2), {**altered(3), "do": "alter"})
    assert event_of(trigger(project))["status"] == "ready"


def test_a_missing_project_fails_permanently(emulator: Emulator) -> None:
    """A project that does not exist fails permanently, in poke mode and in the trigger."""
    with pytest.raises(AirflowFailException, match="nobody"):
        sensor("nobody", mode="poke", poke_interval=0.1).execute(context())
    event = event_of(trigger("nobody"))
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match="nobody"):
        sensor("nobody").execute_complete(context(), event)


def test_status_stands_still(emulator: Emulator, project: str) -> None:
    """With `stall_timeout` a status that does not change ends the wait, in the trigger and in poke mode."""
    emulator.store.projects[project].processing_seconds = 3600
    event = event_of(trigger(project, stall_timeout=0.3))
    assert "has stayed at status 0" in event["message"]
    store = StateStore()
    stalled = sensor(project, stall_timeout=timedelta(seconds=0.2), mode="poke")
    assert not stalled.poke(context(store=store)).is_done
    time.sleep(0.3)
    with pytest.raises(AirflowFailException, match="has stayed at status 0"):
        stalled.poke(context(store=store))


def test_poking_without_saved_state_notices_a_stall(emulator: Emulator, project: str) -> None:
    """A sensor that pokes knows without saved state for how long the status has stood still."""
    emulator.store.projects[project].processing_seconds = 3600
    with pytest.raises(AirflowFailException, match="has stayed at status 0"):
        sensor(project, stall_timeout=0.3, mode="poke", poke_interval=0.1, timeout=20).execute(context())


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database when it reschedules")
def test_the_time_out_names_the_project(emulator: Emulator, project: str, mode: str) -> None:
    """A wait that takes too long fails with the project and its page."""
    emulator.store.projects[project].processing_seconds = 3600
    waiting = sensor(project, mode=mode, poke_interval=0.1, timeout=0)
    with pytest.raises(AirflowSensorTimeout, match=f"{emulator.url}/projects/{project}"):
        waiting.execute(context())


def test_timeout_counts_from_the_first_attempt(emulator: Emulator, project: str) -> None:
    """A retry of a sensor has only the time that is left."""
    store = StateStore({f"360 waiting for {project} 2": time.time() - 60})
    emulator.store.projects[project].processing_seconds = 3600
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True, timeout=100).execute(context(2, store))
    assert deferred.value.timeout is not None
    assert 35 < deferred.value.timeout.total_seconds() <= 40


def test_a_clear_waits_anew(emulator: Emulator, project: str) -> None:
    """A sensor that timed out or stood still has its whole time again after a person clears it."""
    emulator.store.projects[project].processing_seconds = 3600
    store = StateStore({f"360 waiting for {project} 2": time.time() - 5000})
    stalled = sensor(project, stall_timeout=0.2)
    assert not stalled.poke(context(2, store)).is_done
    time.sleep(0.3)
    with pytest.raises(AirflowFailException, match="has stayed at status 0"):
        stalled.poke(context(2, store))
    assert not stalled.poke(context(3, store, max_tries=4)).is_done
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True, timeout=100).execute(context(3, store, max_tries=4))
    assert deferred.value.timeout is not None
    assert deferred.value.timeout.total_seconds() > 95


# -- rate limits


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database when it reschedules")
@pytest.mark.parametrize("saved", [True, False], ids=["saved state", "no saved state"])
@pytest.mark.parametrize("more", [{}, {"soft_fail": True}, {"silent_fail": True}], ids=str)
def test_a_rescheduled_sensor_obeys_a_rate_limit(
    emulator: Emulator, project: str, saved: bool, more: dict[str, Any]
) -> None:
    """A 429 with a long wait reschedules at that time, and neither fails nor skips the task."""
    emulator.faults.add(limited(3000))
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        sensor(project, **more).execute(context(store=StateStore() if saved else None))
    assert rescheduled.value.reschedule_date.timestamp() - time.time() == pytest.approx(3000, abs=5)
    assert len(emulator.exchanges) == 1


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database when it reschedules")
def test_a_rate_limit_does_not_outlast_the_time_out(emulator: Emulator, project: str) -> None:
    """If a pause is longer than the sensor's timeout, the sensor is rescheduled for the timeout's end."""
    emulator.faults.add(limited(3000))
    store = StateStore()
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        sensor(project, timeout=100).execute(context(store=store))
    assert rescheduled.value.reschedule_date.timestamp() - time.time() == pytest.approx(100, abs=5)
    assert not sensor(project).poke(context(store=store)).is_done
    assert len(emulator.exchanges) == 1


def test_a_poking_sensor_obeys_a_rate_limit(emulator: Emulator, project: str) -> None:
    """A sensor that pokes sends no request before the time that the server named."""
    emulator.faults.add(limited(2))
    assert sensor(project, mode="poke", poke_interval=0.1).execute(context())["status"] == 100
    first, second = (exchange.at for exchange in emulator.exchanges)
    assert second - first >= 2


def test_a_deferrable_sensor_obeys_a_rate_limit(emulator: Emulator, project: str) -> None:
    """A trigger that is created after a 429 sends no request before the time that the server named."""
    emulator.faults.add(limited(3000))
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True).execute(context())
    arguments = deferred.value.trigger.serialize()[1]
    assert arguments["first_poll_after"] == pytest.approx(3000, abs=5)
    assert arguments["deferred_at"] == pytest.approx(time.time(), abs=60)
    loop = VirtualLoop()
    waits = trigger(project, first_poll_after=3000, deferred_at=time.time())

    async def first() -> Any:
        return await anext(waits.run())

    task = loop.create_task(first())
    loop.run_until_complete(asyncio.wait([task], timeout=2990))
    assert not task.done()
    assert len(emulator.exchanges) == 1
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_a_trigger_obeys_a_rate_limit(emulator: Emulator, project: str) -> None:
    """A trigger that gets a 429 sends no request before the time that the server named."""
    emulator.faults.add(limited(2))
    assert event_of(trigger(project))["status"] == "ready"
    first, second = (exchange.at for exchange in emulator.exchanges[:2])
    assert second - first >= 2


# -- one poll from a task


def poll(name: str, store: StateStore | None = None, **more: Any) -> PollResult:
    state = TaskState(context(store=store))
    return poll_from_task(ThreeSixtyHook(), name, state, 60, **{"times": SHORT, **more})


def test_one_poll_is_one_request(emulator: Emulator, project: str) -> None:
    """A poll from a task sends one request, with any result, and returns the time of the next one."""
    emulator.store.projects[project].processing_seconds = 3600
    emulator.faults.add(down(), altered(None), gone())
    store = StateStore()
    results = [poll(project, store) for _ in range(4)]
    assert [result.seconds for result in results] == [60] * 4
    assert [result.record.failures for result in results] == [1, 2, 3, 0]
    assert not any(result.ready for result in results)
    assert len(emulator.exchanges) == 4


def test_a_poll_finds_the_ready_project(emulator: Emulator, project: str) -> None:
    """A poll of a ready project returns it, with its record."""
    time.sleep(0.6)
    result = poll(project, StateStore())
    assert result.ready
    assert result.project
    assert result.project.record["status"] == 100


def test_a_poll_saves_what_it_saw(emulator: Emulator, project: str) -> None:
    """The result of a poll is saved for the next one, and its status for Airflow's UI."""
    emulator.store.projects[project].processing_seconds = 3600
    store = StateStore()
    poll(project, store)
    assert store["360 progress"]["project_name"] == project
    saved = store[f"360 wait {project} 2"]
    assert saved["status"] == 0
    assert saved["since"] == pytest.approx(time.time(), abs=60)


def test_a_poll_during_a_pause_sends_nothing(emulator: Emulator, project: str) -> None:
    """While the server's pause lasts, a poll sends no request, also from another attempt of the task."""
    emulator.faults.add(limited(300))
    store = StateStore()
    first, second = poll(project, store), poll(project, store)
    assert (first.seconds, first.pause) == (300, 300)
    assert 290 < second.pause == second.seconds < 300
    assert len(emulator.exchanges) == 1


def test_a_pause_is_kept_after_a_failure(emulator: Emulator, project: str) -> None:
    """A retry after a wait that ended with a 429 does not ask sooner than the server said."""
    emulator.faults.add(limited(300))
    store, none = StateStore(), WaitTimes(failure_tolerance=-1, tolerated_failures=0)
    with pytest.raises(RateLimitedError):
        poll(project, store, times=none)
    assert poll(project, store).pause > 290
    assert len(emulator.exchanges) == 1


def test_a_poll_without_saved_state_continues_from_a_record(emulator: Emulator, project: str) -> None:
    """A task that cannot save its state hands the record of one poll to the next."""
    emulator.faults.add(altered(101, 5))
    none, record = WaitTimes(failure_tolerance=0, tolerated_failures=3), None
    for _ in range(3):
        record = poll(project, record=record, times=none).record
    with pytest.raises(ProjectStatusError) as caught:
        poll(project, record=record, times=none)
    assert caught.value.status == 101
    assert poll(project, times=none).record.failures == 1


# -- the trigger among others


def test_trigger_says_what_is_wrong_with_the_connection(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    """A trigger whose connection cannot work ends with an event, and the key is not in it."""
    connect(monkeypatch, host="http://example.org", password="sk_marker")
    event = event_of(trigger("x"))
    assert event["status"] == "error"
    assert "Plain http" in event["message"]
    assert "sk_marker" not in str(event)


def test_an_unexpected_error_is_an_event(emulator: Emulator) -> None:
    """A trigger that fails unexpectedly ends with an event that contains the error's type, and no text."""
    wrong: Any = {"sk_marker": 1}
    event = event_of(ProjectReadyTrigger("x", "three_sixty_default", wrong))
    assert (event["status"], event["retryable"]) == ("error", True)
    assert "TypeError" in event["message"]
    assert "sk_marker" not in str(event)
    with pytest.raises(AirflowException):
        sensor("x").execute_complete(context(), event)


@pytest.mark.parametrize(
    "record",
    [
        '"title": NaN',
        '"size": -Infinity',
        '"size": 99999999999999999999999999',
        '"title": "\\ud800"',
        '"\\udfff": 1',
        '"title": "a\\u0000b"',
        '"deep": ' + "[" * 900 + "]" * 900,
        '"errors": true',
        '"notes": "' + "x" * 300_000 + '"',
    ],
    ids=lambda record: str(record)[:20],
)
def test_whatever_a_ready_record_holds_can_be_stored(emulator: Emulator, project: str, record: str) -> None:
    """A ready project with values that no database takes ends the wait with an event that can be stored."""
    body = f'{{"name": "{project}", "status": 100, {record}}}'
    headers = {"Content-Type": "application/json"}
    answer = {"on": "GET /projects/*", "do": "status", "status": 200, "body": body, "headers": headers}
    emulator.faults.add(answer)
    event = event_of(trigger(project))
    assert event["status"] == "ready"
    pytest.importorskip("msgspec").msgpack.encode(event)
    text = json.dumps(event, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text
    assert len(text.encode()) < 300_000
    assert sensor(project).execute_complete(context(), event)["name"] == project


def test_trigger_does_not_block(emulator: Emulator, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop turns while a poll waits for its answer."""
    get_project, polled, turned = emulator.store.get_project, threading.Event(), threading.Event()
    in_time: list[bool] = []

    def get_project_later(name: str) -> dict[str, Any]:
        polled.set()
        in_time.append(turned.wait(10))  # less than a poll waits for its answer
        return get_project(name)

    monkeypatch.setattr(emulator.store, "get_project", get_project_later)

    async def turn() -> None:
        task = asyncio.ensure_future(anext(trigger(project, 0.2).run()))
        while not task.done():
            await asyncio.sleep(0.01)
            if polled.is_set():
                turned.set()

    asyncio.run(turn())
    assert in_time
    assert all(in_time)


def test_dripping_projects_do_not_hold_up_other_waits(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the replies of four projects drip, other waits continue, and the drips count as failed polls."""
    emulator.store.processing_seconds = 1
    create = emulator.store.create_project
    names = [str(create({"download_link": "https://x/y.e57"})["name"]) for _ in range(8)]
    dripping, others = names[:4], names[4:]
    for name in dripping:
        emulator.faults.add({"on": f"GET /projects/{name}", "do": "drip", "seconds": 0.5, "times": 3})
    transport = Transport(emulator.url, "sk_test", reply_timeout=1.5, budget=RequestBudget(1000))

    async def reads(conn_id: str) -> ThreeSixtyClient:
        return ThreeSixtyClient(transport, Backoff(tries=0))

    monkeypatch.setattr("airflow_360.triggers.project_wait.async_client", reads)

    async def waits() -> list[Any]:
        slow = [asyncio.ensure_future(anext(trigger(name, times=WaitTimes()).run())) for name in dripping]
        await asyncio.sleep(0.2)
        quick = asyncio.gather(*(anext(trigger(name).run()) for name in others))
        events = await asyncio.wait_for(quick, 60)  # each of the twelve replies would drip for longer
        return [event.payload for event in [*events, *await asyncio.gather(*slow)]]

    assert [event["status"] for event in asyncio.run(waits())] == ["ready"] * 8
    assert len([e for e in emulator.exchanges if e.path.endswith(dripping[0])]) >= 4
