"""Values that a task saves between its attempts, in Airflow 3.3 and newer.

The keys name the subject, never the map index: a cleared listing may have another file at the same index.
Only the task's main thread may use it.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_360.sources.archive import ArchiveSource

__all__ = ["KeptChecksums", "TaskState", "is_waiting", "time_left"]

log = logging.getLogger(__name__)

BYTES_OF_A_VALUE = 40_000  # 10,000 checksums; 53,336 characters, and Airflow takes 65,535 bytes of JSON
SAVE_EVERY = 10.0  # seconds; a save takes about 20 ms


class TaskState:
    """Small JSON values of one task, saved across retries, clears and deferrals.

    :param context: the task's context. Without a task state store nothing is saved, and nothing fails.
    """

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")
        #: Changes if a user clears the task, but not on a retry; part of each key that a clear must reset.
        self.clears = str(getattr(context.get("ti"), "max_tries", 0))
        #: The try number, from 1.
        self.attempt = int(getattr(context.get("ti"), "try_number", 1))

    @property
    def available(self) -> bool:
        """Tell whether this Airflow saves task state."""
        return self._store is not None

    def get(self, *about: str) -> Any:
        """Return the saved value, or None.

        :param about: the parts of the key, such as ``"project of", upload_id``.
        """
        return self._store.get(_key(about)) if self._store is not None else None

    def set(self, *about: str, value: Any) -> None:
        """Save a value.

        :param about: the parts of the key.
        :param value: plain JSON, and not None.
        """
        if self._store is not None:
            self._store.set(_key(about), value)

    def show(self, **values: Any) -> None:
        """Save the progress for display. If this fails, it is logged and ignored.

        :param values: plain JSON; replaces the values shown before.
        """
        try:
            self.set("progress", value={**values, "attempt": self.attempt})
        except Exception as error:  # noqa: BLE001  (any error: the upload matters more)
            log.warning("How far the task is could not be kept for Airflow's pages: %s", error)


class KeptChecksums:
    """The checksums of an archive, saved across attempts: packed, 10,000 in a value.

    :param state: the task's saved state.
    :param about: identifies the archive: session and name.
    :param archive: the archive; the checksums of an earlier attempt are loaded into it.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        state: TaskState,
        about: str,
        archive: ArchiveSource,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._about = about
        self._archive = archive
        self._clock = clock
        self._fingerprint = archive.fingerprint
        packed = b""
        while value := self._value(len(packed) // BYTES_OF_A_VALUE):
            packed += value
            if len(packed) % BYTES_OF_A_VALUE:
                break
        archive.remember(packed)
        self._saved = len(packed)
        self._last = clock()

    def update(self) -> None:
        """Save the checksums computed so far, if the last save was some seconds ago."""
        if self._clock() - self._last >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Save the checksums computed so far. A failed save is logged and ignored: they can be recomputed."""
        try:
            self._save()
        except Exception as error:  # noqa: BLE001  (any error: the upload matters more)
            log.warning("The checksums of %s could not be kept for a later attempt: %s", self._about, error)
        self._last = self._clock()

    def _save(self) -> None:
        known = self._archive.checksums if self._state.available else b""
        if len(known) <= self._saved:
            return
        for at in range(self._saved // BYTES_OF_A_VALUE * BYTES_OF_A_VALUE, len(known), BYTES_OF_A_VALUE):
            text = base64.b64encode(known[at : at + BYTES_OF_A_VALUE]).decode()
            self._state.set(*self._key(at // BYTES_OF_A_VALUE), value=[self._fingerprint, text])
        self._saved = len(known)

    def _value(self, number: int) -> bytes:
        fingerprint, text = self._state.get(*self._key(number)) or ("", "")
        return base64.b64decode(text) if fingerprint == self._fingerprint else b""

    def _key(self, number: int) -> tuple[str, ...]:
        return "checksums", self._about, str(number)


def time_left(state: TaskState, project_name: str, timeout: float) -> float:
    """Return the remaining seconds of a wait, counted from its first attempt; a clear starts a new wait.

    :param state: the task's saved state.
    :param project_name: the project that the task waits for.
    :param timeout: seconds in total.
    """
    since: float | None = state.get("waiting for", project_name, state.clears)
    if since is None:
        since = time.time()
        state.set("waiting for", project_name, state.clears, value=since)
    return max(1.0, since + timeout - time.time())


def is_waiting(state: TaskState, project_name: str) -> bool:
    """Tell whether this task has started to wait for a project, and was not cleared since then."""
    return state.get("waiting for", project_name, state.clears) is not None


def _key(about: tuple[str, ...]) -> str:
    return "360 " + " ".join(about)
