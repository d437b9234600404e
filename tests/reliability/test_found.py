"""Replies that do not answer the request, and requests that were not sent: found by the long tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import Project
from airflow_360.projects.creation import CreationTimes, Pause
from tests.fakes import Steps, client_for, strict_emulator
from tests.reliability.creations import MemoryRecords, creation_of


def filled_session(client: ThreeSixtyClient) -> str:
    upload_id = client.create_upload_session().upload_id
    client.put_file(upload_id, "a.e57", b"scan")
    return upload_id


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, upload_id: client.get_file_progress(upload_id, "a.e57"),
        lambda client, upload_id: client.list_files(upload_id),
        lambda client, upload_id: client.get_project(upload_id),
    ],
    ids=["file", "session", "project"],
)
def test_an_answer_to_something_else(ask: Callable[[ThreeSixtyClient, str], Any]) -> None:
    """JSON that does not answer the question is not a reply: the request is sent again."""
    with strict_emulator() as emulator:
        client = client_for(emulator)
        upload_id = filled_session(client)
        client.create_project({"upload_id": upload_id})
        emulator.faults.add({"on": "GET /**", "do": "garbage", "body": {"ok": True}})
        assert ask(client, upload_id)


class Task:
    """One task that creates the project of one session, over its attempts, without waiting."""

    def __init__(self, client: ThreeSixtyClient) -> None:
        self.client = client
        self.upload_id = filled_session(client)
        self.clock = Steps(0.0)
        self.requests: list[str] = []
        self._records = MemoryRecords()

    def run(self, attempt: int = 1, clears: int = 0) -> Project | Pause:
        """Run one attempt; a pause is not waited for."""
        return creation_of(
            self.client,
            self.upload_id,
            self._records,
            first=attempt == 1,
            clears=str(clears),
            on_request=self.requests.append,
            times=CreationTimes(in_place=0.0),
            clock=self.clock,
        ).run()


def test_a_failed_listing_is_not_a_post() -> None:
    """If the session could not even be listed, no project was requested; the retry creates it immediately."""
    with strict_emulator(processing_seconds=0) as emulator:
        task = Task(client_for(emulator))
        emulator.faults.add({"on": "GET /uploads/*", "do": "status", "status": 502})
        assert isinstance(task.run(), Pause)
        done = task.run(attempt=2)
        assert isinstance(done, Project)
        assert task.requests == ["asked"]
        assert list(emulator.store.projects) == [done.name]


def test_a_refusal_does_not_end_an_older_doubt() -> None:
    """A project of a doubtful request that appears late is reused, even if a clear met a rate limit."""
    with strict_emulator(processing_seconds=0) as emulator:
        task = Task(client_for(emulator, tries=0))
        emulator.faults.add({"on": "POST /projects", "do": "status", "status": 504})
        assert isinstance(task.run(), Pause)
        task.clock.now += 3600
        emulator.faults.add({"on": "POST /projects", "do": "rate_limit", "retry_after": 3600})
        limited = task.run(attempt=2, clears=1)
        assert isinstance(limited, Pause)
        assert limited.rate_limit
        task.client.create_project({"upload_id": task.upload_id})  # the server finishes the first request
        done = task.run(attempt=2, clears=1)
        assert isinstance(done, Project)
        assert list(emulator.store.projects) == [done.name] == [task.upload_id]
