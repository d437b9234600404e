"""Backoff: how long to wait before a retry, and when to give up.

Separate from the transport because the engine waits by the same rules but never retries the same PUT.
Waits of seconds belong here, waits of minutes to Airflow's scheduler.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from airflow_360.exceptions import ThreeSixtyError

__all__ = ["Backoff"]

T = TypeVar("T")
log = logging.getLogger(__name__)


def _always(error: ThreeSixtyError) -> bool:  # noqa: ARG001 - the shape of `safe`
    return True


@dataclass(frozen=True)
class Backoff:
    """The rule for growing delays: doubled each time, jittered, bounded in length and number.

    :param first: the first delay in seconds, before jitter.
    :param longest: the longest delay in seconds, unless the server asks for more.
    :param tries: the number of retries before giving up. The default delays add up to 26 to 51 s.
    :param longest_rate_limit_wait: the longest time in seconds to wait in place if the server asks for it,
        with a 429 or a 5xx. If the server asks for more, the request is not retried.
    :param sleep: the sleep function; replaced in tests.
    :param random: the source of jitter: returns a number from 0 to 1.
    """

    first: float = 1.0
    longest: float = 20.0
    tries: int = 6
    longest_rate_limit_wait: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def delays(self) -> Iterator[float]:
        """Yield ``tries`` delays in seconds, each between half of its step and the full step."""
        for step in range(self.tries):
            yield min(self.longest, self.first * 2**step) * (1 + self.random()) / 2

    def call(self, request: Callable[[], T], safe: Callable[[ThreeSixtyError], bool] = _always) -> T:
        """Send a request, and retry it until it succeeds.

        :param request: the request.
        :param safe: tells whether a retry is safe after a failure; for a request that is not idempotent.
        :returns: the result of the request.
        :raises ThreeSixtyError: the error of the request, if it is not retryable or no retries are left.
        """
        for delay in self.delays():
            try:
                return request()
            except ThreeSixtyError as error:
                if not safe(error):
                    raise
                self.wait(error, delay)
        return request()

    def wait(self, error: ThreeSixtyError, delay: float) -> None:
        """Wait after a failure: the delay, or longer if the server asked for it.

        :param error: the failure; raised again if waiting would not help.
        :param delay: seconds, from :meth:`delays`.
        :raises ThreeSixtyError: the failure itself, if it is not retryable or the server asks for more
            than ``longest_rate_limit_wait``.
        """
        asked = error.retry_after or 0.0
        if not error.retryable or asked > self.longest_rate_limit_wait:
            raise error
        seconds = max(delay, asked)
        log.warning("%s Trying again in %.1f s.", error, seconds)
        self.sleep(seconds)
