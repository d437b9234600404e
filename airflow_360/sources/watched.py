"""A source whose bytes are watched while they are read: the base of the digest and of the inspection.

Separate because both only differ in what they do with the bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from airflow_360.sources import Reader, Source

__all__ = ["WatchedSource"]

S = TypeVar("S", bound=Source)


class WatchedSource(ABC, Generic[S]):
    """A wrapper around a source that sees all bytes that are read.

    :param source: the source; it can still be opened any number of times, for any offset.
    """

    def __init__(self, source: S) -> None:
        self._source = source

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
        """Return a string that changes when the bytes change."""
        return self._source.fingerprint

    def open(self, offset: int) -> Reader:
        """Open the bytes from an offset on."""
        return _WatchedReader(self, self._source.open(offset), offset)

    def check(self) -> None:
        """Raise :class:`~airflow_360.exceptions.SourceChangedError` if the bytes have changed."""
        self._source.check()

    @abstractmethod
    def add_bytes(self, offset: int, data: bytes) -> None:
        """Take bytes that were read, perhaps not for the first time.

        :param offset: the offset of the first of them.
        :param data: the bytes; empty at the end.
        """


class _WatchedReader:
    def __init__(self, source: WatchedSource[S], reader: Reader, offset: int) -> None:
        self._source = source
        self._reader = reader
        self._offset = offset

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        self._source.add_bytes(self._offset, data)
        self._offset += len(data)
        return data

    def close(self) -> None:
        self._reader.close()
