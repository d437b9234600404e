"""A limit on the bytes per second that a process sends, for sites that share their line.

Pure arithmetic on an injected clock, shared by all threads and files that send to one server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Bandwidth", "shared_bandwidth"]

CREDIT_SECONDS = 0.25  # unused time that may be made up after a pause, such as a round trip
BLOCK_SECONDS = 0.1  # for one block at the limit, so that no connection looks dead to a server


class Bandwidth:
    """A bandwidth limiter that gives each sender its turn.

    :param limit: the most bytes per second, over any few seconds.
    :param clock: returns the time in seconds.
    :param sleep: the sleep function.
    """

    def __init__(
        self,
        limit: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limit = limit
        #: The number of bytes that should be sent in one turn.
        self.block = max(1, int(limit * BLOCK_SECONDS))
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = clock()

    def wait(self, count: int) -> None:
        """Wait until some bytes may be sent.

        :param count: the number of bytes, preferably no more than ``block``.
        """
        with self._lock:
            now = self._clock()
            mine = max(self._free, now - CREDIT_SECONDS)
            self._free = mine + count / self.limit
        if mine > now:
            self._sleep(mine - now)


_shared: dict[tuple[str, float], Bandwidth] = {}


def shared_bandwidth(server: str, limit: float) -> Bandwidth:
    """Return the limiter that all clients of a server share in this process.

    :param server: the server's URL.
    :param limit: bytes per second.
    """
    return _shared.setdefault((server, limit), Bandwidth(limit))
