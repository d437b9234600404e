"""The checksums of an archive, saved so that a later attempt need not read the files again."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_360.runtime.task_state import Key, TaskState

if TYPE_CHECKING:
    from airflow_360.sources.archive import ArchiveSource

__all__ = ["ArchiveChecksums"]

log = logging.getLogger(__name__)

MAX_VALUE_BYTES = 40_000  # 10,000 checksums; 53,336 characters, and Airflow takes 65,535 bytes of JSON
SAVE_INTERVAL_SECONDS = 10.0  # a save takes about 20 ms


class ArchiveChecksums:
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
        while value := self._value(len(packed) // MAX_VALUE_BYTES):
            packed += value
            if len(packed) % MAX_VALUE_BYTES:
                break
        archive.remember(packed)
        self._saved = len(packed)
        self._last = clock()

    def update(self) -> None:
        """Save the checksums computed so far, if the last save was some seconds ago."""
        if self._clock() - self._last >= SAVE_INTERVAL_SECONDS:
            self.save()

    def save(self) -> None:
        """Save the checksums computed so far. A failed save is logged and ignored: they can be recomputed."""
        try:
            self._save()
        except Exception as error:  # noqa: BLE001  (any error: the upload matters more)
            log.warning("The checksums of %s could not be saved for a later attempt: %s", self._about, error)
        self._last = self._clock()

    def _save(self) -> None:
        known = self._archive.checksums if self._state.available else b""
        if len(known) <= self._saved:
            return
        for at in range(self._saved // MAX_VALUE_BYTES * MAX_VALUE_BYTES, len(known), MAX_VALUE_BYTES):
            text = base64.b64encode(known[at : at + MAX_VALUE_BYTES]).decode()
            self._state.set(*self._key(at // MAX_VALUE_BYTES), value=[self._fingerprint, text])
        self._saved = len(known)

    def _value(self, number: int) -> bytes:
        fingerprint, text = self._state.get(*self._key(number)) or ("", "")
        return base64.b64decode(text) if fingerprint == self._fingerprint else b""

    def _key(self, number: int) -> tuple[Key, str, str]:
        return Key.CHECKSUMS, self._about, str(number)
