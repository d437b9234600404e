"""The rate limits of the contract.

Separate because a limit depends only on a key and an endpoint, not on sessions, files or projects.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["LIMITS", "RateLimiter"]

LIMITS: dict[str, tuple[int, float]] = {
    "create_upload_session": (30, 3600),
    "put_file": (1200, 60),
    "get_file_progress": (600, 60),
    "list_files": (120, 60),
    "delete_upload_session": (60, 60),
    "create_project": (10, 3600),
    "get_project": (60, 60),
}


class RateLimiter:
    """A counter of requests per key and endpoint in a sliding window.

    :param factor: the factor for every limit of the contract; None means no limits
    :param clock: returns the time in seconds
    """

    def __init__(self, factor: float | None, clock: Callable[[], float]) -> None:
        self._factor = factor
        self._clock = clock
        self._spent: dict[tuple[str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def spend(self, key: str, endpoint: str) -> int:
        """Count one request and return 0, or return the seconds to wait before the next try.

        A refused request does not count.

        :param key: the key of the request
        :param endpoint: a name from ``LIMITS``; any other has no limit
        """
        if self._factor is None or endpoint not in LIMITS:
            return 0
        limit, window = LIMITS[endpoint]
        now = self._clock()
        with self._lock:
            spent = self._spent.setdefault((key, endpoint), deque())
            while spent and spent[0] + window <= now:
                spent.popleft()
            if len(spent) >= max(1, int(limit * self._factor)):
                return max(1, math.ceil(spent[0] + window - now))
            spent.append(now)
            return 0
