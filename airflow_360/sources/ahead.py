"""Reading ahead: read the next bytes of a remote source while the previous ones are still being sent.

Separate because it can wrap any reader. Without it, an upload from a store alternates between reading and
sending; with it, both run in parallel, at the rate of the slower one.
"""

from __future__ import annotations

import queue
import threading

from airflow_360.sources import Reader
from airflow_360.values import MIB

__all__ = ["ReadAhead", "reading_ahead"]

BLOCK_BYTES = MIB
MAX_BLOCKS = 8  # in memory, for any size of object


def reading_ahead(reader: Reader, left: int) -> Reader:
    """Return a reader that reads ahead, if that is worth a thread.

    :param reader: the reader of a remote source. For local files a thread would only add delay.
    :param left: bytes up to the source's end. One block or less is read in one piece anyway.
    """
    return ReadAhead(reader) if left > BLOCK_BYTES else reader


class ReadAhead:
    """A reader that reads another reader in a separate thread, some blocks ahead.

    An exception of the other reader is raised by the read that would return its block, and by each later one.

    :param reader: the other reader, which is closed with this one.
    :param blocks: how many blocks of 1 MiB to keep in memory at most.
    """

    def __init__(self, reader: Reader, *, blocks: int = MAX_BLOCKS) -> None:
        self._reader = reader
        self._room = threading.Semaphore(blocks)
        self._blocks: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._last: bytes | BaseException = b""
        self._rest = b""
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._fetch, name="read-ahead", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, empty only at the end; wait for them if necessary.

        :raises SourceError: the exception of the other reader.
        """
        if not self._rest:
            self._rest = self._next()
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def close(self) -> None:
        """End the thread after its current read, and close the other reader."""
        self._closed = True
        self._room.release()
        self._thread.join()
        self._reader.close()

    def _next(self) -> bytes:
        if not self._ended:
            self._last = self._blocks.get()
            self._ended = not isinstance(self._last, bytes) or not self._last
            self._room.release()
        if isinstance(self._last, BaseException):
            raise self._last
        return b"" if self._ended else self._last

    def _fetch(self) -> None:
        while True:
            self._room.acquire()
            if self._closed:
                return
            try:
                block: bytes | BaseException = self._reader.read(BLOCK_BYTES)
            except BaseException as error:  # noqa: BLE001 - any error belongs to the uploading thread
                block = error
            self._blocks.put(block)
            if not isinstance(block, bytes) or not block:
                return
