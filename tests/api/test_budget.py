"""The pace of requests: within the limits however the server counts, and hardly below them."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.api.budget import GET_PROJECT, LIMITS, Endpoint, RequestBudget, shared_budget
from airflow_360.emulator import Emulator
from airflow_360.emulator import limits as emulated
from airflow_360.exceptions import NotFoundError, RateLimitedError
from airflow_360.upload.many import Job, upload_many
from tests.fakes import KEY, MemorySource, Waits, client_for, requests_of, strict_emulator

PUT: Endpoint = ("PUT", "uploads", 3)
NAMES = {
    ("POST", "uploads", 1): "create_upload_session",
    PUT: "put_file",
    ("GET", "uploads", 3): "get_file_progress",
    ("GET", "uploads", 2): "list_files",
    ("DELETE", "uploads", 2): "delete_upload_session",
    ("POST", "projects", 1): "create_project",
    GET_PROJECT: "get_project",
}


class World:
    """A server with the emulator's limits, and clients that wait, on a virtual clock."""

    def __init__(self, endpoint: Endpoint = PUT) -> None:
        self.now = 1000.0
        self.taken: list[float] = []
        self.refused: list[float] = []
        self._endpoint = endpoint
        self._limiter = emulated.RateLimiter(1.0, self.clock)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.until(self.now + seconds)

    def at(self, moment: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (moment, next(self._number), event))

    def until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = max(self.now, moment)

    def arrive(self) -> int:
        """Let a request reach the server; return 0, or the seconds to wait."""
        wait = self._limiter.spend("sk", NAMES[self._endpoint])
        (self.refused if wait else self.taken).append(self.now)
        return wait

    def send(self, budget: RequestBudget, there: float, back: float) -> None:
        """Send one request that is on its way for some seconds, without waiting for the answer."""
        turn = budget.turn(self._endpoint)
        turn.__enter__()
        self.at(self.now + there, self.arrive)
        self.at(self.now + there + back, lambda: turn.__exit__(None, None, None))

    def budget(self) -> RequestBudget:
        return RequestBudget(clock=self.clock, sleep=self.sleep)


def test_two_readings_of_the_limits() -> None:
    """The limits are those that the emulator read out of the contract by itself."""
    assert {NAMES[endpoint]: limit for endpoint, limit in LIMITS.items()} == emulated.LIMITS


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.3, 5.0, 58.0, 70.0]), st.floats(0, 9), st.floats(0, 9)),
        min_size=100,
        max_size=200,
    )
)
def test_never_refused(requests: list[tuple[float, float, float]]) -> None:
    """However requests are bunched and delayed on their way, the server sees at most the limit."""
    world = World(GET_PROJECT)
    budget = world.budget()
    for idle, there, back in requests:
        world.sleep(idle)
        world.send(budget, there, back)
    world.sleep(100)
    assert world.refused == []
    assert len(world.taken) == len(requests)


def many(count: int, parallel: int, latency: float) -> World:
    """Send as many requests, some at a time, as fast as the budget lets them."""
    world = World()
    budget, free = world.budget(), parallel

    def done() -> None:
        nonlocal free
        free += 1

    for _ in range(count):
        while not free:
            world.until(world._events[0][0])
        free -= 1
        world.send(budget, latency / 2, latency / 2)
        world.at(world.now + latency, done)
    world.sleep(latency)
    return world


@pytest.mark.parametrize(
    ("count", "latency"),
    [(1000, 0.05), (1000, 0.15), (5000, 0.15), (5000, 0.5)],
    ids=["a thousand", "on a longer line", "five thousand", "on a slow one"],
)
def test_many_small_files_use_the_whole_limit(count: int, latency: float) -> None:
    """Many small files use 95 % or more of the limit, and none is refused."""
    world = many(count, 16, latency)
    seconds = world.now - 1000
    assert world.refused == []
    assert count / seconds >= 0.95 * 1200 / 60
    assert 0.98 * count / 20 - 10 < seconds


def test_requests_are_spread_over_each_minute() -> None:
    """After a head start, requests are spread over each minute, for servers that count in another way."""
    taken = many(3000, 16, 0.05).taken[130:]
    assert all(taken[n + 20] - taken[n] > 0.9 for n in range(len(taken) - 20))


def test_a_small_job_never_waits() -> None:
    """A small job is not held back at all."""
    world = World()
    budget = world.budget()
    for _ in range(120):
        world.send(budget, 0, 0)
    assert world.now == 1000


