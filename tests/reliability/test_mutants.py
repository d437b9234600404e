"""What no other test would notice, had it been otherwise: found by changing the code (`make mutants`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_360.emulator import Emulator
from airflow_360.exceptions import InvalidRequestError, ProjectError
from airflow_360.hooks.task_state import TaskState
from airflow_360.operators.once import OnlyOnce
from tests.airflow.conftest import StateStore
from tests.fakes import Waits, client_for, requests_of, strict_emulator

POST = "POST /projects"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with strict_emulator(processing_seconds=0) as emulator:
        yield emulator


class Task:
    """One task that makes a project of one session, over its attempts."""

    def __init__(self, emulator: Emulator, *, memory: bool = True) -> None:
        self.client = client_for(emulator)
        self.state = TaskState({"task_state_store": StateStore() if memory else None})
        self.waits = Waits()
        self.upload_id = self.client.create_upload_session().upload_id
        self.client.put_file(self.upload_id, "a.e57", b"scan")

    def run(self, attempt: int = 1, clears: int = 0, check: Callable[[], None] = lambda: None) -> str:
        about = f"session {self.upload_id}"
        once = OnlyOnce(self.client, self.state, about, self.upload_id, attempt, clears, sleep=self.waits)
        return once.project(lambda: self.client.create_project({"upload_id": self.upload_id}), check).name

    def forget(self) -> None:
        self.state = TaskState({"task_state_store": StateStore()})


def test_a_project_that_was_deleted(emulator: Emulator) -> None:
    """A project that is gone is made again by a clear, even if the reply is lost, and by no retry."""
    task = Task(emulator)
    name = task.run()
    del emulator.store.projects[name]
    with pytest.raises(ProjectError, match="is gone from the server"):
        task.run(attempt=2)
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    assert task.run(attempt=3, clears=1) == name
    assert list(emulator.store.projects) == [name]


def test_looking_ends_after_two_minutes(emulator: Emulator) -> None:
    """A project that does not show is looked for every ten seconds, two minutes long."""
    task = Task(emulator)
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    with pytest.raises(ProjectError, match="Nobody can tell"):
        task.run()
    assert task.waits == 12 * [10]
    # Once before the request, and before, between and after the waits.
    assert len(requests_of(emulator, "GET", f"/projects/{task.upload_id}")) == 1 + 13


def test_a_refusal_leaves_no_doubt(emulator: Emulator) -> None:
    """After a refused request the next attempt sends it again and looks for nothing."""
    task = Task(emulator)
    emulator.faults.add({"on": POST, "do": "status", "status": 400, "body": {"error": "odd"}})
    with pytest.raises(InvalidRequestError):
        task.run()
    assert task.run(attempt=2) == task.upload_id
    assert task.waits == []


def test_a_strangers_project_after_a_clear(emulator: Emulator) -> None:
    """A stranger's project is not taken over either where a clear posts again and gets no reply."""
    emulator.store.take_name()
    task = Task(emulator)
    emulator.faults.add({"on": POST, "do": "status", "status": 503, "times": 2})
    for clears in (0, 1):
        with pytest.raises(ProjectError, match="the name of an older project"):
            task.run(attempt=clears + 1, clears=clears)


@pytest.mark.parametrize("memory", [False, True], ids=["no memory", "memory"])
def test_a_strangers_project_is_no_doubt(emulator: Emulator, memory: bool) -> None:
    """In a first attempt a project that bears the session's name is a stranger's, and stops nothing."""
    stranger = emulator.store.take_name()
    task = Task(emulator, memory=memory)
    assert task.run() != stranger
    assert len(emulator.store.projects) == 1


def test_a_stranger_is_remembered(emulator: Emulator) -> None:
    """A retry after an attempt that sent nothing knows whose project was there before, and waits for none."""
    stranger = emulator.store.take_name()
    task = Task(emulator)

    def incomplete() -> None:
        raise ProjectError("a file is not complete")

    with pytest.raises(ProjectError, match="not complete"):
        task.run(check=incomplete)
    assert task.run(attempt=2) != stranger
    assert task.waits == []


def test_forgotten_project(emulator: Emulator) -> None:
    """Where the record is gone, as under clear_on_success, a cleared task makes no second project."""
    task = Task(emulator)
    name = task.run()
    task.forget()
    with pytest.raises(ProjectError, match="keeps nothing of this task's earlier attempts") as caught:
        task.run(attempt=2, clears=1)
    assert f"a project called {name} is there" in str(caught.value)
    assert list(emulator.store.projects) == [name]


def test_without_a_memory_and_without_a_project(emulator: Emulator) -> None:
    """A retry that remembers nothing makes the project where there is none, and finds it without a reply."""
    task = Task(emulator, memory=False)
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    assert task.run(attempt=2) == task.upload_id
    assert list(emulator.store.projects) == [task.upload_id]


def test_without_a_memory_the_doubt_names_no_older_project(emulator: Emulator) -> None:
    """A retry that remembers nothing and finds a project says not whose it is."""
    task = Task(emulator, memory=False)
    task.run()
    with pytest.raises(ProjectError, match="Nobody can tell") as caught:
        task.run(attempt=2)
    assert "older project" not in str(caught.value)
