"""The SHA-256 of a source, computed while its bytes are sent to the server.

A wrapper around any source, so that an upload without a digest costs nothing extra. Bytes that an earlier
attempt sent are read again when the digest is needed.
"""

from __future__ import annotations

import hashlib
import logging

from airflow_360.exceptions import SourceChangedError
from airflow_360.sources import Source
from airflow_360.sources.watched import WatchedSource
from airflow_360.values import MIB

__all__ = ["DigestedSource"]

log = logging.getLogger(__name__)

BLOCK_BYTES = MIB
NOTABLE_BYTES = 64 * BLOCK_BYTES  # reading this much again is worth a line in the log


class DigestedSource(WatchedSource[Source]):
    """A source whose SHA-256 is computed while it is read.

    :param source: the source.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._hash = hashlib.sha256()
        self._digested = 0  # bytes, counted from the start

    def add_bytes(self, offset: int, data: bytes) -> None:
        """Add bytes that were read to the digest; bytes that do not continue it are ignored."""
        known = self._digested - offset
        if 0 <= known < len(data):
            self._hash.update(memoryview(data)[known:])
            self._digested = offset + len(data)

    def digest(self) -> str:
        """Return the SHA-256 in hexadecimal, after reading the bytes that the upload did not read.

        :raises SourceChangedError: if the bytes have changed.
        :raises SourceError: if they cannot be read.
        """
        if self._digested < self.size:
            if self.size - self._digested >= NOTABLE_BYTES:
                log.info(
                    "%s: reading it again from byte %d to compute its SHA-256", self.path, self._digested
                )
            reader = self.open(self._digested)
            try:
                while self._digested < self.size:
                    if not reader.read(min(BLOCK_BYTES, self.size - self._digested)):
                        raise SourceChangedError(
                            f"{self.path} ends at {self._digested:,} bytes and had {self.size:,} when the "
                            "upload started. Clear the session task to start over."
                        )
            finally:
                reader.close()
            self.check()
        return self._hash.hexdigest()
