"""Progress for people: a line every few seconds with sizes, rate and time left, for someone at 3 a.m."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["ProgressLog", "duration_text", "size_text"]

log = logging.getLogger(__name__)

SESSION_SECONDS = 72 * 3600.0  # the contract's life of an upload session


class ProgressLog:
    """Log how far an upload is, from numbers that the server gave.

    :param what: what is uploaded; begins each line.
    :param size: bytes in all.
    :param every: seconds between two lines.
    :param clock: seconds.
    """

    def __init__(
        self, what: str, size: int, *, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._size = size
        self._every = every
        self._clock = clock
        self._began = self._last = clock()
        self._from: int | None = None
        self._warned = False

    def update(self, received: int, note: str = "") -> None:
        """Take note of the server's number, and log it where the last line is some seconds old.

        :param received: bytes that the server holds.
        :param note: what else to say first, such as how many files are done.
        """
        now = self._clock()
        if self._from is None:  # a rate takes two numbers
            self._from, self._began, self._last = received, now, now
        if now - self._last >= self._every and received < self._size:
            self._last = now
            log.info("%s: %s%s", self._what, note, self._line(received, now - self._began))
            self._warn(received, now - self._began)

    def _warn(self, received: int, seconds: float) -> None:
        """Say once that an upload cannot end before its session does, at the rate of the first lines."""
        rate = (received - (self._from or 0)) / seconds
        left = (self._size - received) / rate if rate > 0 else 0.0
        if left > SESSION_SECONDS and not self._warned:
            self._warned = True
            log.warning(
                "%s: at %s/s the %s that are left take %s, and the server discards a session after %s. Use "
                "a faster line, or several sessions.",
                self._what,
                size_text(rate),
                size_text(self._size - received),
                duration_text(left),
                duration_text(SESSION_SECONDS),
            )

    def _line(self, received: int, seconds: float) -> str:
        rate = (received - (self._from or 0)) / max(seconds, 0.001)
        left = f", {duration_text((self._size - received) / rate)} left" if rate > 0 else ""
        share = 100 * received // self._size
        return f"{size_text(received)} of {size_text(self._size)} ({share} %), {size_text(rate)}/s{left}"


def size_text(count: float) -> str:
    """Return a number of bytes as people read it."""
    if count < 1024:
        return "1 byte" if count == 1 else f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if round(count, 1) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """Return a number of seconds as people read it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
