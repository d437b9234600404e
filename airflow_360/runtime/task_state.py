"""Values that a task saves between its attempts, in Airflow 3.3 and newer.

A key names its subject, never the map index: a cleared listing may have another file at the same index. Only
the task's main thread may use it.

=========================================  ==============================================================
key, below ``360``                         value
=========================================  ==============================================================
``session``                                the session that the task created, and its clears then
``source of <upload>``                     fingerprints of the bytes that an upload may send; a host's name,
                                           and digests of inodes and change times there; whether the
                                           upload is complete on the server
``checksums <upload> <number>``            an archive's fingerprint, and 10,000 of its checksums
``project of <session>``                   the record of a project's creation
``projects of links``                      the same of each link, by a digest of the link
``waiting for <project> <clears>``         when the wait began, in seconds since the epoch
``wait <project> <clears>``                the record of a wait whose polls are sent by tasks
``progress``                               the numbers that Airflow's UI shows
=========================================  ==============================================================

An ``<upload>`` is a session and a file's name, a shard of a session's files, or a session and an archive.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

__all__ = ["Key", "TaskState", "is_waiting", "time_left"]

log = logging.getLogger(__name__)


class Key(StrEnum):
    """The first part of each key; the table above says what follows it."""

    SESSION = "session"
    SOURCE = "source of"
    CHECKSUMS = "checksums"
    PROJECT = "project of"
    PROJECTS_OF_LINKS = "projects of links"
    WAITING_SINCE = "waiting for"
    WAIT = "wait"
    PROGRESS = "progress"


class TaskState:
    """Small JSON values of one task, saved across retries, clears and deferrals.

    :param context: the task's context. Without a task state store nothing is saved, and nothing fails.
    """

    def __init__(self, context: Mapping[str, Any] | Any) -> None:
        self._store = context.get("task_state_store")
        #: Changes if a user clears the task, but not on a retry; part of each key that a clear must reset.
        self.clears = str(getattr(context.get("ti"), "max_tries", 0))
        #: The try number, from 1.
        self.attempt = int(getattr(context.get("ti"), "try_number", 1))

    @property
    def available(self) -> bool:
        """Return whether this Airflow saves task state."""
        return self._store is not None

    def get(self, key: Key, *subject: str) -> Any:
        """Return the saved value, or None.

        :param key: the first part of the key.
        :param subject: the other parts, such as the session.
        """
        return self._store.get(_text(key, subject)) if self._store is not None else None

    def set(self, key: Key, *subject: str, value: Any) -> None:
        """Save a value.

        :param key: the first part of the key.
        :param subject: the other parts.
        :param value: plain JSON, and not None.
        """
        if self._store is not None:
            self._store.set(_text(key, subject), value)

    def show(self, **values: Any) -> None:
        """Save the progress for display. If this fails, it is logged and ignored.

        :param values: plain JSON; replaces the values shown before.
        """
        try:
            self.set(Key.PROGRESS, value={**values, "attempt": self.attempt})
        except Exception as error:  # noqa: BLE001  (any error: the upload matters more)
            log.warning("Could not save the progress for Airflow's UI: %s", error)


def time_left(state: TaskState, project_name: str, timeout: float) -> float:
    """Return the remaining seconds of a wait, counted from its first attempt; a clear starts a new wait.

    :param state: the task's saved state.
    :param project_name: the project that the task waits for.
    :param timeout: seconds in total.
    """
    since: float | None = state.get(Key.WAITING_SINCE, project_name, state.clears)
    if since is None:
        since = time.time()
        state.set(Key.WAITING_SINCE, project_name, state.clears, value=since)
    return max(1.0, since + timeout - time.time())


def is_waiting(state: TaskState, project_name: str) -> bool:
    """Return whether this task has started to wait for a project, and was not cleared since then."""
    return state.get(Key.WAITING_SINCE, project_name, state.clears) is not None


def _text(key: Key, subject: tuple[str, ...]) -> str:
    return " ".join(("360", key, *subject))
