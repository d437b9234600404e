"""The SHA-256 of a source, taken from the bytes on their way to the server.

A wrapper around any source, so that who wants no digest pays nothing. What an upload did not read from the
first byte on, because an earlier attempt had sent it, is read once more when the digest is asked for.
"""

from __future__ import annotations

import hashlib
import logging

from airflow_360.exceptions import SourceChangedError
from airflow_360.sources import Reader, Source

__all__ = ["DigestedSource"]

log = logging.getLogger(__name__)

BLOCK = 1024 * 1024
NOTABLE = 64 * BLOCK  # to read so much again is worth a line in the log


class DigestedSource:
    """Read a source, and take its SHA-256 on the way.

    :param source: the source; it may be opened for any offset, any number of times, as before.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._digested = 0  # bytes from the first on

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return self._source.path

    @property
    def size(self) -> int:
        """Return the full length in bytes."""
        return self._source.size

    @property
    def fingerprint(self) -> str:
        """Return what changes when the bytes change."""
        return self._source.fingerprint

    def open(self, offset: int) -> Reader:
        """Open the bytes from an offset on."""
        return _Reader(self, self._source.open(offset), offset)

    def check(self) -> None:
        """Raise :class:`~airflow_360.exceptions.SourceChangedError` where the bytes are others now."""
        self._source.check()

    def saw(self, offset: int, data: bytes) -> None:
        """Take note of bytes that were read; only what follows on what was seen so far counts."""
        known = self._digested - offset
        if 0 <= known < len(data):
            self._hash.update(memoryview(data)[known:])
            self._digested = offset + len(data)

    def digest(self) -> str:
        """Return the SHA-256 in hexadecimal, after reading what the upload did not.

        :raises SourceChangedError: when the bytes are others now.
        :raises SourceError: when they cannot be read.
        """
        if self._digested < self.size:
            if self.size - self._digested >= NOTABLE:
                log.info("%s: read once more from byte %d for its SHA-256", self.path, self._digested)
            reader = self.open(self._digested)
            try:
                while self._digested < self.size:
                    if not reader.read(min(BLOCK, self.size - self._digested)):
                        raise SourceChangedError(
                            f"{self.path} ends at {self._digested:,} bytes and had {self.size:,} when the "
                            "upload began. Clear the session task to start over."
                        )
            finally:
                reader.close()
            self.check()
        return self._hash.hexdigest()


class _Reader:
    def __init__(self, source: DigestedSource, reader: Reader, offset: int) -> None:
        self._source = source
        self._reader = reader
        self._offset = offset

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        self._source.saw(self._offset, data)
        self._offset += len(data)
        return data

    def close(self) -> None:
        self._reader.close()
