from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.sensors.project import ProjectReadySensor
from airflow_360.triggers.project import ProjectReadyTrigger
from tests.airflow.conftest import AIRFLOW, AirflowRescheduleException, StateStore, connect, context
from tests.fakes import client_for


@pytest.fixture
def project(emulator: Emulator) -> str:
    """A project that takes half a second."""
    emulator.store.processing_seconds = 0.5
    return CreateProjectOperator(task_id="p", download_link="https://x/y.e57").execute(context())


def sensor(project_name: str, **more: Any) -> ProjectReadySensor:
    return ProjectReadySensor(task_id="ready", project_name=project_name, **more)


def event_of(trigger: ProjectReadyTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("The trigger ended without an event.")

    return asyncio.run(first())


def test_poke(emulator: Emulator, project: str) -> None:
    """A sensor that pokes returns the full record and keeps the page's address."""
    given = context()
    record = sensor(project, mode="poke", poke_interval=0.2).execute(given)
    assert (record["name"], record["status"]) == (project, 100)
    assert given["ti"].pushed == {"project_url": f"{emulator.url}/projects/{project}"}


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database here; see the next test")
def test_reschedules(emulator: Emulator, project: str) -> None:
    """A sensor that is not deferrable gives its slot back."""
    with pytest.raises(AirflowRescheduleException):
        sensor(project, deferrable=False).execute(context())


def test_reschedule_is_the_default() -> None:
    """A sensor's mode is reschedule where none is named."""
    assert sensor("any").mode == "reschedule"


def test_defer(emulator: Emulator, project: str) -> None:
    """A deferrable sensor looks once, then waits in the triggerer for as long as its time-out allows."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True, timeout=100, poke_interval=5).execute(context())
    assert deferred.value.timeout is not None
    assert 99 < deferred.value.timeout.total_seconds() <= 100
    event = event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.1))
    record = sensor(project, deferrable=True).execute_complete(context(), event)
    assert record["status"] == 100


def test_ready_does_not_defer(emulator: Emulator, project: str) -> None:
    """A project that is ready costs no trigger."""
    time.sleep(0.6)
    assert sensor(project, deferrable=True).execute(context())["status"] == 100


def test_unknown_project(emulator: Emulator) -> None:
    """A project that is not there fails for good, poked or triggered."""
    with pytest.raises(AirflowFailException, match="nobody"):
        sensor("nobody", mode="poke").execute(context())
    event = event_of(ProjectReadyTrigger("nobody", "three_sixty_default", 0.1))
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match="nobody"):
        sensor("nobody").execute_complete(context(), event)


def test_trigger_survives_failures(emulator: Emulator, project: str) -> None:
    """A trigger rides out failures of the server."""
    for do in ({"do": "status", "status": 503}, {"do": "lost_reply"}, {"do": "reset", "after_bytes": 0}):
        emulator.faults.add({"on": "GET /projects/*", **do})
    event = event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.2))
    assert event["status"] == "ready"


def test_trigger_says_what_is_wrong_with_the_connection(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    """A trigger whose connection cannot work ends with an event, and the key is not in it."""
    connect(monkeypatch, host="http://example.org", password="sk_marker")
    event = event_of(ProjectReadyTrigger("x", "three_sixty_default", 0.1))
    assert event["status"] == "error"
    assert "Plain http" in event["message"]
    assert "sk_marker" not in str(event)


@pytest.mark.parametrize("event", [None, {}, {"status": "ready"}, {"status": "done", "record": {}}], ids=str)
def test_unknown_events_fail_closed(emulator: Emulator, event: Any) -> None:
    """An event that means nothing is a failure."""
    with pytest.raises(AirflowFailException):
        sensor("x").execute_complete(context(), event)


def test_retryable_event(emulator: Emulator) -> None:
    """A wait that failed for a passing reason counts on Airflow's retries."""
    event = {"status": "error", "message": "no answer", "retryable": True}
    with pytest.raises(AirflowException) as caught:
        sensor("x").execute_complete(context(), event)
    assert not isinstance(caught.value, AirflowFailException)


def test_errors_of_a_ready_project(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A project that is ready with errors is a warning, and a failure where that was asked for."""
    event = {"status": "ready", "record": {"name": "x", "status": 100, "errors": 3}}
    assert sensor("x").execute_complete(context(), event)["errors"] == 3
    assert "ready with 3 errors" in caplog.text
    with pytest.raises(AirflowFailException, match="3 errors"):
        sensor("x", fail_on_errors=True).execute_complete(context(), event)


def test_trigger_does_not_block(emulator: Emulator, project: str) -> None:
    """The event loop turns while a poll waits for its answer."""
    emulator.faults.add({"on": "GET /projects/*", "do": "stall", "seconds": 1})

    async def longest_gap() -> float:
        trigger = ProjectReadyTrigger(project, "three_sixty_default", 0.2)
        task = asyncio.ensure_future(anext(trigger.run()))
        gap, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.01)
            gap, last = max(gap, time.monotonic() - last), time.monotonic()
        return gap

    assert asyncio.run(longest_gap()) < 0.5


def test_status_stands_still(emulator: Emulator, project: str) -> None:
    """A status that stands still ends the wait where that was asked for, in the trigger and when poked."""
    emulator.store.projects[project].processing_seconds = 3600
    event = event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.1, stall_timeout=0.3))
    assert "has stood at status 0" in event["message"]
    store = StateStore()
    stalled = sensor(project, stall_timeout=0.2, mode="poke")
    assert not stalled.poke(context(store=store)).is_done
    time.sleep(0.3)
    with pytest.raises(AirflowFailException, match="has stood at status 0"):
        stalled.poke(context(store=store))


def test_status_goes_backwards(emulator: Emulator, project: str) -> None:
    """A status that goes backwards is waited on."""
    emulator.store.projects[project].processing_seconds = 2
    for status in (50, 10):
        emulator.faults.add({"on": "GET /projects/*", "do": "alter", "fields": {"status": status}})
    assert event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.2))["status"] == "ready"


@pytest.mark.parametrize("status", [101, -1, "x", None], ids=str)
def test_impossible_status(emulator: Emulator, project: str, status: Any) -> None:
    """A status that is none fails closed, with what was seen, poked or triggered."""
    fault = {"on": "GET /projects/*", "do": "alter", "fields": {"status": status}}
    emulator.faults.add(fault, fault)
    event = event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.1))
    assert str(status) in event["message"]
    assert event["retryable"] is False
    with pytest.raises(AirflowFailException, match=str(status)):
        sensor(project).poke(context())


def test_gone_for_a_moment(emulator: Emulator, project: str) -> None:
    """A project that was seen and is missing twice is waited on; missing three times, it is gone for good."""
    emulator.store.projects[project].processing_seconds = 1.5
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({**gone, "skip": 1, "times": 2})
    assert event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.2))["status"] == "ready"
    emulator.store.projects[project].processing_seconds = 3600
    emulator.faults.add({**gone, "skip": 1, "times": 3})
    assert "404" in event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.1))["message"]


def test_poked_and_gone_for_a_moment(emulator: Emulator, project: str) -> None:
    """A sensor that pokes bears a missing project twice in a row, and not a third time."""
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    store, poked = StateStore(), sensor(project)
    emulator.store.projects[project].processing_seconds = 3600
    for missing in (2, 2, 3):
        emulator.faults.add({**gone, "times": missing})
        for _ in range(2):
            assert not poked.poke(context(store=store)).is_done
        if missing == 2:
            assert not poked.poke(context(store=store)).is_done
    with pytest.raises(AirflowFailException, match="404"):
        poked.poke(context(store=store))


def test_just_made_and_not_there_yet(emulator: Emulator, project: str) -> None:
    """A project that does not show at once after it was made is waited for in the triggerer."""
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({**gone, "times": 2})
    assert event_of(ProjectReadyTrigger(project, "three_sixty_default", 0.3))["status"] == "ready"


@pytest.mark.parametrize("way", ["deferred", "rescheduled", "without a memory"])
def test_task_that_made_it_does_not_find_it_yet(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A task that waits for the project that it made bears that it does not show at once."""
    monkeypatch.setattr("airflow_360.operators.once.MISSING", 0.2)
    monkeypatch.setattr("airflow_360.operators.once.LOOK_EVERY", 0.1)
    emulator.store.processing_seconds = 3600
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    store = None if way == "without a memory" else StateStore()
    task = CreateProjectOperator(
        task_id="p",
        download_link="https://x/y.e57",
        wait_for_completion=True,
        deferrable=way == "deferred",
        poll_interval=5,
    )
    emulator.faults.add(gone)
    if way != "rescheduled":
        with pytest.raises(TaskDeferred):
            task.execute(context(store=store))
        return
    emulator.faults.add({**gone, "times": 2})  # for the next run, which first looks whether it is there still
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            task.execute(context(store=store))
    assert [e.status for e in emulator.exchanges] == [201, 404, 404, 404, 200, 200]
    emulator.faults.add({**gone, "times": 3})
    with pytest.raises(AirflowFailException, match="is gone from the server"):
        task.execute(context(store=store))
    assert len(emulator.store.projects) == 1


def test_trigger_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger whose polls have failed for too long ends with an event that Airflow may retry."""
    monkeypatch.setattr("airflow_360.triggers.project.PATIENCE", 0.3)
    with Emulator(processing_seconds=3600) as emulator:
        connect(monkeypatch, host=emulator.url)
        name = emulator.store.create_project({"download_link": "https://x/y.e57"})["name"]
        down = {"on": "GET /projects/*", "do": "status", "status": 503}
        emulator.faults.add(down, {**down, "skip": 1, "times": 99})
        event = event_of(ProjectReadyTrigger(name, "three_sixty_default", 0.1))
        assert "503" in event["message"]
        assert event["retryable"] is True
        assert [e.status for e in emulator.exchanges][:4] == [503, 200, 503, 503]
        assert len(emulator.exchanges) < 20


@pytest.mark.parametrize("mode", ["triggered", "poked"])
def test_key_replaced_during_the_wait(
    emulator: Emulator, project: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A key that is replaced during the wait is read anew after a 401; one that is refused ends the wait."""
    refused = {"on": "GET /projects/*", "do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
    emulator.faults.add(refused)
    if mode == "triggered":
        keys = iter(["sk_old", "sk_new", "sk_new"])

        async def reads(conn_id: str) -> ThreeSixtyClient:
            return client_for(emulator, key=next(keys), tries=0)

        monkeypatch.setattr("airflow_360.triggers.project.async_client", reads)
        trigger = ProjectReadyTrigger(project, "three_sixty_default", 0.1)
        assert event_of(trigger)["status"] == "ready"
        keys = iter(["sk_new", "sk_new"])
        emulator.faults.add(refused)
        event = event_of(trigger)
        assert ("401" in event["message"], event["retryable"]) == (True, False)
        return
    poked = sensor(project, mode="poke")
    poked.hook.get_conn()
    connect(monkeypatch, host=emulator.url, password="sk_the_new_key")
    assert not poked.poke(context()).is_done
    emulator.faults.add(refused)
    with pytest.raises(AirflowFailException, match="401"):
        poked.poke(context())


def test_poke_bears_failures(emulator: Emulator, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor that pokes bears failures for a while, and not for ever."""
    store, poked = StateStore(), sensor(project, poke_interval=0.001)
    object.__setattr__(poked.hook.client.backoff, "tries", 0)
    emulator.faults.add({"on": "GET /projects/*", "do": "status", "status": 503, "times": 2})
    assert not poked.poke(context(store=store)).is_done
    monkeypatch.setattr("airflow_360.triggers.project.PATIENCE", 0.0)
    time.sleep(0.01)
    with pytest.raises(AirflowException, match="503"):
        poked.poke(context(store=store))


def test_two_at_once(emulator: Emulator, project: str) -> None:
    """Two waits for one project, as of two triggerers, end alike, and change nothing on the server."""

    async def both() -> list[Any]:
        waits = [anext(ProjectReadyTrigger(project, "three_sixty_default", 0.1).run()) for _ in range(2)]
        return [event.payload for event in await asyncio.gather(*waits)]

    first, second = asyncio.run(both())
    assert first == second
    assert sensor(project).execute_complete(context(), first)["status"] == 100
    assert {e.method for e in emulator.exchanges[1:]} == {"GET"}


def test_timeout_counts_from_the_first_attempt(emulator: Emulator, project: str) -> None:
    """A retry of a sensor has only the time that is left."""
    store = StateStore({f"360 waiting for {project} 2": time.time() - 60})
    emulator.store.projects[project].processing_seconds = 3600
    with pytest.raises(TaskDeferred) as deferred:
        sensor(project, deferrable=True, timeout=100).execute(context(2, store))
    assert deferred.value.timeout is not None
    assert 35 < deferred.value.timeout.total_seconds() <= 40


def test_a_clear_waits_anew(emulator: Emulator, project: str) -> None:
    """A sensor that timed out or stood still has its whole time again once a person clears it."""
    emulator.store.projects[project].processing_seconds = 3600
    long_ago = time.time() - 5000
    store = StateStore(
        {
            f"360 waiting for {project} 2": long_ago,
            f"360 status of {project} 2": {"status": 0, "since": long_ago},
        }
    )
    waiting = sensor(project, deferrable=True, timeout=100, stall_timeout=50)
    with pytest.raises(AirflowFailException, match="has stood at status 0"):
        waiting.poke(context(2, store))
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(context(3, store, max_tries=4))
    assert deferred.value.timeout is not None
    assert deferred.value.timeout.total_seconds() > 95


def test_soft_fail(emulator: Emulator) -> None:
    """With soft_fail a project that may not be seen skips the task in each mode."""
    refused = {"on": "GET /projects/*", "do": "status", "status": 403}
    emulator.faults.add({**refused, "body": {"error": "insufficient_scope"}, "times": 2})
    for deferrable in (True, False):
        with pytest.raises(AirflowSkipException):
            sensor("x", deferrable=deferrable, mode="poke", soft_fail=True).execute(context())
