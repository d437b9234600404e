"""Time that passes only if somebody waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

__all__ = ["VirtualClock"]

START = 1_800_000_000.0


class VirtualClock:
    """A clock whose waits take no time, with scheduled events."""

    def __init__(self) -> None:
        self.now = START
        self._numbers = count()
        self._appointments: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    @property
    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return self.now - START

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Let something happen when its time comes."""
        heapq.heappush(self._appointments, (moment, next(self._numbers), act))

    def sleep(self, seconds: float) -> None:
        """Advance the time, and run the events in between."""
        end = self.now + max(0.0, seconds)
        while self._appointments and self._appointments[0][0] <= end:
            moment, _, act = heapq.heappop(self._appointments)
            self.now = max(self.now, moment)
            act()
        self.now = end
