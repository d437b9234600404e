"""The findings of a whole scan: its damaged files, and the coordinate systems that its files state.

Separate from the result of one file, because a scan may have 100,000 files: only counts and the first few are
kept.
"""

from __future__ import annotations

import threading
from typing import Any

from airflow_360.inspection.photos import PhotoSet
from airflow_360.inspection.results import Inspection
from airflow_360.texts import count_text

__all__ = ["NO_CODE", "Findings"]

#: The text for a coordinate system that a file states without a code.
NO_CODE = "WKT without a code"
MAX_KEPT_FILES = 1000  # with problems
MAX_SYSTEMS = 10


class Findings:
    """The findings of a scan; several threads may add to it.

    :ivar damaged: what is wrong with each file that cannot be used, by its path; at most 1,000 of them.
    :ivar doubtful: the same of files that may be intended as they are.
    :ivar unchecked: files that could be inspected only in part, with the rest.
    :ivar unread: the number of files that could not be read.
    """

    def __init__(self) -> None:
        self.damaged: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}
        self.unchecked: dict[str, str] = {}
        self.unread = 0
        self.photos = PhotoSet()
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._counts = {"damaged": 0, "doubtful": 0}
        self._systems: dict[str, str] = {}

    def add(self, path: str, result: Inspection) -> None:
        """Add the result of a file; a second result of the same file is ignored.

        :param path: the file's path as a user would write it.
        :param result: its result.
        """
        with self._lock:
            if path in self._seen:
                return
            self._seen.add(path)
            self.photos.add(path, result)
            if result.problems:
                kind = "damaged" if result.errors else "doubtful"
                self._note(kind, path, "; ".join(problem.text for problem in result.problems))
            if result.unchecked and len(self.unchecked) < MAX_KEPT_FILES:
                self.unchecked[path] = ", ".join(result.unchecked)
            if system := result.coordinate_system:
                code = system.code or NO_CODE
                if code in self._systems or len(self._systems) < MAX_SYSTEMS:
                    self._systems.setdefault(code, path)

    def _note(self, kind: str, path: str, text: str) -> None:
        self._counts[kind] += 1
        kept: dict[str, str] = getattr(self, kind)
        if len(kept) < MAX_KEPT_FILES:
            kept[path] = text

    @property
    def files(self) -> int:
        """Return the number of inspected files."""
        return len(self._seen)

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of damaged and of doubtful files, without zeros."""
        return {kind: count for kind, count in self._counts.items() if count}

    @property
    def systems(self) -> dict[str, str]:
        """Return the coordinate systems that files state, each with the first file that states it."""
        return dict(sorted(self._systems.items()))

    @property
    def result(self) -> dict[str, Any]:
        """Return what an upload's result says of its inspection; empty if there is nothing to say.

        ``coordinate_system`` is the code that the files state; several are separated by commas. ``damaged``,
        ``doubtful`` and ``unread`` are numbers of files.
        """
        systems = {"coordinate_system": ", ".join(self.systems)} if self._systems else {}
        unread = {"unread": self.unread} if self.unread else {}
        return {**systems, **self.counts, **unread}

    def __str__(self) -> str:
        counts = [f"{count:,} {kind}" for kind, count in self.counts.items()] or ["no problems"]
        system = f"; coordinate system {', '.join(self.systems)}" if self._systems else ""
        return f"{count_text(self.files, 'file')} inspected: {', '.join(counts)}{system}"
