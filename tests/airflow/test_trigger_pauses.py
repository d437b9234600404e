"""A trigger polls no sooner than the server asked, also if the connection's rate limits are off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_360.api.backoff import Backoff
from airflow_360.api.budget import RequestBudget
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.emulator import Emulator
from airflow_360.triggers.project import ProjectReadyTrigger
from tests.airflow.conftest import connect

PAUSE_SECONDS = 2
INTERVAL_SECONDS = 0.5
REFUSALS: dict[str, dict[str, Any]] = {
    "429": {"do": "rate_limit", "retry_after": PAUSE_SECONDS},
    "503": {"do": "status", "status": 503, "headers": {"Retry-After": str(PAUSE_SECONDS)}},
}


@pytest.fixture
def projects(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two projects that need as long as the pause, and a connection without rate limits."""
    connect(monkeypatch, host=emulator.url, extra={"rate_limits": "off"})
    emulator.store.processing_seconds = PAUSE_SECONDS
    create = emulator.store.create_project
    return [str(create({"download_link": "https://x/y.e57"})["name"]) for _ in range(2)]


def wait_for(names: Sequence[str]) -> list[str]:
    """Wait for several projects in one triggerer, and return how the waits ended."""

    async def wait() -> list[Any]:
        triggers = [ProjectReadyTrigger(name, "three_sixty_default", INTERVAL_SECONDS) for name in names]
        return await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))

    return [event.payload["status"] for event in asyncio.run(wait())]


def moments_after(emulator: Emulator, status: int) -> list[float]:
    """Return in how many seconds after a refusal each later request arrived."""
    (refused,) = (exchange.at for exchange in emulator.exchanges if exchange.status == status)
    return sorted(exchange.at - refused for exchange in emulator.exchanges if exchange.at > refused)


@pytest.mark.parametrize("status", REFUSALS)
def test_a_trigger_with_limits_off_obeys_the_server(
    emulator: Emulator, projects: list[str], monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A trigger obeys the pause by itself, even if nothing else in the process knows about it."""
    transport = Transport(emulator.url, "sk_test", budget=RequestBudget(None, shared=False))

    async def reads(conn_id: str) -> ThreeSixtyClient:
        return ThreeSixtyClient(transport, Backoff(tries=0))

    monkeypatch.setattr("airflow_360.triggers.project_wait.async_client", reads)
    emulator.faults.add({"on": "GET /projects/*", **REFUSALS[status]})
    assert wait_for(projects[:1]) == ["ready"]
    assert min(moments_after(emulator, int(status))) >= PAUSE_SECONDS


def test_the_other_triggers_with_limits_off_obey_a_429_too(emulator: Emulator, projects: list[str]) -> None:
    """After a 429 to one trigger, the others of the triggerer do not poll before the pause is over."""
    emulator.faults.add({"on": f"GET /projects/{projects[0]}", **REFUSALS["429"]})
    assert wait_for(projects) == ["ready", "ready"]
    too_soon = [at for at in moments_after(emulator, 429) if at < PAUSE_SECONDS]
    assert len(too_soon) <= 1, too_soon  # a request of the other trigger may be on its way
