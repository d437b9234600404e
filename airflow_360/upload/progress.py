"""Upload progress every few seconds, with sizes, rate and time left, for the log and the Airflow UI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_360.texts import duration_text, size_text

__all__ = ["ProgressLog"]

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_SECONDS = 5.0  # between two lines; saving a value takes Airflow about 20 ms
SESSION_SECONDS = 72 * 3600.0  # the lifetime of an upload session in the contract


class ProgressLog:
    """A reporter of upload progress that logs the server's numbers and passes them to a callback.

    :param what: the name of the upload; each line starts with it.
    :param size: the total size in bytes.
    :param files: the number of files; None for a single file.
    :param keep: called with the numbers of each line, as plain values, and with its text; also called with
        the final numbers if it was called before.
    :param every: seconds between two lines; 5 by default.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        what: str,
        size: int,
        *,
        files: int | None = None,
        keep: Callable[[dict[str, Any]], None] | None = None,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._size = size
        self._files = files
        self._keep = keep or _ignore
        self._every = PROGRESS_INTERVAL_SECONDS if every is None else every
        self._clock = clock
        self._began = self._last = clock()
        self._from: int | None = None
        self._kept = False
        self._warned = False

    def begin(self, received: int) -> None:
        """Start to measure the rate, before anything is sent.

        :param received: bytes that the server has.
        """
        if self._from is None:
            self._from = received
            self._began = self._last = self._clock()

    def update(self, received: int, files_done: int | None = None) -> None:
        """Record the server's number, and report it if the last line is some seconds old.

        :param received: bytes that the server has.
        :param files_done: the number of complete files, if there are several.
        """
        if self._from is None:  # a rate needs two numbers
            self.begin(received)
            return
        now = self._clock()
        ended = received >= self._size
        if (now - self._last < self._every or ended) and not (ended and self._kept):
            return
        self._last = now
        numbers = self._numbers(received, files_done, now - self._began)
        text = _text(numbers)
        if not ended:
            log.info("%s: %s", self._what, text)
            self._warn(numbers)
        self._kept = not ended
        self._keep({"progress": text, **numbers})

    def _numbers(self, received: int, files_done: int | None, seconds: float) -> dict[str, Any]:
        begun = self._from or 0
        rate = (received - begun) / max(seconds, 0.001)
        numbers: dict[str, Any] = {
            "received": received,
            "size": self._size,
            "percent": 100 * received // self._size if self._size else 100,
            "rate": round(rate),
            "seconds_left": round((self._size - received) / rate) if rate > 0 else None,
            "resumed_from": begun,
        }
        if self._files is not None:
            numbers.update(files_done=files_done or 0, files=self._files)
        return numbers

    def _warn(self, numbers: dict[str, Any]) -> None:
        """Warn once if, at the current rate, the upload takes longer than its session lives."""
        left = numbers["seconds_left"] or 0.0
        if left > SESSION_SECONDS and not self._warned:
            self._warned = True
            log.warning(
                "%s: at %s/s the remaining %s take %s, and the server discards a session after %s. Use "
                "a faster network, or several sessions.",
                self._what,
                size_text(numbers["rate"]),
                size_text(self._size - numbers["received"]),
                duration_text(left),
                duration_text(SESSION_SECONDS),
            )


def _text(numbers: dict[str, Any]) -> str:
    files = f"{numbers['files_done']:,} of {numbers['files']:,} files, " if "files" in numbers else ""
    left = f", {duration_text(numbers['seconds_left'])} left" if numbers["seconds_left"] is not None else ""
    return (
        f"{files}{size_text(numbers['received'])} of {size_text(numbers['size'])} ({numbers['percent']} %), "
        f"{size_text(numbers['rate'])}/s{left}"
    )


def _ignore(numbers: dict[str, Any]) -> None:
    pass
