"""A limit on the bytes that a process sends in a second, for sites that share their line.

Arithmetic on a clock that is handed in, shared by all threads and files that send to one server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Bandwidth", "shared_bandwidth"]

CREDIT = 0.25  # seconds that may be caught up with after a pause, such as a round trip between two chunks
TURN = 0.1  # seconds of the line that one block takes, so that no connection looks dead to a server


class Bandwidth:
    """Hand out the line, in turns, to whoever wants to send.

    :param limit: bytes a second that are sent at most, over any few seconds.
    :param clock: seconds.
    :param sleep: what waits.
    """

    def __init__(
        self,
        limit: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limit = limit
        #: bytes that should be sent at a time
        self.block = max(1, int(limit * TURN))
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = clock()

    def wait(self, count: int) -> None:
        """Wait until some bytes may be sent.

        :param count: how many, best no more than ``block``.
        """
        with self._lock:
            now = self._clock()
            mine = max(self._free, now - CREDIT)
            self._free = mine + count / self.limit
        if mine > now:
            self._sleep(mine - now)


_shared: dict[tuple[str, float], Bandwidth] = {}


def shared_bandwidth(server: str, limit: float) -> Bandwidth:
    """Return the one limit that all clients of a server share in this process.

    :param server: the server's URL.
    :param limit: bytes a second.
    """
    return _shared.setdefault((server, limit), Bandwidth(limit))
