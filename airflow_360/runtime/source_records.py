"""The record of what an upload sends, so that a later attempt never sends other bytes than the first one."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from typing import Any

from airflow_360.exceptions import SourceChangedError
from airflow_360.runtime.task_state import Key, TaskState
from airflow_360.sources import FileInfo

__all__ = ["SourceRecord", "fingerprint_of"]


class SourceRecord:
    """The saved record of an upload's source, and whether the upload is complete.

    :param state: the task's saved state; None to compare and save nothing.
    :param upload: identifies the upload: session and name.
    """

    def __init__(self, state: TaskState | None, upload: str) -> None:
        self._state = state or TaskState({})
        self._upload = upload
        self._before = self._state.get(Key.SOURCE, upload)
        #: Whether an earlier attempt started this upload.
        self.was_started = self._before is not None
        #: Whether an earlier attempt completed it.
        self.was_complete = self.was_started and bool(self._state.get(Key.COMPLETE, upload))

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
        before, here = self._before, _inodes(files)
        host, digests = self._state.get(Key.INODES, self._upload) or ("", [])
        replaced = host == here[0] and not {*here[1]} <= {*digests}
        if before is not None and (fingerprint not in before or replaced):
            raise SourceChangedError(
                f"{what} changed since this upload started: files were modified, added or removed. Nothing "
                "more was sent. Clear the session task to start over."
            )
        if before is None:
            self._state.set(Key.SOURCE, self._upload, value=[fingerprint])
        if host != here[0]:
            self._state.set(Key.INODES, self._upload, value=here)

    def allow_only(self, *choices: Sequence[FileInfo]) -> None:
        """Let later attempts send the files of any one of some lists: a user may remove files that failed."""
        self._state.set(Key.SOURCE, self._upload, value=[fingerprint_of(files) for files in choices])
        self._state.set(Key.INODES, self._upload, value=_inodes(*choices))

    def save_complete(self) -> None:
        """Save that the upload is complete."""
        if not self.was_complete:
            self._state.set(Key.COMPLETE, self._upload, value=True)


def fingerprint_of(files: Sequence[FileInfo]) -> str:
    """Return a digest that changes with the paths and versions of files, in any order."""
    lines = sorted(f"{file.path} {file.version}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _inodes(*choices: Sequence[FileInfo]) -> list[Any]:
    """Return this machine's name and digests of the inodes and change times of local files, as plain JSON.

    Another machine may see other values for the same files. Only the machine that saved them compares them.

    :param choices: lists of files; a later attempt may find exactly the files of any one of them.
    """
    lines = [sorted(f"{file.path} {file.local}" for file in files if file.local) for files in choices]
    texts = ["\n".join(some).encode("utf-8", "surrogateescape") for some in lines if some]
    return [socket.gethostname() if texts else "", [hashlib.sha256(text).hexdigest() for text in texts]]
