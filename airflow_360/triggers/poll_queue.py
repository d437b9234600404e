"""A queue for the polls of all waits in one process on one server with one key.

All triggers of a triggerer run in one event loop, so the queues are a module's variable. Separate from the
trigger, which knows one project and when to stop: the queue only decides which wait may poll next, and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from airflow_360.api.budget import GET_PROJECT, RequestBudget

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient

__all__ = ["PollQueue", "QueuedWait", "queued_wait"]

T = TypeVar("T")

#: The share of the rate limit that waits use. The rest is for tasks, which poll once before they defer.
MAX_LIMIT_SHARE = 0.9
#: Waits that start together are spread over this share of their interval, even without a rate limit.
SPREAD_SHARE = 0.5
MAX_SLEEP_SECONDS = 1.0  # then the gap is computed again, because waits come and go
MIN_INTERVAL_SECONDS = 0.01  # between two polls of a project
MAX_THREADS = 4  # a poll takes a fraction of a second, and with the server's limits there is one a second


class PollQueue:
    """First come, first served, with a minimum gap between two polls.

    :param budget: the rate limiter of the server and key; a poll that it would delay is not sent.
    """

    def __init__(self, budget: RequestBudget) -> None:
        self._budget = budget
        self._lock = asyncio.Lock()  # its waiters are woken in the order in which they came
        self._last = float("-inf")
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="three-sixty")
        self.client: ThreeSixtyClient | None = None
        self.waits = 0
        self.polls_per_second = 0.0  # as many as all waits would send if there were no limit

    async def turn(self) -> None:
        """Return when the next poll may be sent."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            while (seconds := max(self._last + self._spread_gap() - now(), self._delay())) > 0:
                await asyncio.sleep(min(seconds, MAX_SLEEP_SECONDS))
            self._last = now()

    async def run(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Call the server in one of the queue's threads."""
        assert self.client
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, self.client)

    def gap(self) -> float:
        """Return the seconds between two polls that the rate limit requires."""
        return self._budget.gap(GET_PROJECT) / MAX_LIMIT_SHARE

    def _spread_gap(self) -> float:
        return max(self.gap(), SPREAD_SHARE / max(self.polls_per_second, 1e-9))

    def _delay(self) -> float:
        return self._budget.delay(GET_PROJECT)

    def close(self) -> None:
        """Close threads and connections, without waiting for a poll that was sent."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.client:
            self.client.close()


class QueuedWait:
    """One wait, whose polls go through a queue.

    :param queue: the queue.
    :param interval: seconds between two polls, at least.
    """

    def __init__(self, queue: PollQueue, interval: float) -> None:
        self._queue = queue
        self.interval = max(interval, MIN_INTERVAL_SECONDS)
        self._due = float("-inf")

    async def poll(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Wait until this poll is due and its turn has come, then call the server in a thread.

        :param call: the call.
        :returns: its result.
        """
        loop = asyncio.get_running_loop()
        if (seconds := self._due - loop.time()) > 0:
            await asyncio.sleep(seconds)
        await self._queue.turn()
        self._due = loop.time() + self.interval
        return await self._queue.run(call)

    def not_before(self, seconds: float) -> None:
        """Delay the next poll by at least some seconds from now."""
        self._due = max(self._due, asyncio.get_running_loop().time() + seconds)

    @property
    def every(self) -> float:
        """Return about how many seconds lie between two polls of this wait, with as many waits as now."""
        gap = self._queue.gap()
        is_full = gap * self._queue.polls_per_second > 1
        return max(self.interval, gap * self._queue.waits) if is_full else self.interval

    @property
    def among(self) -> int:
        """Return how many waits share the queue."""
        return self._queue.waits


_queues: dict[RequestBudget, PollQueue] = {}


@contextmanager
def queued_wait(client: ThreeSixtyClient, interval: float) -> Iterator[QueuedWait]:
    """Add a wait to the queue of its server and key, and remove it at the end.

    :param client: the API client. The newest one serves all waits, because its connection was read last. The
        one before may still be in use; its connections close when the last call is done with it.
    :param interval: seconds between two polls, at least.
    """
    queue = _queues.get(client.budget) or _queues.setdefault(client.budget, PollQueue(client.budget))
    queue.client = client
    wait = QueuedWait(queue, interval)
    queue.waits += 1
    queue.polls_per_second += 1 / wait.interval
    try:
        yield wait
    finally:
        queue.waits -= 1
        queue.polls_per_second -= 1 / wait.interval
        if not queue.waits:
            _queues.pop(client.budget, None)
            queue.close()
