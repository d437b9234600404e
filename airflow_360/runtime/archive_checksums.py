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

BYTES_OF_A_VALUE = 40_000  # 10,000 checksums; 53,336 characters, and Airflow takes 65,535 bytes of JSON
SAVE_EVERY = 10.0  # seconds; a save takes about 20 ms


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

    def _key(self, number: int) -> tuple[Key, str, str]:
        return Key.CHECKSUMS, self._about, str(number)
