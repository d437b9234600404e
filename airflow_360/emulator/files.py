"""Upload sessions, their files, and how bytes get into them.

Separate because this module contains data and no rules: ``store.py`` decides which bytes are accepted.
"""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["StoredFile", "UploadSession", "Writing", "extension_of", "flatten"]


def flatten(filename: str) -> str:
    """Return the flat name of a stored file, or an empty string if no character of the name is allowed.

    :param filename: the name as the client sent it, percent-decoded
    """
    ascii_only = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode("ascii")
    joined = "_".join(ascii_only.replace("/", " ").split())
    stem, extension = os.path.splitext(re.sub(r"[^A-Za-z0-9_.-]", "", joined).strip("._"))
    return stem + extension.lower()


def extension_of(filename: str) -> str:
    """Return the extension of a flat name, without the dot."""
    return os.path.splitext(filename)[1].removeprefix(".")


@dataclass(eq=False)
class StoredFile:
    """One file of a session; its bytes are stored at ``path``."""

    name: str
    path: Path
    total: int
    received: int = 0
    writing: Writing | None = None

    @property
    def complete(self) -> bool:
        """Return whether every byte has arrived."""
        return self.received == self.total

    def progress(self) -> dict[str, Any]:
        """Return the reply to a PUT or a GET of this file."""
        return {"received": self.received, "total": self.total, "complete": self.complete}

    def arrived(self) -> int:
        """Return the bytes that have arrived, including those of a PUT in flight (for display)."""
        return self.received if self.writing is None else max(self.received, self.writing.offset)


class Writing:
    """A writer for the bytes of one PUT; :meth:`Store.begin_put` creates it, :meth:`end` closes it.

    If the file is already complete, the bytes are discarded.

    :param file: the file of the PUT
    :param start: the position of the first byte
    :param abandoned: returns whether the client of this PUT has closed the connection
    :param lock: the store's lock, which is notified when the file is free again
    """

    def __init__(
        self, file: StoredFile, start: int, abandoned: Callable[[], bool], lock: threading.Condition
    ) -> None:
        self.offset = start
        self.abandoned = abandoned
        self._file = file
        self._lock = lock
        self._sink = (Path(os.devnull) if file.complete else file.path).open("r+b")
        self._sink.seek(start)

    def write(self, data: memoryview) -> None:
        """Append bytes to those of this PUT."""
        self._sink.write(data)
        self.offset += len(data)

    def end(self, keep: bool = True) -> dict[str, Any]:
        """Close the file, allow the next PUT and return the progress.

        :param keep: whether the bytes count; False discards those of a PUT that was cut off
        """
        with self._lock:
            self._sink.close()
            if keep and not self._file.complete:
                self._file.received = max(self._file.received, self.offset)
            self._file.writing = None
            self._lock.notify_all()
            return self._file.progress()


@dataclass(eq=False)
class UploadSession:
    """An upload session with its files."""

    upload_id: str
    created_at: float
    folder: Path
    files: dict[str, StoredFile] = field(default_factory=dict)
    consumed: bool = False

    def received(self) -> int:
        """Return the number of bytes of all files together."""
        return sum(file.received for file in self.files.values())
