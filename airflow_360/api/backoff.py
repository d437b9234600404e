"""Waiting: how long before the same request goes out again, and when to stop.

Separate from the transport because the engine waits by the same rules but never repeats a PUT as it was.
Seconds are waited here; minutes belong to Airflow's scheduler.
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
    """Hold the rule by which waits grow: doubled each time, jittered, bounded in length and number.

    :param first: seconds of the first wait, before jitter.
    :param longest: seconds that no wait exceeds, unless the server asked for more.
    :param tries: how many waits there are before giving up. With the defaults about a minute in all.
    :param longest_rate_limit_wait: seconds that may be waited for in place if the server asks for them, with
        a 429 or a 5xx. If it asks for more, it gets no second request.
    :param sleep: what waits; replaced in tests.
    :param random: what jitters: a number from 0 to 1.
    """

    first: float = 1.0
    longest: float = 20.0
    tries: int = 6
    longest_rate_limit_wait: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def delays(self) -> Iterator[float]:
        """Yield ``tries`` delays in seconds, each between half of its step and the whole of it."""
        for step in range(self.tries):
            yield min(self.longest, self.first * 2**step) * (1 + self.random()) / 2

    def call(self, request: Callable[[], T], safe: Callable[[ThreeSixtyError], bool] = _always) -> T:
        """Repeat a request that is safe to repeat until it is answered.

        :param request: the request.
        :param safe: after which failures it may go out again; for one that is not idempotent.
        :returns: what the request returned.
        :raises ThreeSixtyError: what the request raised, when it is not retryable or the tries are spent.
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
        """Wait after a failure: the delay, or as long as the server asked when that is longer.

        :param error: the failure; raised again when waiting would not help.
        :param delay: seconds, from :meth:`delays`.
        :raises ThreeSixtyError: the failure itself, when it is not retryable or the server asks for more
            than ``longest_rate_limit_wait``.
        """
        asked = error.retry_after or 0.0
        if not error.retryable or asked > self.longest_rate_limit_wait:
            raise error
        seconds = max(delay, asked)
        log.warning("%s Trying again in %.1f s.", error, seconds)
        self.sleep(seconds)
