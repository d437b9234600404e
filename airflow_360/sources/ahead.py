"""Reading ahead: fetch the next bytes of a remote source while the server still takes the last ones.

Separate because any reader can be wrapped in it. Without it an upload from a store to the server goes at the
rate of both sides in turn; with it, at that of the slower one.
"""

from __future__ import annotations

import queue
import threading

from airflow_360.sources import Reader

__all__ = ["ReadAhead", "reading_ahead"]

BLOCK = 1024 * 1024  # bytes
BLOCKS = 8  # that are held at most, whatever the object's size


def reading_ahead(reader: Reader, left: int) -> Reader:
    """Return a reader that reads ahead, where that is worth a thread.

    :param reader: the reader of a remote source. A local file is in memory sooner than a thread is asked.
    :param left: bytes up to the source's end. A block or less is read in one go anyway.
    """
    return ReadAhead(reader) if left > BLOCK else reader


class ReadAhead:
    """Read another reader in a thread of its own, some blocks ahead.

    What the reader raises is raised where its block would be due, and by each read after that.

    :param reader: the other reader, which is closed with this one.
    :param blocks: how many blocks of a mebibyte are held at most.
    """

    def __init__(self, reader: Reader, *, blocks: int = BLOCKS) -> None:
        self._reader = reader
        self._room = threading.Semaphore(blocks)
        self._blocks: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._last: bytes | BaseException = b""
        self._rest = b""
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._fetch, name="read-ahead", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end; wait for them where need be.

        :raises SourceError: what the reader raised.
        """
        if not self._rest:
            self._rest = self._next()
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def close(self) -> None:
        """End the thread, once a read that is under way is done, and let go of the reader."""
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
                block: bytes | BaseException = self._reader.read(BLOCK)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the uploading thread
                block = error
            self._blocks.put(block)
            if not isinstance(block, bytes) or not block:
                return