def test_429_stops_everyone() -> None:
    """After a 429 no request is sent before the time from the server, then evenly at half the rate."""
    world = World(GET_PROJECT)
    budget = world.budget()
    budget.refused(GET_PROJECT, 30)
    for left in (30, 10):
        with pytest.raises(RateLimitedError, match="asked to wait for") as caught:
            world.send(budget, 0, 0)
        assert caught.value.retry_after == pytest.approx(left)
        assert budget.delay(GET_PROJECT) == pytest.approx(left)
        world.sleep(20 if left == 30 else 10)
    for _ in range(300):
        world.send(budget, 0, 0)
    sent = [moment - 1030 for moment in world.taken]
    assert sent[:3] == pytest.approx([0, 2, 3.94], abs=0.05)
    assert sent[-1] - sent[-2] == pytest.approx(1, abs=0.01)


def test_429s_of_requests_under_way_together() -> None:
    """Several refusals of requests that were under way together slow the pace once, for the longest wait."""
    world = World(GET_PROJECT)
    budget = world.budget()
    for asked in (3, 9, 5, None):
        budget.refused(GET_PROJECT, asked)
    assert budget.delay(GET_PROJECT) == 9
    assert budget.gap(GET_PROJECT) == 2


def test_processes_settle() -> None:
    """Processes that share a key and know nothing of each other use the limit, and are seldom refused."""
    world = World()

    def process(seed: int) -> None:
        budget, dice = world.budget(), random.Random(seed)

        def step() -> None:
            if wait := budget.delay(PUT):
                world.at(world.now + wait, step)
                return
            with budget.turn(PUT):
                if wait := world.arrive():
                    budget.refused(PUT, wait)
            world.at(world.now + dice.uniform(0.02, 0.08), step)

        world.at(world.now, step)

    for seed in range(8):
        process(seed)
    world.until(1000 + 20 * 60)
    assert len(world.taken) > 0.85 * 20 * 1200
    assert len(world.refused) < 0.05 * len(world.taken)


def test_other_limits_are_not_paced() -> None:
    """Limits by the hour, endpoints without a limit, and one client on its own are never held back."""
    world = World()
    for budget, endpoint in (
        (world.budget(), ("POST", "projects", 1)),
        (world.budget(), ("GET", "projects", 1)),
        (RequestBudget(None, world.clock, world.sleep, shared=False), PUT),
    ):
        budget.refused(endpoint, 100)
        for _ in range(2000):
            with budget.turn(endpoint):
                pass
        assert budget.delay(endpoint) == 0
        assert budget.gap(endpoint) == 0
    assert world.now == 1000
    assert world.budget().window(("POST", "projects", 1)) == 3600
    assert world.budget().window(("GET", "projects", 1)) is None
    assert RequestBudget(None).window(("POST", "projects", 1)) is None


@pytest.mark.parametrize("endpoint", [PUT, GET_PROJECT, ("POST", "projects", 1), ("GET", "projects", 1)])
def test_without_limits_a_429_still_stops_everyone(endpoint: Endpoint) -> None:
    """With the limits off requests are not paced, but after a 429 they wait for the time from the server."""
    world = World()
    budget = RequestBudget(None, world.clock, world.sleep)
    for _ in range(2000):
        with budget.turn(endpoint):
            pass
    budget.refused(endpoint, 30)
    budget.refused(endpoint, 10)
    world.sleep(20)
    with pytest.raises(RateLimitedError, match="asked to wait for") as caught, budget.turn(endpoint):
        pass
    assert (caught.value.retry_after, budget.delay(endpoint)) == (10, 10)
    with budget.turn(("DELETE", "uploads", 2)):  # another endpoint continues
        pass
    world.sleep(10)
    for _ in range(2000):
        with budget.turn(endpoint):
            pass
    assert (budget.delay(endpoint), budget.gap(endpoint), world.now) == (0, 0, 1030)


def test_without_limits_a_429_that_names_no_time_stops_everyone_for_a_second() -> None:
    """With the limits off a 429 without a time stops the other threads for a moment."""
    world = World()
    budget = RequestBudget(None, world.clock, world.sleep)
    budget.refused(PUT, None)
    assert budget.delay(PUT) == 1
    world.sleep(1)
    assert budget.delay(PUT) == 0


def test_the_key_is_not_kept() -> None:
    """The budgets that a process shares do not contain the key."""
    budget = shared_budget("https://scans.example.org", "sk_marker")
    assert shared_budget("https://scans.example.org", "sk_marker") is budget
    assert "sk_marker" not in repr(shared_budget.__globals__["_budgets"])


