"""Behaviour that no other test covers: found by mutation testing (`make mutants`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    NoReplyError,
    OffsetMismatchError,
    ProjectError,
    SourceChangedError,
    ThreeSixtyError,
    UploadStalledError,
)
from airflow_360.projects.creation import Pause
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from tests.fakes import (
    HiccupSource,
    MemorySource,
    Recorder,
    Steps,
    client_for,
    http_reply,
    requests_of,
    some_bytes,
    strict_emulator,
)
from tests.reliability.creations import MemoryRecords, creation_of

POST = "POST /projects"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with strict_emulator(processing_seconds=0) as emulator:
        yield emulator


class Task:
    """One task that creates the project of one session, over its attempts; its waits take no time."""

    def __init__(self, emulator: Emulator) -> None:
        self.client = client_for(emulator, tries=0)
        self.clock = Steps(0.0)
        self.waits: list[float] = []
        self.upload_id = self.client.create_upload_session().upload_id
        self.client.put_file(self.upload_id, "a.e57", b"scan")
        self._records = MemoryRecords()

    def run(self, attempt: int = 1, clears: int = 0, check: Callable[[], None] = lambda: None) -> str:
        def checked(client: ThreeSixtyClient) -> None:
            client.list_files(self.upload_id)
            check()

        creation = creation_of(
            self.client,
            self.upload_id,
            self._records,
            check=checked,
            title="Bridge",
            first=attempt == 1,
            clears=str(clears),
            clock=self.clock,
            sleep=self._sleep,
        )
        while isinstance(done := creation.run(), Pause):
            self._sleep(done.seconds)
        return done.name

    def _sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.waits.append(seconds)


def test_a_deleted_project_is_created_again_after_a_lost_reply(emulator: Emulator) -> None:
    """A project that is gone is created again by a clear, even if the reply is lost, and by no retry."""
    task = Task(emulator)
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
    task = Task(emulator)
    name = task.run()
    gone = {"on": "GET /projects/*", "do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({**gone, "times": 2})
    assert task.run(attempt=2, clears=1) == name
    assert len(requests_of(emulator, "POST", "/projects")) == 1


def test_the_search_ends_with_another_post(emulator: Emulator) -> None:
    """A project that does not appear is searched for at growing intervals, a quarter of an hour long."""
    task = Task(emulator)
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
    task = Task(emulator)

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


# -- messages, word by word


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The log records of this package from here on."""
    caplog.set_level(logging.INFO, logger="airflow_360")
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener = Listener()
    logging.getLogger("airflow_360").addHandler(listener)
    yield messages
    logging.getLogger("airflow_360").removeHandler(listener)


def test_what_is_told_where_nobody_answers(emulator: Emulator) -> None:
    """The message about a request without an answer has the server, the cause, and the next step."""
    emulator.faults.add({"on": POST, "do": "lost_reply"})
    client = client_for(emulator)
    with pytest.raises(NoReplyError) as raised:
        client.create_project({"download_link": "https://x/y.e57"})
    told = str(raised.value)
    assert told.startswith(f"POST /api/v1/projects: no answer from {emulator.url} (RemoteDisconnected: ")
    assert told.endswith("). If this persists, check the connection's host and the network.")


HERE = "GET /api/v1/projects: the server answered"
NO_JSON = "(not a reply of the 360 API)."
MAINTENANCE = "It is probably a proxy or maintenance: try again later."
TOO_LARGE = (
    "It is probably a proxy that limits the size of a request: set a smaller chunk_size, or raise its limit "
    "(client_max_body_size in nginx)."
)
PROXY = "Check that the connection's host is a 360 server and that no proxy stands between."


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 418, "body": {"error": "teapot", "a": 1, "b": "x\ny"}}, "418 teapot, a: 1, b: x y."),
        ({"status": 418, "body": "<p>"}, f"418 {NO_JSON} {PROXY}"),
        ({"status": 400, "body": "<p>"}, f"400 {NO_JSON} {PROXY}"),
        ({"status": 499, "body": "<p>"}, f"499 {NO_JSON} {PROXY}"),
        ({"status": 500, "body": "<p>"}, f"500 {NO_JSON} {MAINTENANCE}"),
        ({"status": 413, "body": "<p>"}, f"413 {NO_JSON} {TOO_LARGE}"),
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
        "413",
        "nowhere",
        "elsewhere",
        "limit",
        "long",
        "too long",
    ],
)
def test_what_is_told_of_a_refusal(emulator: Emulator, fault: dict[str, Any], said: str) -> None:
    """The message of a refusal is one sentence, with the server's text up to a length, and with advice."""
    emulator.faults.add({"on": "GET /projects", "do": "status", **fault})
    with pytest.raises(ThreeSixtyError) as raised:
        client_for(emulator, tries=0).list_projects()
    assert str(raised.value) == f"{HERE} {said}"


def test_what_is_told_of_an_upload(emulator: Emulator, told: list[str]) -> None:
    """The log of a new upload does not mention resuming; that of a complete one says that nothing is sent."""
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    for _ in range(2):
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    assert told == ["scan.e57: is complete on the server already, nothing is sent"]


def test_what_is_told_of_a_stall(emulator: Emulator) -> None:
    """The message of an upload that does not grow without a failure is only that."""
    body = {"received": 4, "total": 10, "complete": False}
    emulator.faults.add({"on": "PUT /uploads/*/*", "do": "status", "status": 200, "body": body, "times": 2})
    client = client_for(emulator, tries=0)
    upload_id = client.create_upload_session().upload_id
    with pytest.raises(UploadStalledError) as raised:
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    assert str(raised.value) == (
        "scan.e57: upload stalled at 4 of 10 bytes: the server accepts no more. Run the task again to resume "
        "from there."
    )


def test_what_is_told_of_a_proxy(told: list[str]) -> None:
    """The log about a chunk that a proxy found too large contains the next size."""
    with strict_emulator(max_body_bytes=1 << 20) as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id
        source = MemorySource(bytes(3 << 20))
        upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(2 << 20), ask=False)
    assert told == [
        f"PUT /api/v1/uploads/{upload_id}/scan.e57: the server answered 413 {NO_JSON} {TOO_LARGE} Sending at "
        "most 1.0 MiB at a time from here on."
    ]


def test_what_is_told_of_a_source(emulator: Emulator, told: list[str]) -> None:
    """The message about a source that fails has the byte; one that ends early names the next step."""
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
    """A file of one chunk is sent without a range if the server has nothing of it, otherwise with one."""
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
    """A 409 may say that the server has 0 bytes; a 409 without a number is reported as an invalid reply."""
    client = client_for(emulator, tries=0)
    for body in ({"error": "non_contiguous_chunk", "received": 0}, {"error": "non_contiguous_chunk"}):
        emulator.faults.add({"on": "GET /projects", "do": "status", "status": 409, "body": body})
    with pytest.raises(OffsetMismatchError) as raised:
        client.list_projects()
    assert raised.value.received == 0
    with pytest.raises(NoReplyError) as silent:
        client.list_projects()
    assert str(silent.value) == f"{HERE} 409 without saying how much it holds."
