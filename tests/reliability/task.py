"""One attempt at one task of a night run, in a process of its own that `test_kill.py` may kill at any moment.

Without Airflow, so that it starts quickly: what Airflow keeps between attempts is a file here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airflow_360.api.backoff import Backoff
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.exceptions import ProjectError
from airflow_360.hooks.task_state import TaskState
from airflow_360.operators.once import OnlyOnce
from airflow_360.sources import Reader
from airflow_360.sources.path import PathSource
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer

CHUNK = 32 * 1024
BLOCK = CHUNK // 8
SECONDS_PER_BLOCK = 0.001

#: The exit status of a task that failed for good.
FAILED = 3


class SlowSource(PathSource):
    """A file whose bytes come so slowly that there is time to be killed while a chunk is being sent."""

    def open(self, offset: int) -> Reader:
        return _SlowReader(super().open(offset))


class _SlowReader:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.close = reader.close

    def read(self, size: int, /) -> bytes:
        time.sleep(SECONDS_PER_BLOCK)
        return self._reader.read(min(size, BLOCK))


class FileStore:
    """Airflow's task state store, as far as it is used: in a file, which outlives a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        return self._all().get(key)

    def set(self, key: str, value: Any) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({**self._all(), key: value}))
        draft.replace(self._path)

    def _all(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return content


def _no_wait(seconds: float) -> None:
    """Wait hardly at all; the two minutes of looking for a project would be too long."""
    time.sleep(min(seconds, 0.001))


def main(task: str, server: str, upload_id: str, folder: str, attempt: str, clears: str) -> int:
    """Run one attempt at ``upload`` or ``project``; the result goes to stdout, an error to stderr."""
    print("go", flush=True)
    client = ThreeSixtyClient(Transport(server, "sk_kill"), Backoff(sleep=_no_wait))
    if task == "upload":
        source = SlowSource(Path(folder, "scan.e57"))
        print(upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(CHUNK)).received)
        return 0
    state = TaskState({"task_state_store": FileStore(Path(folder, "state.json"))})
    about = f"session {upload_id}"
    once = OnlyOnce(client, state, about, upload_id, int(attempt), int(clears), sleep=_no_wait)
    try:
        print(once.project(lambda: client.create_project({"upload_id": upload_id})).name)
    except ProjectError as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
