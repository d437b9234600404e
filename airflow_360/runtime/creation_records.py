"""Storage for the record of a project's creation.

A session's record is saved twice: in the task's state, and in a store that survives a clear. Without the
second one a cleared task would have to search for its project. The task that creates the session saves the
first record, which proves to the project task that nothing was sent. Only the task's main thread may use it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import conf

from airflow_360.exceptions import ProjectError
from airflow_360.projects.creation import CreationRecord, Stage
from airflow_360.runtime.lasting_store import lasting_inlets, lasting_stores
from airflow_360.runtime.task_state import Key, TaskState

__all__ = ["LinkRecords", "SessionRecords", "forget_session", "new_session"]

log = logging.getLogger(__name__)

DESCRIPTION = "An upload session that is not a project yet"


class SessionRecords:
    """The saved record of a session's project.

    :param context: the task's context.
    :param state: the task's saved state.
    :param upload_id: the session.
    :param resumed: the record that a deferral carried, or None.
    :param waits: whether the task waits for its project. Its next attempt must know of the project, so the
        variable stays until :func:`forget_session`.
    """

    def __init__(
        self,
        context: Any,
        state: TaskState,
        upload_id: str,
        resumed: Mapping[str, Any] | None = None,
        waits: bool = False,
    ) -> None:
        self._state = state
        self._upload_id = upload_id
        self._resumed = resumed
        self._waits = waits
        self._lasting = _Lasting(context, f"airflow_360_session_{upload_id}")

    def load(self) -> CreationRecord:
        """Return the saved record, or an empty one."""
        saved = self._state.get(Key.PROJECT, self._upload_id) or self._resumed
        if saved:
            return CreationRecord.from_json(saved)
        return CreationRecord.from_json(self._lasting.get()).without_failures()  # perhaps of another run

    def save(self, record: CreationRecord) -> None:
        """Save the record, or delete its variable if it is no longer needed."""
        self._state.set(Key.PROJECT, self._upload_id, value=record.to_json())
        if record.name == self._upload_id and not self._waits and not self._lasting.with_assets:
            self._lasting.delete()
        elif (
            not self._lasting.set(record.to_json()) and record.stage is Stage.SENDING and self._lasting.get()
        ):
            error = ProjectError(
                f"The request to create a project of session {self._upload_id} could not be recorded, so it "
                "was not sent. Airflow's API server or database failed; a retry sends it."
            )
            error.retryable = True
            raise error


class LinkRecords:
    """The saved records of a link's project: one value for the task, with the record of each link.

    :param context: the task's context.
    :param state: the task's saved state.
    :param about: the origin of the project, as text without secrets.
    :param retries: the task's ``retries``, which ``max_tries`` exceeds after a clear.
    :param resumed: the record that a deferral carried, or None.
    """

    def __init__(
        self,
        context: Any,
        state: TaskState,
        about: str,
        retries: int,
        resumed: Mapping[str, Any] | None = None,
    ) -> None:
        ti = context["ti"]
        task = " ".join(str(getattr(ti, name, "")) for name in ("dag_id", "run_id", "task_id", "map_index"))
        self._state = state
        self._about = about
        self._resumed = resumed
        self._lasting = _Lasting(context, f"airflow_360_link_{_digest(task)}")
        self._complete = self._lasting.with_assets or (
            state.available
            and state.clears == str(retries)
            and not conf.getboolean("state_store", "clear_on_success", fallback=False)
        )

    def load(self) -> CreationRecord:
        """Return the saved record. Without one: unsent if no clear can have deleted it, else unknown."""
        saved = self._all()
        if self._about in saved or self._resumed:
            return CreationRecord.from_json(saved.get(self._about) or self._resumed)
        if record := self._of_this_attempt():
            return record
        # A link that is signed again for each attempt looks like a different link.
        unsent = self._complete and all(map(_is_unsent, saved.values()))
        return CreationRecord(Stage.UNSENT if unsent else Stage.UNKNOWN)

    def _of_this_attempt(self) -> CreationRecord | None:
        """Return the record of an earlier run of this attempt, which was rescheduled, with another link.

        Such a link is the same one, signed again; an object in S3 has a path that does not change.
        """
        if not self._about.startswith("link "):
            return None
        values = (self._state.get(Key.PROJECTS_OF_LINKS) or {}).values()
        records = [CreationRecord.from_json(value) for value in values]
        this = self._state.attempt, self._state.clears
        mine = [record for record in records if (record.attempt, record.clears) == this]
        sent = [record for record in mine if record.stage is not Stage.UNSENT]
        return next(iter([*sent, *mine]), None)

    def save(self, record: CreationRecord) -> None:
        """Save the record. Of other links, only a record of what was sent is kept."""
        sent = {about: value for about, value in self._all().items() if not _is_unsent(value)}
        value = {**sent, self._about: record.to_json()}
        self._state.set(Key.PROJECTS_OF_LINKS, value=value)
        if self._lasting.with_assets:
            self._lasting.set(value)

    def _all(self) -> dict[str, Any]:
        saved = self._state.get(Key.PROJECTS_OF_LINKS)
        if not saved and self._lasting.with_assets:
            values = (self._lasting.get() or {}).items()  # perhaps of a run with this name that was deleted
            return {
                about: CreationRecord.from_json(value).without_failures().to_json() for about, value in values
            }
        return saved or {}


class _Lasting:
    """One value that survives a clear; a store that fails counts as empty."""

    def __init__(self, context: Any, key: str) -> None:
        stores = lasting_stores(context, DESCRIPTION)
        self._key = key
        self.with_assets = len(stores) > 1
        self._store = stores[0] if self.with_assets or not lasting_inlets() else None

    def get(self) -> Any:
        try:
            return None if self._store is None else self._store.get(self._key)
        except Exception as error:  # noqa: BLE001  (any error: the task can do without it)
            log.warning("The record of an earlier attempt could not be read: %s", error)
            return None

    def set(self, value: Any) -> bool:
        """Save a value if there is a store; return False if that failed."""
        try:
            if self._store is not None:
                self._store.set(self._key, value)
        except Exception as error:  # noqa: BLE001  (as above)
            log.warning("The record of this attempt could not be saved for after a clear: %s", error)
            return False
        return True

    def delete(self) -> None:
        """Delete a variable, because Airflow's UI lists each one. An asset's state stays."""
        try:
            if self._store is not None and not self.with_assets:
                self._store.delete(self._key)
        except Exception as error:  # noqa: BLE001  (as above)
            log.info("A variable could not be deleted: %s", error)


def new_session(context: Any, upload_id: str, created: float) -> None:
    """Record for the project task that nothing was sent for a new session.

    :param context: the context of the task that created the session.
    :param upload_id: the session.
    :param created: the time of its creation, on the server's clock.
    """
    record = CreationRecord(Stage.UNSENT, session_created=created)
    _Lasting(context, f"airflow_360_session_{upload_id}").set(record.to_json())


def forget_session(context: Any, upload_id: str) -> None:
    """Delete the variable of a session whose project is ready and has its name.

    :param context: the task's context.
    :param upload_id: the session.
    """
    _Lasting(context, f"airflow_360_session_{upload_id}").delete()


def _is_unsent(value: object) -> bool:
    return CreationRecord.from_json(value).stage is Stage.UNSENT


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
