"""Upload progress every few seconds, with sizes, rate and time left, for the log and the Airflow UI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NotRequired, TypedDict

from airflow_360.texts import duration_text, size_text

__all__ = ["PROGRESS_INTERVAL_SECONDS", "ProgressLog", "ProgressRecord"]

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_SECONDS = 5.0  # between two lines; saving a value takes Airflow about 20 ms
#: The lifetime of an upload session in the contract; only the task that creates the session is told its own.
SESSION_SECONDS = 72 * 3600.0


class ProgressRecord(TypedDict):
    """The numbers of one progress line; the Airflow UI's page and people who read the task state use them.

    ``progress`` is the line's text. ``received`` and ``size`` are bytes, ``rate`` is in bytes per second,
    ``seconds_left`` is None if nothing moves, and ``resumed_from`` is the byte at which this attempt began.
    ``files_done`` and ``files`` are only there for several files.
    """

    progress: str
    received: int
    size: int
    percent: int
    rate: int
    seconds_left: int | None
    resumed_from: int
    files_done: NotRequired[int]
    files: NotRequired[int]


class ProgressLog:
    """A reporter of upload progress that logs the server's numbers and passes them to a callback.

    :param what: the name of the upload; each line starts with it.
    :param size: the total size in bytes.
    :param files: the number of files; None for a single file.
    :param keep: called with the numbers of each line, as plain values, and with its text; also called with
        the final numbers if it was called before.
    :param every: the shortest time between two lines, in seconds; 5 by default.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        what: str,
        size: int,
        *,
        files: int | None = None,
        keep: Callable[[ProgressRecord], None] | None = None,
        every: float = PROGRESS_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._size = size
        self._files = files
        self._keep = keep or _ignore
        self._every = every
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
        record = self._record(received, files_done, now - self._began)
        if not ended:
            log.info("%s: %s", self._what, record["progress"])
            self._warn(record)
        self._kept = not ended
        self._keep(record)

    def _record(self, received: int, files_done: int | None, seconds: float) -> ProgressRecord:
        begun = self._from or 0
        rate = (received - begun) / max(seconds, 0.001)
        record: ProgressRecord = {
            "progress": "",
            "received": received,
            "size": self._size,
            "percent": 100 * received // self._size if self._size else 100,
            "rate": round(rate),
            "seconds_left": round((self._size - received) / rate) if rate > 0 else None,
            "resumed_from": begun,
        }
        if self._files is not None:
            record |= {"files_done": files_done or 0, "files": self._files}
        record["progress"] = _text(record)
        return record

    def _warn(self, record: ProgressRecord) -> None:
        """Warn once if, at the current rate, the upload takes longer than its session lives."""
        left = record["seconds_left"] or 0.0
        if left > SESSION_SECONDS and not self._warned:
            self._warned = True
            log.warning(
                "%s: at %s/s the remaining %s take %s, and the server discards a session after %s. Use "
                "a faster network, or several sessions.",
                self._what,
                size_text(record["rate"]),
                size_text(self._size - record["received"]),
                duration_text(left),
                duration_text(SESSION_SECONDS),
            )


def _text(record: ProgressRecord) -> str:
    files = f"{record['files_done']:,} of {record['files']:,} files, " if "files" in record else ""
    left = f", {duration_text(record['seconds_left'])} left" if record["seconds_left"] is not None else ""
    return (
        f"{files}{size_text(record['received'])} of {size_text(record['size'])} ({record['percent']} %), "
        f"{size_text(record['rate'])}/s{left}"
    )


def _ignore(record: ProgressRecord) -> None:
    pass
