"""The pace of requests: never more than the server allows, however many threads, clients and waits there are.

Separate from the transport because the limits concern a server, a key and an endpoint, while clients come and
go. One process knows nothing of the others that use the same key; with those it settles by obeying a 429.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from airflow_360.exceptions import RateLimitedError

__all__ = ["GET_PROJECT", "LIMITS", "Endpoint", "RequestBudget", "shared_budget"]

MINUTE, HOUR = 60.0, 3600.0

#: A method, the collection that it is about, and the number of segments of the address.
Endpoint = tuple[str, str, int]

GET_PROJECT: Endpoint = ("GET", "projects", 2)

#: The contract's limits: requests, and seconds in which that many may be sent.
LIMITS: Mapping[Endpoint, tuple[int, float]] = {
    ("POST", "uploads", 1): (30, HOUR),
    ("PUT", "uploads", 3): (1200, MINUTE),
    ("GET", "uploads", 3): (600, MINUTE),
    ("GET", "uploads", 2): (120, MINUTE),
    ("DELETE", "uploads", 2): (60, MINUTE),
    ("POST", "projects", 1): (10, HOUR),
    GET_PROJECT: (60, MINUTE),
}

AT_ONCE = 10  # one in ten of a minute's requests may go out at once, so that a small job never waits
RECOVERY = 120.0  # seconds after which a pace that a 429 slowed down is the whole pace again
UNNAMED_PAUSE_SECONDS = 1.0  # of an endpoint that is not paced, after a 429 that names no time
LEAST = 0.001  # seconds of the shortest sleep, so that a rounded one cannot stand still


class RequestBudget:
    """Pace the requests of one process to one server with one key; safe to share between threads.

    What is limited by the minute is paced: at most as many requests as the limit allows in any minute, also
    as the server's own clock sees them, since a request counts until a minute after its answer; and, after a
    tenth of them at once, evenly. A 429 stops all of them until the moment that the server named, and then
    halves the pace, which recovers within two minutes. What is limited by the hour is not paced: its 429 asks
    for more time than a thread may wait.

    Without limits nothing is paced, but a 429 still stops the requests of all threads to that endpoint until
    the moment that the server named.

    :param factor: what every limit is multiplied by; None means that there are none.
    :param clock: seconds; replaced in tests.
    :param sleep: what waits; replaced in tests.
    :param shared: whether others send by this budget too. If not, there is nobody whom a 429 must stop beside
        the request that met it, which waits by itself.
    """

    def __init__(
        self,
        factor: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        shared: bool = True,
    ) -> None:
        self._factor = factor
        self._shared = shared
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._lanes: dict[Endpoint, _Lane | _UnpacedLane] = {
            endpoint: _Lane(max(1, int(limit * factor)))
            for endpoint, (limit, window) in LIMITS.items()
            if factor is not None and window == MINUTE
        }

    @contextmanager
    def turn(self, endpoint: Endpoint) -> Iterator[None]:
        """Wait until a request may go out, and count it while the ``with`` block sends it.

        :param endpoint: where it goes; one without a limit by the minute goes at once. Without any limits it
            goes at once too, unless a 429 stopped it.
        :raises RateLimitedError: instead of waiting, when the server told any thread of this process to.
        """
        lane = self._lane(endpoint)
        if lane is None:
            yield
            return
        self._await(lane, endpoint)
        try:
            yield
        finally:
            with self._lock:
                lane.answered(self._clock())

    def delay(self, endpoint: Endpoint) -> float:
        """Return how many seconds it takes until the next request may go out."""
        lane = self._lane(endpoint)
        if lane is None:
            return 0.0
        with self._lock:
            now = self._clock()
            return max(0.0, lane.paused_for(now), lane.wait(now))

    def gap(self, endpoint: Endpoint) -> float:
        """Return how many seconds lie between two requests at the pace that is kept now."""
        lane = self._lane(endpoint)
        if lane is None:
            return 0.0
        with self._lock:
            return lane.gap(self._clock())

    def refused(self, endpoint: Endpoint, retry_after: float | None) -> None:
        """Take note of a 429, which concerns every thread that uses this budget.

        :param endpoint: what was asked.
        :param retry_after: seconds that the server asked to wait; None where it named none.
        """
        if lane := self._lane(endpoint):
            with self._lock:
                lane.refused(self._clock(), retry_after)

    def window(self, endpoint: Endpoint) -> float | None:
        """Return in how many seconds the limit of an endpoint is counted; None where there is no limit."""
        return LIMITS[endpoint][1] if self._factor is not None and endpoint in LIMITS else None

    def _lane(self, endpoint: Endpoint) -> _Lane | _UnpacedLane | None:
        if self._factor is not None or not self._shared:
            return self._lanes.get(endpoint)
        with self._lock:
            return self._lanes.setdefault(endpoint, _UnpacedLane())

    def _await(self, lane: _Lane | _UnpacedLane, endpoint: Endpoint) -> None:
        while True:
            with self._lock:
                now = self._clock()
                pause, wait = lane.paused_for(now), lane.wait(now)
                if pause <= 0 and wait <= 0:
                    lane.sent(now)
                    return
            if pause > 0:
                what = f"{endpoint[0]} /{endpoint[1]}"
                raise RateLimitedError(
                    f"{what}: not sent, since the server asked to wait for {pause:.0f} s more.",
                    retry_after=pause,
                )
            self._sleep(max(wait, LEAST))


class _Lane:
    """Hold the requests of the last minute to one endpoint; whoever calls holds the lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gap = MINUTE / limit
        self._head_start = self._gap * (max(1, limit // AT_ONCE) - 1)
        self._in_flight = 0
        self._answered: deque[float] = deque()
        self._due = 0.0  # when the next request is due at an even pace; it may be early by the head start
        self._paused_until = 0.0
        self._share = 1.0  # of the whole pace, when the last pause ended

    def wait(self, now: float) -> float:
        if room := self._until_room(now):  # which is no idleness that would earn a head start
            self._due = max(self._due, now + room + self._head_start)
        return self._due - self._head_start - now

    def paused_for(self, now: float) -> float:
        return self._paused_until - now

    def gap(self, now: float) -> float:
        return self._gap / min(1.0, self._share + max(0.0, now - self._paused_until) / RECOVERY)

    def sent(self, now: float) -> None:
        self._due = max(self._due, now) + self.gap(now)
        self._in_flight += 1

    def answered(self, now: float) -> None:
        self._in_flight -= 1
        self._answered.append(now)

    def refused(self, now: float, retry_after: float | None) -> None:
        gap = self.gap(now)
        if self.paused_for(now) <= 0:  # several that were under way together are one refusal
            self._share = max(self._gap / gap / 2, 1 / self._limit)
        self._paused_until = max(self._paused_until, now + (gap if retry_after is None else retry_after))
        self._due = max(self._due, self._paused_until + self._head_start)

    def _until_room(self, now: float) -> float:
        while self._answered and self._answered[0] + MINUTE <= now:
            self._answered.popleft()
        if self._in_flight + len(self._answered) < self._limit:
            return 0.0
        return self._answered[0] + MINUTE - now if self._answered else self._gap


class _UnpacedLane:
    """Hold the pause of one endpoint without a limit; whoever calls holds the lock."""

    def __init__(self) -> None:
        self._paused_until = 0.0

    def wait(self, now: float) -> float:  # noqa: ARG002 - the shape of _Lane
        return 0.0

    def paused_for(self, now: float) -> float:
        return self._paused_until - now

    def gap(self, now: float) -> float:  # noqa: ARG002 - the shape of _Lane
        return 0.0

    def sent(self, now: float) -> None:
        """Count nothing, as there is no limit."""

    def answered(self, now: float) -> None:
        """Count nothing, as there is no limit."""

    def refused(self, now: float, retry_after: float | None) -> None:
        pause = UNNAMED_PAUSE_SECONDS if retry_after is None else retry_after
        self._paused_until = max(self._paused_until, now + pause)


_budgets: dict[tuple[str, str, float | None], RequestBudget] = {}


def shared_budget(server: str, key: str, factor: float | None = 1.0) -> RequestBudget:
    """Return the one budget that all clients of this process share for a server and a key.

    :param server: the server's URL.
    :param key: the API key; only its digest is kept.
    :param factor: see :class:`RequestBudget`.
    """
    whose = (server, hashlib.sha256(key.encode()).hexdigest(), factor)
    return _budgets.setdefault(whose, RequestBudget(factor))
