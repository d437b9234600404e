"""Inspection of a file from the bytes that are sent, so that thousands of photos need no extra requests.

Separate from the formats, because it is a wrapper around any source, as the digest is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from airflow_360.exceptions import ThreeSixtyError
from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import HEAD_BYTES, TAIL_BYTES, Ranges
from airflow_360.inspection.results import Inspection
from airflow_360.sources import FileSource, Source
from airflow_360.sources.names import printable
from airflow_360.sources.watched import WatchedSource

__all__ = ["InspectedSource", "inspect_source"]

log = logging.getLogger(__name__)


def inspect_source(source: FileSource) -> Inspection:
    """Inspect a file with ranged reads, usually of its head and its tail.

    :param source: the file.
    :raises SourceError: if it cannot be read.
    :raises SourceChangedError: if it was replaced or became shorter.
    """
    return _inspect(source, source.read_range)


def _inspect(source: Source, read: Callable[[int, int], bytes]) -> Inspection:
    """Inspect a source with a function that reads its ranges."""
    try:
        result = inspect_file(source.path, Ranges(read, source.size))
    except ThreeSixtyError:
        raise
    except Exception as error:
        # The error's own text may quote the file, so only its kind is logged.
        what = "The inspection of %s failed with %s, which is a defect of this package; the file is accepted."
        log.error(what, printable(source.path), type(error).__name__)
        log.debug("The defect:", exc_info=True)
        return Inspection(unchecked=["the file, because its inspection failed"])
    if result.errors:
        source.check()  # a file that was replaced is not damaged
    return result


class InspectedSource(WatchedSource[FileSource]):
    """A source that is inspected when its last byte is read.

    It keeps the head and the tail as they pass. If an upload was resumed, it reads the missing part again.

    :param source: the file.
    :param on_result: called once with the result, in the thread that reads.
    """

    def __init__(self, source: FileSource, on_result: Callable[[Inspection], None]) -> None:
        super().__init__(source)
        self._on_result = on_result
        self._is_inspected = not source.size
        self._windows = [_Window(0, HEAD_BYTES), _Window(max(source.size - TAIL_BYTES, 0), source.size)]

    def add_bytes(self, offset: int, data: bytes) -> None:
        """Keep what belongs to head or tail, and inspect the file after its last byte."""
        if self._is_inspected:
            return
        for window in self._windows:
            window.add(offset, data)
        if offset + len(data) >= self.size:
            self._is_inspected = True
            try:
                self._on_result(_inspect(self, self._range))
            except ThreeSixtyError as error:
                log.warning("%s could not be inspected: %s", printable(self.path), printable(str(error)))
            self._windows.clear()

    def _range(self, offset: int, length: int) -> bytes:
        for window in self._windows:
            if (data := window.get(offset, length)) is not None:
                return data
        return self._source.read_range(offset, length)


class _Window:
    """A part of a file that is kept; it fills from its start."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end
        self._data = bytearray()

    def add(self, offset: int, data: bytes) -> None:
        due = self._start + len(self._data)
        if offset <= due < min(offset + len(data), self._end):
            self._data += data[due - offset : self._end - offset]

    def get(self, offset: int, length: int) -> bytes | None:
        """Return the bytes of a range, or None if the window does not have all of them."""
        begin = offset - self._start
        return bytes(self._data[begin : begin + length]) if 0 <= begin <= len(self._data) - length else None
