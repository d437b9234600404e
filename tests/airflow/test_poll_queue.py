"""Waits that take turns: within the limit, all of them, and evenly; on a virtual clock."""

from __future__ import annotations

import asyncio
import bisect
import gc
import itertools
import selectors
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_360.api.budget import RequestBudget
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.emulator import Emulator
from airflow_360.exceptions import RateLimitedError
from airflow_360.hooks.connection import async_client
from airflow_360.triggers.poll_queue import QueuedWait, queued_wait
from airflow_360.triggers.project import ProjectReadyTrigger
from tests.airflow.conftest import connect
from tests.fakes import client_for


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only if all tasks wait, and that runs the threads' work itself."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever asked
            future.set_exception(error)
        return future


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for ever"
        self._loop.now += timeout
        return super().select(0)


class Waits:
    """Many waits on an emulator whose time is that of the event loop."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.emulator = Emulator(limits="real", clock=self.loop.time, processing_seconds=1e9)
        self.asked: dict[str, list[float]] = {}
        self.ready: dict[str, float] = {}

    def __enter__(self) -> Waits:
        self.emulator.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.emulator.close()
        self.loop.close()

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(main)

    def client(self, **options: Any) -> ThreeSixtyClient:
        def never(seconds: float) -> None:
            raise AssertionError("A thread waits where the event loop should.")

        budget = RequestBudget(clock=self.loop.time, sleep=never)
        return client_for(self.emulator, budget=budget, tries=0, **options)

    def projects(self, count: int) -> list[str]:
        create = self.emulator.store.create_project
        return [create({"download_link": "https://x/y.e57"})["name"] for _ in range(count)]

    async def wait(self, client: ThreeSixtyClient, name: str, interval: float = 60) -> None:
        with queued_wait(client, interval) as wait:
            while not await self.look(wait, name):
                pass
        self.ready[name] = self.loop.now

    async def look(self, wait: QueuedWait, name: str) -> bool:
        def ask(client: ThreeSixtyClient) -> bool:
            self.asked.setdefault(name, []).append(self.loop.now)
            return client.get_project(name).ready

        return await wait.poll(ask)

    @property
    def all_asked(self) -> list[float]:
        return sorted(moment for moments in self.asked.values() for moment in moments)

    def most_in_a_minute(self) -> int:
        moments = self.all_asked
        return max(bisect.bisect_left(moments, moment + 60) - n for n, moment in enumerate(moments))

    def longest_gap(self) -> float:
        """The longest time without a poll of a project."""
        return max(
            later - sooner for moments in self.asked.values() for sooner, later in itertools.pairwise(moments)
        )


@pytest.mark.long
def test_a_thousand_projects() -> None:
    """A thousand waits ask at most 60 times a minute, none starves, and each is noticed in its round."""
    with Waits() as waits:
        client, names = waits.client(), waits.projects(1000)

        async def main() -> None:
            tasks = [asyncio.create_task(waits.wait(client, name)) for name in names]
            await asyncio.sleep(1.2 * 1000)
            assert set(waits.asked) == set(names)
            finished = waits.loop.now
            for project in waits.emulator.store.projects.values():
                project.processing_seconds = 1
            await asyncio.gather(*tasks)
            assert max(waits.ready.values()) - finished <= 1.2 * 1000
            assert waits.longest_gap() <= 1.2 * 1000

        waits.run(main())
        assert {exchange.status for exchange in waits.emulator.exchanges} == {200}
        assert 50 <= waits.most_in_a_minute() <= 60
        gaps = [b - a for a, b in itertools.pairwise(waits.all_asked)]
        assert min(gaps) > 0.9


def test_few_projects_keep_their_interval() -> None:
    """Six waits of a minute each poll once a minute, one after the other, although they began together."""
    with Waits() as waits:
        client, names = waits.client(), waits.projects(6)

        async def main() -> None:
            tasks = [asyncio.create_task(waits.wait(client, name)) for name in names]
            await asyncio.sleep(599)
            for task in tasks:
                task.cancel()

        waits.run(main())
        gaps = [b - a for a, b in itertools.pairwise(waits.all_asked)]
        assert min(gaps) > 0.9
        assert [len(moments) for moments in waits.asked.values()] == [10] * 6


def test_waits_that_start_together_are_spread_without_a_limit() -> None:
    """With limits off, a triggerer that restarts with twenty waits does not poll them at the same moment."""
    with Waits() as waits:
        client = client_for(waits.emulator, budget=RequestBudget(None, shared=False), tries=0)
        names = waits.projects(20)

        async def main() -> None:
            tasks = [asyncio.create_task(waits.wait(client, name)) for name in names]
            await asyncio.sleep(150)
            for task in tasks:
                task.cancel()

        waits.run(main())
        gaps = [b - a for a, b in itertools.pairwise(waits.all_asked)]
        assert min(gaps) > 1.4
        assert [len(moments) for moments in waits.asked.values()] == [3] * 20


def test_first_come_first_served() -> None:
    """A new wait polls after those that are in the queue already, and before all others."""
    with Waits() as waits:
        client, names = waits.client(), waits.projects(101)

        async def main() -> None:
            tasks = [asyncio.create_task(waits.wait(client, name)) for name in names[:-1]]
            await asyncio.sleep(170)
            tasks.append(asyncio.create_task(waits.wait(client, names[-1])))
            await asyncio.sleep(300)
            for task in tasks:
                task.cancel()

        waits.run(main())
        first = waits.asked[names[-1]][0]
        before = [moment for moment in waits.all_asked if 1170 < moment < first]
        assert len(before) < 100
        assert all(sum(1170 < moment < first for moment in waits.asked[name]) <= 1 for name in names)


def test_intervals_of_their_own() -> None:
    """A project with a shorter interval is polled more often, while the limit has room for all."""
    with Waits() as waits:
        client, names = waits.client(), waits.projects(11)

        async def main() -> None:
            tasks = [asyncio.create_task(waits.wait(client, names[0], 5))]
            tasks += [asyncio.create_task(waits.wait(client, name, 60)) for name in names[1:]]
            await asyncio.sleep(1200)
            for task in tasks:
                task.cancel()

        waits.run(main())
        assert len(waits.asked[names[0]]) > 1200 / 5 * 0.7
        assert min(len(waits.asked[name]) for name in names[1:]) > 1200 / 60 * 0.7


def test_429_slows_everyone() -> None:
    """A 429 stops all waits until the time from the server; then they continue, slower at first."""
    with Waits() as waits:
        client, names = waits.client(), waits.projects(200)
        waits.emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 300})
        refused: list[float] = []

        async def wait(name: str) -> None:
            with queued_wait(client, 60) as wait:
                while True:
                    try:
                        await waits.look(wait, name)
                    except RateLimitedError:
                        refused.append(waits.loop.now)

        async def main() -> None:
            tasks = [asyncio.create_task(wait(name)) for name in names]
            await asyncio.sleep(600)
            for task in tasks:
                task.cancel()

        waits.run(main())
        moments = waits.all_asked
        assert refused == moments[:1]
        assert moments[1] - moments[0] >= 300
        assert moments[2] - moments[1] == pytest.approx(2.2, abs=0.1)
        assert moments[-1] - moments[-2] == pytest.approx(1.11, abs=0.1)


def test_triggers_share(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand triggers share a limit and never block the event loop; the log contains the interval."""
    connect(monkeypatch, host=emulator.url, extra={"rate_limits": 20})
    emulator.store.processing_seconds = 3600
    create = emulator.store.create_project
    names = [create({"download_link": "https://x/y.e57"})["name"] for _ in range(1000)]
    caplog.set_level("INFO")

    joined = "about every 56 s (projects that this triggerer polls: 1,000)"

    async def main() -> list[float]:
        await async_client("three_sixty_default")  # run all one-time imports first
        triggers = [ProjectReadyTrigger(name, "three_sixty_default", 30) for name in names]
        tasks = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
        began, held = time.monotonic(), []
        # Longer on a busy machine, until all of them have joined.
        while (waited := time.monotonic() - began) < 8 or (waited < 30 and joined not in caplog.text):
            now = time.thread_time()  # the loop's own time: the machine has other work
            await asyncio.sleep(0.001)
            held.append(time.thread_time() - now)
        for project in emulator.store.projects.values():
            project.processing_seconds = 0.001
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        ready = [event.payload["record"]["name"] for event in ended if isinstance(event, TriggerEvent)]
        assert ready
        assert set(ready) < set(names)
        return held

    gc.disable()  # a collection of all that Airflow has loaded takes longer than the limit here
    began = time.monotonic()
    held = asyncio.run(main())
    gc.enable()
    assert max(held) < 0.05
    asked = [exchange.path.rpartition("/")[2] for exchange in emulator.exchanges]
    assert 40 < len(asked) < max(200, 20 * (time.monotonic() - began))
    assert len(set(asked)) == len(asked)
    assert joined in caplog.text
