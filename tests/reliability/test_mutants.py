"""What no other test would notice, had it been otherwise: found by changing the code (`make mutants`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_360.api.records import FileProgress
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    InvalidRequestError,
    NoReplyError,
    OffsetMismatchError,
    ProjectError,
    SourceChangedError,
    ThreeSixtyError,
    UploadStalledError,
)
from airflow_360.hooks.task_state import TaskState
from airflow_360.operators.once import OnlyOnce
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from tests.airflow.conftest import StateStore
from tests.fakes import (
    HiccupSource,
    MemorySource,
    Recorder,
    Waits,
    client_for,
    http_reply,
    requests_of,
    some_bytes,
    strict_emulator,
)

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
    assert task.waits == 2 * [10]
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    assert task.run(attempt=3, clears=1) == name
    assert list(emulator.store.projects) == [name]


def test_a_project_that_is_missing_for_a_moment(emulator: Emulator) -> None:
    """A project that is missing twice in a row is not gone, and a clear then makes no second one."""
    task = Task(emulator)
    name = task.run()
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({**gone, "times": 2})
    assert task.run(attempt=2, clears=1) == name
    assert len(requests_of(emulator, "POST", "/projects")) == 1


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
    """A retry after an attempt that sent nothing knows whose project was there, and takes it for no reply."""
    stranger = emulator.store.take_name()
    task = Task(emulator)

    def incomplete() -> None:
        raise ProjectError("a file is not complete")

    with pytest.raises(ProjectError, match="not complete"):
        task.run(check=incomplete)
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    with pytest.raises(ProjectError, match="the name of an older project"):
        task.run(attempt=2)
    assert task.run(attempt=3, clears=1) != stranger
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


# -- what is told, word by word


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What this package logs from here on."""
    caplog.set_level(logging.INFO, logger="airflow_360")
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener = Listener()
    logging.getLogger("airflow_360").addHandler(listener)
    yield messages
    logging.getLogger("airflow_360").removeHandler(listener)


def test_what_is_told_of_a_project(emulator: Emulator, told: list[str]) -> None:
    """A project that is taken over, gone, looked for or made anew is told of with session and name."""
    task = Task(emulator)
    name = task.run()
    assert task.run() == name  # again in its first attempt, after a wait
    assert told == []
    task.run(attempt=2)
    assert told == [f"session {name} became project {name} already: nothing is created."]
    del emulator.store.projects[name]
    task.run(attempt=3, clears=1)
    assert told[1:] == [
        f"Project {name}, made of session {name} before, is gone: creating another, as asked."
    ]
    told.clear()

    task = Task(emulator)
    about = f"session {task.upload_id}"
    emulator.faults.add({"on": POST, "do": "status", "status": 503, "body": {"error": "busy"}})
    with pytest.raises(ProjectError) as raised:
        task.run()
    assert told == [
        "POST /api/v1/projects: the server answered 503 busy. Looking whether the project was created all "
        "the same."
    ]
    assert str(raised.value) == (
        f"Nobody can tell whether a project was created of {about}: a request to create it got no answer. "
        f"Look at your projects on {emulator.url}. If it is there, mark this task as success; if it is not, "
        "clear this task, which creates it again."
    )
    told.clear()
    task.run(attempt=2, clears=1)
    assert told == [
        f"Creating a project of {about} anew: this task was cleared after a request to create it got no "
        "answer."
    ]


def test_what_is_told_of_a_stranger(emulator: Emulator, told: list[str]) -> None:
    """A project that is made anew beside one of the session's name is told of with both."""
    emulator.store.take_name()
    task = Task(emulator)
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    with pytest.raises(ProjectError):
        task.run()
    told.clear()
    task.run(attempt=2, clears=1)
    assert told == [
        f"Creating a project of session {task.upload_id} anew: this task was cleared after a request to "
        f"create it got no answer, and {task.upload_id} is the name of an older project."
    ]


