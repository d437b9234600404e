"""A fair queue for the polls of all waits in one process that use the same server and key.

All triggers of a triggerer run in one event loop, so a module variable is enough to share the queue. Separate
from the trigger, which handles one project and decides when to stop; this module only decides who polls next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_360.api.budget import RequestBudget
    from airflow_360.api.client import ThreeSixtyClient

__all__ = ["Round", "Seat", "seat_in_round"]

T = TypeVar("T")

#: The share of the rate limit that waits use; the rest is for tasks, which poll once before they wait.
SHARE = 0.9
SHORTEST = 0.01  # seconds between two polls of a project
THREADS = 4  # a poll takes a fraction of a second, and there is at most one a second


class Seat:
    """The place of one wait in a round.

    :param round_: the round.
    :param interval: seconds between two polls, at least.
    :param now: the loop's time; it counts as the time of the last poll when the wait starts.
    """

    def __init__(self, round_: Round, interval: float, now: float) -> None:
        self._round = round_
        self.interval = max(interval, SHORTEST)
        self.asked = now
        self.due = now
        self.turn: asyncio.Future[None] | None = None

    async def ask(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Wait for this seat's turn, then call the server in a thread.

        :param call: sends the request.
        :returns: the result of ``call``.
        """
        await self._round.turn(self)
        return await self._round.run(call)

    def take(self, now: float) -> None:
        """Take the turn that this seat waits for."""
        self.asked, self.due = now, now + self.interval
        assert self.turn
        self.turn.set_result(None)

    def not_before(self, seconds: float) -> None:
        """Allow the next turn only after some seconds."""
        self.due = max(self.due, asyncio.get_running_loop().time() + seconds)

    @property
    def every(self) -> float:
        """Return the seconds between two turns of this seat, with the current number of seats."""
        return self._round.every(self)

    @property
    def among(self) -> int:
        """Return the number of seats."""
        return len(self._round.seats)


class Round:
    """A queue that gives seats their turns: evenly spread, and first the seat that has waited longest.

    :param budget: the rate limiter of the requests; a request that it would delay is not started.
    """

    def __init__(self, budget: RequestBudget) -> None:
        from airflow_360.api.budget import GET_PROJECT  # not while a DAG file is parsed

        self._endpoint = GET_PROJECT
        self.seats: dict[Seat, None] = {}  # in order of arrival
        self.client: ThreeSixtyClient | None = None
        self._budget = budget
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="three-sixty")
        self._last = float("-inf")
        self._wanted = 0.0  # turns per second that all seats want together
        self._timer: asyncio.TimerHandle | None = None

    def join(self, seat: Seat) -> None:
        """Add a seat."""
        self.seats[seat] = None
        self._wanted += 1 / seat.interval

    def leave(self, seat: Seat) -> None:
        """Remove a seat."""
        del self.seats[seat]
        self._wanted -= 1 / seat.interval

    def every(self, seat: Seat) -> float:
        """Return the seconds between two turns of a seat."""
        gap = self._least_gap()
        return max(seat.interval, gap * len(self.seats)) if gap * self._wanted > 1 else seat.interval

    async def turn(self, seat: Seat) -> None:
        """Wait until it is a seat's turn."""
        seat.turn = asyncio.get_running_loop().create_future()
        if self._timer is None or self._timer.when() > self._at(seat, *self._gaps()):
            self._serve()
        try:
            await seat.turn
        finally:
            seat.turn = None

    async def run(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Call the server in one of the round's threads."""
        assert self.client
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, self.client)

    def close(self) -> None:
        """Close threads and connections, without waiting for requests in flight."""
        if self._timer:
            self._timer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.client:
            self.client.close()

    def _serve(self) -> None:
        """Give the next seat its turn if it is due, and set a timer for the one after it."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now, waiting = loop.time(), [seat for seat in self.seats if seat.turn and not seat.turn.done()]
        if not waiting:
            return
        gaps = self._gaps()
        seat = min(waiting, key=lambda seat: (max(self._at(seat, *gaps), now), seat.asked))
        wait = max(self._at(seat, *gaps) - now, self._budget.delay(self._endpoint))
        if wait <= 0:
            self._last = now
            seat.take(now)
            wait = gaps[0]
        self._timer = loop.call_later(wait, self._serve)

    def _at(self, seat: Seat, least: float, even: float) -> float:
        """Return the time of a seat's turn: evenly between the others, or earlier if that is too late."""
        return max(seat.due, self._last + least, min(self._last + even, seat.asked + seat.interval))

    def _gaps(self) -> tuple[float, float]:
        """Return the minimum seconds between two turns, and the seconds that spread them evenly."""
        return self._least_gap(), 1 / self._wanted

    def _least_gap(self) -> float:
        return self._budget.gap(self._endpoint) / SHARE


_rounds: dict[RequestBudget, Round] = {}


@contextmanager
def seat_in_round(client: ThreeSixtyClient, interval: float) -> Iterator[Seat]:
    """Join the queue of waits for a server and key, and leave it at the end of the block.

    :param client: the API client. All seats use the newest client, because its connection was read last. A
        replaced client may have requests in flight; its connections close when it is garbage-collected.
    :param interval: seconds between two polls, at least.
    """
    round_ = _rounds.get(client.budget) or _rounds.setdefault(client.budget, Round(client.budget))
    round_.client = client
    seat = Seat(round_, interval, asyncio.get_running_loop().time())
    round_.join(seat)
    try:
        yield seat
    finally:
        round_.leave(seat)
        if not round_.seats:
            _rounds.pop(client.budget, None)
            round_.close()
