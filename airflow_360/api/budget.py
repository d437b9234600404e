"""Rate limiting: all threads and clients of a process together never exceed the server's rate limits.

Separate from the transport because a limit belongs to a server, a key and an endpoint, while clients come and
go. A process does not know of other processes that use the same key; it adapts to them by obeying 429s.
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

#: A method, the collection, and the number of path segments.
Endpoint = tuple[str, str, int]

GET_PROJECT: Endpoint = ("GET", "projects", 2)

#: The contract's limits: the number of requests, and the window in seconds.
LIMITS: Mapping[Endpoint, tuple[int, float]] = {
    ("POST", "uploads", 1): (30, HOUR),
    ("PUT", "uploads", 3): (1200, MINUTE),
    ("GET", "uploads", 3): (600, MINUTE),
    ("GET", "uploads", 2): (120, MINUTE),
    ("DELETE", "uploads", 2): (60, MINUTE),
    ("POST", "projects", 1): (10, HOUR),
    GET_PROJECT: (60, MINUTE),
}

BURST_DIVISOR = 10  # a tenth of a minute's requests may be sent as a burst, so that a small job never waits
RECOVERY_SECONDS = 120.0  # until a pace that a 429 slowed down is back at its full rate
UNNAMED_PAUSE_SECONDS = 1.0  # for an endpoint that is not paced, after a 429 that names no time
MIN_SLEEP_SECONDS = 0.001  # so that a sleep that is rounded to 0 cannot loop forever


class RequestBudget:
    """The rate limiter for one server and key in a process; safe to share between threads.

    Per-minute limits are paced with a sliding window: a request counts until a minute after its reply, so
    that the limit also holds on the server's clock. The first tenth may be sent as a burst; the rest is
    spread evenly. A 429 stops all requests to its endpoint until the time that the server named, and then
    halves the pace, which recovers within two minutes. Per-hour limits are not paced: their 429 asks for more
    time than a thread may wait.

    Without limits nothing is paced, but a 429 still stops the requests of all threads to that endpoint until
    the time that the server named.

    :param factor: every limit is multiplied by it; None for no limits.
    :param clock: returns the time in seconds; replaced in tests.
    :param sleep: the sleep function; replaced in tests.
    :param shared: whether several clients use this rate limiter. If not, a 429 need not stop other requests,
        and the request that got it waits by itself.
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
        """Wait until a request may be sent, and count it while the ``with`` block sends it.

        :param endpoint: the request's endpoint. If it has no per-minute limit, the request is sent at once.
            If there are no limits at all, it is also sent at once, unless a 429 stopped the endpoint.
        :raises RateLimitedError: instead of waiting, if the server told any thread of this process to wait.
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
        """Return the seconds until the next request may be sent."""
        lane = self._lane(endpoint)
        if lane is None:
            return 0.0
        with self._lock:
            now = self._clock()
            return max(0.0, lane.paused_for(now), lane.wait(now))

    def gap(self, endpoint: Endpoint) -> float:
        """Return the seconds between two requests at the current pace."""
        lane = self._lane(endpoint)
        if lane is None:
            return 0.0
        with self._lock:
            return lane.gap(self._clock())

    def refused(self, endpoint: Endpoint, retry_after: float | None) -> None:
        """Record a 429, which stops every thread that uses this rate limiter.

        :param endpoint: the request's endpoint.
        :param retry_after: seconds that the server asked to wait; None if it named no time.
        """
        if lane := self._lane(endpoint):
            with self._lock:
                lane.refused(self._clock(), retry_after)

    def window(self, endpoint: Endpoint) -> float | None:
        """Return the window of an endpoint's limit in seconds; None if there is no limit."""
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
                    f"{what}: not sent, because the server asked to wait for {pause:.0f} s more.",
                    retry_after=pause,
                )
            self._sleep(max(wait, MIN_SLEEP_SECONDS))


class _Lane:
    """The requests of the last minute to one endpoint; the caller must hold the lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gap = MINUTE / limit
        self._head_start = self._gap * (max(1, limit // BURST_DIVISOR) - 1)
        self._in_flight = 0
        self._answered: deque[float] = deque()
        self._due = 0.0  # when the next request is due at an even pace; it may be earlier by the head start
        self._paused_until = 0.0
        self._share = 1.0  # fraction of the full pace at the end of the last pause

    def wait(self, now: float) -> float:
        if room := self._until_room(now):  # waiting for room is not idle time, so it earns no head start
            self._due = max(self._due, now + room + self._head_start)
        return self._due - self._head_start - now

    def paused_for(self, now: float) -> float:
        return self._paused_until - now

    def gap(self, now: float) -> float:
        return self._gap / min(1.0, self._share + max(0.0, now - self._paused_until) / RECOVERY_SECONDS)

    def sent(self, now: float) -> None:
        self._due = max(self._due, now) + self.gap(now)
        self._in_flight += 1

    def answered(self, now: float) -> None:
        self._in_flight -= 1
        self._answered.append(now)

    def refused(self, now: float, retry_after: float | None) -> None:
        gap = self.gap(now)
        if self.paused_for(now) <= 0:  # 429s of parallel requests count as one
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
    """The pause of one endpoint without a limit; the caller must hold the lock."""

    def __init__(self) -> None:
        self._paused_until = 0.0

    def wait(self, now: float) -> float:  # noqa: ARG002 - the shape of _Lane
        return 0.0

    def paused_for(self, now: float) -> float:
        return self._paused_until - now

    def gap(self, now: float) -> float:  # noqa: ARG002 - the shape of _Lane
        return 0.0

    def sent(self, now: float) -> None:
        """Count nothing, because there is no limit."""

    def answered(self, now: float) -> None:
        """Count nothing, because there is no limit."""

    def refused(self, now: float, retry_after: float | None) -> None:
        pause = UNNAMED_PAUSE_SECONDS if retry_after is None else retry_after
        self._paused_until = max(self._paused_until, now + pause)


_budgets: dict[tuple[str, str, float | None], RequestBudget] = {}


def shared_budget(server: str, key: str, factor: float | None = 1.0) -> RequestBudget:
    """Return the rate limiter that all clients of this process share for a server and a key.

    :param server: the server's URL.
    :param key: the API key; only its digest is stored.
    :param factor: see :class:`RequestBudget`.
    """
    whose = (server, hashlib.sha256(key.encode()).hexdigest(), factor)
    return _budgets.setdefault(whose, RequestBudget(factor))
