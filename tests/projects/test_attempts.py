"""One project per session over the attempts and clears of a task, against the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import Project
from airflow_360.emulator import Emulator
from airflow_360.exceptions import ProjectError
from airflow_360.projects.creation import CreationTimes, Pause, ProjectCreation
from tests.fakes import Steps, client_for, requests_of, strict_emulator
from tests.reliability.creations import MemoryRecords, creation_of

POST = "POST /projects"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with strict_emulator(processing_seconds=0) as emulator:
        yield emulator


class Task:
    """One task that creates the project of one session, over its attempts; its waits take no time.

    :ivar waits: the seconds of each wait.
    :ivar requests: what was recorded of its requests to create a project.
    """

    def __init__(self, client: ThreeSixtyClient) -> None:
        self.client = client
        self.clock = Steps(0.0)
        self.waits: list[float] = []
        self.requests: list[str] = []
        self.upload_id = client.create_upload_session().upload_id
        client.put_file(self.upload_id, "a.e57", b"scan")
        self._records = MemoryRecords()

    def run(self, attempt: int = 1, clears: int = 0, check: Callable[[], None] = lambda: None) -> str:
        """Run one attempt to its end, and return the project's name."""

        def checked(client: ThreeSixtyClient) -> None:
            client.list_files(self.upload_id)
            check()

        creation = self._creation(attempt, clears, check=checked, title="Bridge", sleep=self._sleep)
        while isinstance(done := creation.run(), Pause):
            self._sleep(done.seconds)
        return done.name

    def run_to_a_pause(self, attempt: int = 1, clears: int = 0) -> Project | Pause:
        """Run one attempt; a pause is not waited for."""
        times = CreationTimes(in_place=0.0)
        return self._creation(attempt, clears, on_request=self.requests.append, times=times).run()

    def _creation(self, attempt: int, clears: int, **more: Any) -> ProjectCreation:
        return creation_of(
            self.client,
            self.upload_id,
            self._records,
            first=attempt == 1,
            clears=str(clears),
            clock=self.clock,
            **more,
        )

    def _sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.waits.append(seconds)


def test_a_deleted_project_is_created_again_after_a_lost_reply(emulator: Emulator) -> None:
    """A project that is gone is created again by a clear, even if the reply is lost, and by no retry."""
    task = Task(client_for(emulator, tries=0))
    name = task.run()
    del emulator.store.projects[name]
    with pytest.raises(ProjectError, match="was deleted"):
        task.run(attempt=2)
    assert task.waits == 2 * [10]
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    assert task.run(attempt=3, clears=1) == name
    assert list(emulator.store.projects) == [name]


def test_a_project_that_is_missing_for_a_moment_is_not_deleted(emulator: Emulator) -> None:
    """A project that is missing twice in a row is not gone, and a clear then creates no second one."""
    task = Task(client_for(emulator, tries=0))
    name = task.run()
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({**gone, "times": 2})
    assert task.run(attempt=2, clears=1) == name
    assert len(requests_of(emulator, "POST", "/projects")) == 1


def test_the_search_ends_with_another_post(emulator: Emulator) -> None:
    """A project that does not appear is searched for at growing intervals, a quarter of an hour long."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    assert task.run() == task.upload_id
    assert sum(task.waits) == 15 * 60
    assert task.waits[:6] == [1, 1, 2, 4, 8, 16]
    assert max(task.waits) == 120
    # Once before the request, and before, between and after the waits.
    assert len(requests_of(emulator, "GET", f"/projects/{task.upload_id}")) == 1 + len(task.waits) + 1


def test_a_stranger_is_recognized_again(emulator: Emulator) -> None:
    """A retry after an attempt that sent nothing recognizes another account's project; in doubt it stops."""
    emulator.store.take_name()
    task = Task(client_for(emulator, tries=0))

    def incomplete() -> None:
        raise ProjectError("a file is not complete")

    with pytest.raises(ProjectError, match="not complete"):
        task.run(check=incomplete)
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    for attempt, clears in ((2, 0), (3, 1)):
        with pytest.raises(ProjectError, match="another project had the name"):
            task.run(attempt, clears)
    assert task.waits == []
    assert len(requests_of(emulator, "POST", "/projects")) == 1


def test_a_failed_listing_is_not_a_post(emulator: Emulator) -> None:
    """If the session could not even be listed, no project was requested; the retry creates it immediately."""
    task = Task(client_for(emulator))
    emulator.faults.add({"on": "GET /uploads/*", "do": "status", "status": 502})
    assert isinstance(task.run_to_a_pause(), Pause)
    done = task.run_to_a_pause(attempt=2)
    assert isinstance(done, Project)
    assert task.requests == ["asked"]
    assert list(emulator.store.projects) == [done.name]


def test_a_refusal_does_not_end_an_older_doubt(emulator: Emulator) -> None:
    """A project of a doubtful request that appears late is reused, even if a clear met a rate limit."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": "POST /projects", "do": "status", "status": 504})
    assert isinstance(task.run_to_a_pause(), Pause)
    task.clock.now += 3600
    emulator.faults.add({"on": "POST /projects", "do": "rate_limit", "retry_after": 3600})
    limited = task.run_to_a_pause(attempt=2, clears=1)
    assert isinstance(limited, Pause)
    assert limited.rate_limit
    task.client.create_project({"upload_id": task.upload_id})  # the server finishes the first request
    done = task.run_to_a_pause(attempt=2, clears=1)
    assert isinstance(done, Project)
    assert list(emulator.store.projects) == [done.name] == [task.upload_id]