@pytest.mark.parametrize("link", [False, True])
def test_what_is_told_without_a_memory(emulator: Emulator, link: bool) -> None:
    """A task that remembers nothing says what it found and what would make another project."""
    task = Task(emulator, memory=False)
    task.run()
    about, found, over = (
        f"session {task.upload_id}",
        f"a project called {task.upload_id} is there",
        "clear the session task",
    )
    once = OnlyOnce(task.client, task.state, about, task.upload_id, attempt=2, clears=0)
    if link:
        once.upload_id, found, over = None, "there is nothing to ask for", "trigger a new run"
    with pytest.raises(ProjectError) as raised:
        once.project(lambda: task.client.create_project({"download_link": "https://x/y.e57"}))
    assert str(raised.value) == (
        f"Nobody can tell whether a project was created of {about}: this Airflow keeps nothing of this "
        f"task's earlier attempts, and {found}. Look at your projects on {emulator.url}. If it is there, "
        f"mark this task as success; to make another, {over}."
    )
    assert len(emulator.store.projects) == 1


def test_what_is_told_where_nobody_answers(emulator: Emulator) -> None:
    """A request without an answer is told of with the server, the cause, and what to check."""
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    client = client_for(emulator)
    with pytest.raises(NoReplyError) as raised:
        client.create_project({"download_link": "https://x/y.e57"})
    told = str(raised.value)
    assert told.startswith(f"POST /api/v1/projects: no answer from {emulator.url} (RemoteDisconnected: ")
    assert told.endswith("). If this goes on, check the connection's host and the network.")


HERE = "GET /api/v1/projects: the server answered"
NO_JSON = "without the JSON of a 360 server."
PROXY = "Check that the connection's host is a 360 server and that no proxy stands between."


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 418, "body": {"error": "teapot", "a": 1, "b": "x\ny"}}, "418 teapot, a: 1, b: x y."),
        ({"status": 418, "body": "<p>"}, f"418 {NO_JSON} {PROXY}"),
        ({"status": 400, "body": "<p>"}, f"400 {NO_JSON} {PROXY}"),
        ({"status": 499, "body": "<p>"}, f"499 {NO_JSON} {PROXY}"),
        ({"status": 500, "body": "<p>"}, f"500 {NO_JSON}"),
        ({"status": 300, "body": "<p>"}, f"300 {NO_JSON} It points to ?: set the connection's host to it."),
        (
            {"status": 399, "body": "<p>", "headers": {"Location": "https://x/"}},
            f"399 {NO_JSON} It points to https://x/: set the connection's host to it.",
        ),
        (
            {"status": 429, "body": {"error": "rate_limited"}, "headers": {"Retry-After": "3000"}},
            "429 rate_limited. It asks to wait 3000 s.",
        ),
        (
            {"status": 418, "body": {"error": "teapot", "a": "", "b": "", "c": 300 * "c", "d": 888 * "d"}},
            f"418 teapot, a: , b: , c: {300 * 'c'}, d: {300 * 'd'}….",
        ),
        (
            {"status": 418, "body": {"error": "teapot", **{key: 999 * key for key in "abc"}}},
            f"418 teapot, a: {300 * 'a'}…, b: {300 * 'b'}…, c: {283 * 'c'}….",
        ),
    ],
    ids=[
        "detail",
        "page",
        "400",
        "499",
        "500",
        "nowhere",
        "elsewhere",
        "limit",
        "long",
        "too long",
    ],
)
def test_what_is_told_of_a_refusal(emulator: Emulator, fault: dict[str, Any], said: str) -> None:
    """A refusal is told in one sentence, with all that the server said up to a length, and with advice."""
    emulator.faults.add({"on": "GET /projects", "do": "status", **fault})
    with pytest.raises(ThreeSixtyError) as raised:
        client_for(emulator, tries=0).list_projects()
    assert str(raised.value) == f"{HERE} {said}"