class SharedClock:
    """A clock that only waits advance; thread-safe."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


def test_many_small_files() -> None:
    """Small files beyond the limit cost one PUT each and one list, and none is refused."""
    clock, count = SharedClock(), 1500
    with strict_emulator(limits="real", clock=clock) as emulator:
        client = client_for(emulator, budget=RequestBudget(clock=clock, sleep=clock.sleep))
        upload_id = client.create_upload_session().upload_id
        jobs = [Job(f"f{n}.e57", 3, lambda: MemorySource(b"abc")) for n in range(count)]
        upload_many(client, upload_id, jobs, parallel=8)
        assert Counter(e.status for e in emulator.exchanges) == {201: 1, 200: count + 1}
        assert len(requests_of(emulator, "PUT")) == count
    assert clock() > 1060


def test_one_refusal_for_all_clients(emulator: Emulator) -> None:
    """A 429 to one client keeps the others of its budget from asking, and is not their own."""
    clock = SharedClock()
    budget = RequestBudget(clock=clock, sleep=clock.sleep)
    one, other = (client_for(emulator, budget=budget, tries=0) for _ in range(2))
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 40})
    for client in (one, other):
        with pytest.raises(RateLimitedError) as caught:
            client.get_project("x")
        assert caught.value.retry_after == pytest.approx(40)
    assert len(emulator.exchanges) == 1
    assert KEY not in str(caught.value)


def test_one_refusal_for_all_clients_without_limits(emulator: Emulator) -> None:
    """With the limits off, a 429 to one client keeps the other threads of the process from asking."""
    clock = SharedClock()
    budget = RequestBudget(None, clock=clock, sleep=clock.sleep)
    one, other = (client_for(emulator, budget=budget, tries=0) for _ in range(2))
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 40})
    for client in (one, other):
        with pytest.raises(RateLimitedError):
            client.get_project("x")
    assert len(emulator.exchanges) == 1
    clock.sleep(40)
    with pytest.raises(NotFoundError):
        other.get_project("x")


def test_what_goes_out_again_is_paced_too(emulator: Emulator) -> None:
    """A GET that is sent again, because its idle connection was closed, counts once more."""
    clock = SharedClock()
    budget = RequestBudget(1 / 60, clock=clock, sleep=clock.sleep)
    client, began = client_for(emulator, budget=budget), clock()
    name = emulator.store.create_project({"download_link": "https://x/y.e57"})["name"]
    client.get_project(name)
    emulator.faults.add({"on": "GET /projects/*", "do": "hang_up"})
    client.get_project(name)
    assert clock() - began == pytest.approx(120, abs=1)


def test_a_long_wait_for_a_limit_by_the_hour_is_not_waited_for(emulator: Emulator) -> None:
    """A 429 of a limit by the hour that names a time is handed on, with the window that it is counted in."""
    emulator.faults.add({"on": "POST /projects", "do": "rate_limit", "retry_after": 6})
    client = client_for(emulator, budget=RequestBudget())
    with pytest.raises(RateLimitedError) as caught:
        client.create_project({"upload_id": "x"})
    assert (caught.value.retry_after, caught.value.window) == (6, 3600)
    assert len(emulator.exchanges) == 1


@pytest.mark.parametrize(("header", "least"), [(None, 0.5), ("0", 0.5), ("5", 5)], ids=str)
def test_a_short_wait_for_a_limit_by_the_hour_is_waited_for(
    emulator: Emulator, header: str | None, least: float
) -> None:
    """A POST whose 429 names no time, or a few seconds, is retried in place, at growing intervals."""
    headers = {} if header is None else {"Retry-After": header}
    fault = {"on": "POST /uploads", "do": "status", "status": 429, "headers": headers, "times": 4}
    emulator.faults.add({**fault, "body": {"error": "rate_limited"}})
    waits = Waits()
    client = client_for(emulator, budget=RequestBudget(), sleep=waits, random=lambda: 0.0)
    client.create_upload_session()
    assert waits == [max(least, delay) for delay in (0.5, 1, 2, 4)]


def test_a_429_without_a_time_ends(emulator: Emulator) -> None:
    """If a server never stops refusing a POST, it is sent seven times, and the refusal is raised."""
    emulator.faults.add(
        {"on": "POST /uploads", "do": "rate_limit", "retry_after": 0, "times": 7},
    )
    waits = Waits()
    with pytest.raises(RateLimitedError) as caught:
        client_for(emulator, budget=RequestBudget(), sleep=waits).create_upload_session()
    assert (caught.value.retry_after, len(waits), len(emulator.exchanges)) == (None, 6, 7)
