"""Upload sessions, their files, and how bytes get into them.

This file is separate because it holds things rather than rules: what may be put where is decided in
``store.py``.
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
    """Return the flat name under which a file is kept, or an empty string where nothing is left of it.

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
    """Hold what is known of one file of a session; its bytes lie at ``path``."""

    name: str
    path: Path
    total: int
    received: int = 0
    writing: Writing | None = None

    @property
    def complete(self) -> bool:
        """Tell whether every byte has arrived."""
        return self.received == self.total

    def progress(self) -> dict[str, Any]:
        """Return the reply to a PUT or a GET of this file."""
        return {"received": self.received, "total": self.total, "complete": self.complete}

    def arrived(self) -> int:
        """Return the bytes that arrived so far, those of a PUT in flight included (for people to look at)."""
        return self.received if self.writing is None else max(self.received, self.writing.offset)


class Writing:
    """Take in the bytes of one PUT; made by :meth:`Store.begin_put`, let go by :meth:`end`.

    The bytes for a file that is complete already go nowhere.

    :param file: the file that the PUT is for
    :param start: where the first byte goes
    :param abandoned: tells whether the sender of this PUT has hung up
    :param lock: the store's lock, told when the file is free again
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
        """Close the file, let the next PUT in and return the progress.

        :param keep: whether the bytes count; False forgets those of a PUT that was cut off
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
    """Hold the files of one upload session."""

    upload_id: str
    created_at: float
    folder: Path
    files: dict[str, StoredFile] = field(default_factory=dict)
    consumed: bool = False

    def received(self) -> int:
        """Return the bytes that all files hold together."""
        return sum(file.received for file in self.files.values())