def test_what_is_told_of_an_upload(emulator: Emulator, told: list[str]) -> None:
    """A new upload says nothing of resuming, and a complete one that nothing is sent."""
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    for _ in range(2):
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    assert told == ["scan.e57: is complete on the server already, nothing is sent"]


def test_what_is_told_of_a_stall(emulator: Emulator) -> None:
    """An upload that does not grow although nothing failed says no more than that."""
    body = {"received": 4, "total": 10, "complete": False}
    emulator.faults.add({"on": "PUT /uploads/*/*", "do": "status", "status": 200, "body": body, "times": 2})
    client = client_for(emulator, tries=0)
    upload_id = client.create_upload_session().upload_id
    with pytest.raises(UploadStalledError) as raised:
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    assert str(raised.value) == (
        "scan.e57: the server holds 4 of 10 bytes, and that does not grow. Run the task again to resume from "
        "there."
    )


def test_what_is_told_of_a_proxy(told: list[str]) -> None:
    """A chunk that a proxy found too large is told of with the size that is tried next."""
    with strict_emulator(max_body_bytes=1 << 20) as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id
        source = MemorySource(bytes(3 << 20))
        upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(2 << 20), ask=False)
    assert told == [
        f"PUT /api/v1/uploads/{upload_id}/scan.e57: the server answered 413 {NO_JSON} {PROXY} Sending at "
        "most 1.0 MiB at a time from here on."
    ]


def test_what_is_told_of_a_source(emulator: Emulator, told: list[str]) -> None:
    """A source that hiccups is told of with the byte, and one that ends early with what to do."""
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    upload(client, upload_id, HiccupSource(some_bytes(10), at=4), "a.e57", chunks=ChunkSizer(20), ask=False)
    assert told == ["the store hung up Opening it again at byte 4."]
    with pytest.raises(SourceChangedError) as raised:
        upload(client, upload_id, MemorySource(b"012345", size=10), "b.e57", ask=False)
    assert str(raised.value) == (
        "scans/scan.e57 ends at 6 bytes and had 10 when the upload began. Let it be written to its end, then "
        "clear the session task."
    )


@pytest.mark.parametrize("known", [False, True], ids=["nothing known", "begun"])
def test_a_whole_file_has_no_range(known: bool) -> None:
    """A file of one chunk goes without a range where the server knows nothing of it, and else with one."""
    begun = {"received": 0, "total": 4, "complete": False}
    with Recorder(http_reply(200, {"received": 4, "total": 4, "complete": True})) as server:
        progress = FileProgress.from_reply(begun) if known else None
        upload(
            client_for(server.url), "AAAAAAAA", MemorySource(b"scan"), "a.e57", ask=False, progress=progress
        )
    (put,) = server.heard
    assert put.headers.get("Content-Range") == ("bytes 0-3/4" if known else None)


def test_nobody_there_is_surely_not_sent() -> None:
    """A request for which there was no connection was surely not sent, and keys are told apart."""
    client = client_for("http://127.0.0.1:1", tries=0)
    with pytest.raises(NoReplyError) as raised:
        client.list_projects()
    assert not raised.value.sent
    assert client.has_key_of(client_for("http://127.0.0.1:2"))
    assert not client.has_key_of(client_for("http://127.0.0.1:1", key="sk_other"))


def test_what_is_told_of_a_conflict(emulator: Emulator) -> None:
    """A 409 may say that the server holds nothing; one that does not say how much is told of as no answer."""
    client = client_for(emulator, tries=0)
    for body in ({"error": "non_contiguous_chunk", "received": 0}, {"error": "non_contiguous_chunk"}):
        emulator.faults.add({"on": "GET /projects", "do": "status", "status": 409, "body": body})
    with pytest.raises(OffsetMismatchError) as raised:
        client.list_projects()
    assert raised.value.received == 0
    with pytest.raises(NoReplyError) as silent:
        client.list_projects()
    assert str(silent.value) == f"{HERE} 409 without saying how much it holds."
