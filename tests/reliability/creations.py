"""The creation of one session's project without Airflow, and stores for its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.projects.creation import CreationRecord, ProjectCreation, RecordStore

__all__ = ["FileRecords", "MemoryRecords", "creation_of"]


def creation_of(client: ThreeSixtyClient, upload_id: str, store: RecordStore, **more: Any) -> ProjectCreation:
    """Return the creation of one session's project.

    :param more: fields of :class:`ProjectCreation`.
    """

    def check(client: ThreeSixtyClient) -> None:
        client.list_files(upload_id)

    parts: dict[str, Any] = {
        "call": lambda ask: ask(client),
        "store": store,
        "about": f"session {upload_id}",
        "upload_id": upload_id,
        "create": lambda client: client.create_project({"upload_id": upload_id}),
        "check": check,
    }
    return ProjectCreation(**{**parts, **more})


class MemoryRecords:
    """A record in memory, as JSON."""

    def __init__(self) -> None:
        self._saved: str | None = None

    def load(self) -> CreationRecord:
        return CreationRecord.from_json(json.loads(self._saved or "null"))

    def save(self, record: CreationRecord) -> None:
        self._saved = json.dumps(record.to_json())


class FileRecords:
    """A record in a file, which outlives a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> CreationRecord:
        return CreationRecord.from_json(json.loads(self._path.read_text()) if self._path.exists() else None)

    def save(self, record: CreationRecord) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(record.to_json()))
        draft.replace(self._path)
