"""The record of what an upload sends, so that a later attempt never sends other bytes than the first one."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from typing import TypedDict

from airflow_360.exceptions import SourceChangedError
from airflow_360.runtime.task_state import Key, TaskState
from airflow_360.sources import FileInfo

__all__ = ["SourceRecord", "fingerprint_of"]


class _Saved(TypedDict, total=False):
    """The saved record, as plain JSON; the table in ``task_state`` says what it is for."""

    fingerprints: list[str]
    host: str
    inodes: list[str]
    complete: bool


class SourceRecord:
    """The saved record of an upload's source, and whether the upload is complete.

    :param state: the task's saved state; None to compare and save nothing.
    :param upload: identifies the upload: session and name.
    """

    def __init__(self, state: TaskState | None, upload: str) -> None:
        self._state = state or TaskState({})
        self._upload = upload
        # One value, because each request to Airflow takes milliseconds.
        self._saved: _Saved = self._state.get(Key.SOURCE, upload) or _Saved()
        #: Whether an earlier attempt started this upload.
        self.was_started = bool(self._saved)
        #: Whether an earlier attempt completed it.
        self.was_complete = self._saved.get("complete", False)

    @property
    def is_retried(self) -> bool:
        """Return whether this is a later attempt of the task, whatever is saved."""
        return self._state.attempt > 1

    def check_unchanged(self, what: str, fingerprint: str, files: Sequence[FileInfo]) -> None:
        """Check that this attempt sends the bytes of the first one, and save the record of a first attempt.

        :param what: the source, in words.
        :param fingerprint: identifies the bytes on any machine.
        :param files: the files that contain the bytes.
        :raises SourceChangedError: if the bytes are not the same.
        """
        if not self._state.available:
            return
        saved, here = self._saved, _inodes(files)
        is_same_host = saved.get("host") == here["host"]
        if self.was_started:
            replaced = is_same_host and not {*here["inodes"]} <= {*saved["inodes"]}
            if fingerprint not in saved["fingerprints"] or replaced:
                raise SourceChangedError(
                    f"{what} changed since this upload started: files were modified, added or removed. "
                    "Nothing more was sent. Clear the session task to start over."
                )
        if not is_same_host:
            self._save({"fingerprints": [fingerprint], **saved, **here})

    def allow_only(self, *choices: Sequence[FileInfo]) -> None:
        """Let later attempts send the files of any one of some lists: a user may remove files that failed."""
        fingerprints = [fingerprint_of(files) for files in choices]
        self._save({**self._saved, "fingerprints": fingerprints, **_inodes(*choices)})

    def save_complete(self) -> None:
        """Save that the upload is complete."""
        if not self.was_complete:
            self._save({**self._saved, "complete": True})

    def _save(self, value: _Saved) -> None:
        self._saved = value
        self._state.set(Key.SOURCE, self._upload, value=value)


def fingerprint_of(files: Sequence[FileInfo]) -> str:
    """Return a digest that changes with the paths and versions of files, in any order."""
    lines = sorted(f"{file.path} {file.version}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _inodes(*choices: Sequence[FileInfo]) -> _Saved:
    """Return this machine's name and digests of the inodes and change times of local files.

    Another machine may see other values for the same files. Only the machine that saved them compares them.

    :param choices: lists of files; a later attempt may find exactly the files of any one of them.
    """
    lines = [sorted(f"{file.path} {file.local}" for file in files if file.local) for files in choices]
    texts = ["\n".join(some).encode("utf-8", "surrogateescape") for some in lines if some]
    host = socket.gethostname() if texts else ""
    return {"host": host, "inodes": [hashlib.sha256(text).hexdigest() for text in texts]}
