"""One attempt of a task of a nightly run, in a separate process that `test_kill.py` may kill at any moment.

Without Airflow, so that it starts quickly: the state that Airflow saves between attempts is a file here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from airflow_360.api.backoff import Backoff
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.exceptions import ProjectError
from airflow_360.projects.creation import Pause
from airflow_360.projects.times import CreationTimes
from airflow_360.sources import Reader
from airflow_360.sources.path import PathLocation, PathSource
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from tests.reliability.creations import FileRecords, creation_of

CHUNK = 32 * 1024
BLOCK = CHUNK // 8
SECONDS_PER_BLOCK = 0.001

#: The exit status of a task that failed permanently.
FAILED = 3

#: Quarters of an hour become fractions of a second. A request that was cut off by a kill ends before that.
TIMES = CreationTimes(
    in_place=60.0,
    shortest=0.02,
    longest=0.1,
    after_break=1.0,
    after_timeout=1.0,
    without_session=2.0,
    missing=0.02,
)


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


def _no_wait(seconds: float) -> None:
    """Wait hardly at all between the tries of one request."""
    time.sleep(min(seconds, 0.001))


def main(task: str, server: str, upload_id: str, folder: str, attempt: str) -> int:
    """Run one attempt of ``upload`` or ``project``; the result is written to stdout, an error to stderr."""
    print("go", flush=True)
    client = ThreeSixtyClient(Transport(server, "sk_kill"), Backoff(sleep=_no_wait))
    if task == "upload":
        path = Path(folder, "scan.e57")
        source = SlowSource(path, PathLocation(path).info())
        print(upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(CHUNK)).received)
        return 0
    store = FileRecords(Path(folder, "record.json"))
    creation = creation_of(client, upload_id, store, attempt=int(attempt), times=TIMES)
    try:
        done = creation.run()
    except ProjectError as error:
        print(error, file=sys.stderr)
        return FAILED
    assert not isinstance(done, Pause)
    print(done.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
