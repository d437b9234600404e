"""A rate limit that asks for most of an hour costs no worker slot and no retry."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_360.emulator import Emulator
from airflow_360.exceptions import RateLimitedError
from airflow_360.operators.upload import CreateUploadSessionOperator
from airflow_360.triggers.rate_limit import RateLimitTrigger
from tests.airflow.conftest import StateStore, context

LIMIT = {"on": "POST /uploads", "do": "rate_limit", "retry_after": 3000}


def test_defers(emulator: Emulator) -> None:
    """A deferrable task waits in the triggerer for as long as the server asked, then goes on."""
    emulator.faults.add(LIMIT)
    operator = CreateUploadSessionOperator(task_id="session", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(store=StateStore()))
    assert deferred.value.trigger.serialize()[1] == {"seconds": 3000}
    assert operator.resume(context(store=StateStore()), {"status": "over"})
    assert len(emulator.exchanges) == 2


def test_reschedules(emulator: Emulator) -> None:
    """A task that is not deferrable is rescheduled for the moment that the server named."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    emulator.faults.add(LIMIT)
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        CreateUploadSessionOperator(task_id="session", deferrable=False).execute(context(store=StateStore()))
    assert rescheduled.value.reschedule_date.timestamp() - time.time() == pytest.approx(3000, abs=5)


@pytest.mark.parametrize("version", ["2.11.2", "3.0.6"])
def test_where_dates_are_not_obeyed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """An Airflow that would run a rescheduled task at once fails it instead, to be retried."""
    monkeypatch.setattr("airflow.__version__", version)
    emulator.faults.add(LIMIT)
    operator = CreateUploadSessionOperator(task_id="session", deferrable=False)
    with pytest.raises(AirflowException, match="3000 s") as caught:
        operator.execute(context(store=StateStore()))
    assert isinstance(caught.value.__cause__, RateLimitedError)
    assert not isinstance(caught.value, AirflowFailException)
    assert len(emulator.exchanges) == 1


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


def test_trigger() -> None:
    """The trigger fires after as long as the server asked, wherever it runs: no clock is compared."""

    async def fired(trigger: RateLimitTrigger) -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    began = time.monotonic()
    elsewhere = RateLimitTrigger(**RateLimitTrigger(0.3).serialize()[1])
    assert asyncio.run(fired(elsewhere)) == {"status": "over"}
    assert 0.2 < time.monotonic() - began < 2
