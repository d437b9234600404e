"""Many files of one session, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    AuthenticationError,
    FileRejectedError,
    QuotaError,
    RateLimitedError,
    SourceError,
    ThreeSixtyError,
    UploadError,
    UploadSessionNotFoundError,
    UploadStalledError,
)
from airflow_360.sources import Source
from airflow_360.upload.many import Job, SessionProgress, upload_many
from airflow_360.upload.ranges import ChunkSizer
from tests.fakes import MemorySource, Waits, client_for, held, requests_of, some_bytes, strict_emulator


class Session:
    """A session of an emulator, a client that does not wait, and files by name."""

    def __init__(self, emulator: Emulator, files: dict[str, bytes], **client: Any) -> None:
        self.emulator = emulator
        self.files = files
        self.waits = Waits()
        self.client: ThreeSixtyClient = client_for(emulator, sleep=self.waits, **client)
        self.upload_id = self.client.create_upload_session().upload_id
        self.sources = {name: MemorySource(data, path=name) for name, data in files.items()}
        self.tallies: list[SessionProgress] = []

    def jobs(self, **openers: Callable[[], Source]) -> list[Job]:
        return [
            Job(name, source.size, openers.get(name.partition(".")[0], self.opener(name)))
            for name, source in self.sources.items()
        ]

    def opener(self, name: str) -> Callable[[], Source]:
        return lambda: self.sources[name]

    def upload(self, jobs: list[Job] | None = None, **options: Any) -> None:
        upload_many(
            self.client,
            self.upload_id,
            self.jobs() if jobs is None else jobs,
            **{"parallel": 3, "chunks": ChunkSizer(4), "on_progress": self.tallies.append, **options},
        )

    def on(self, name: str) -> str:
        return f"PUT /uploads/{self.upload_id}/{name}"

    @property
    def puts(self) -> list[str]:
        """The file of each PUT."""
        return [e.path.rpartition("/")[2] for e in requests_of(self.emulator, "PUT")]

    def arrived(self, *but: str) -> bool:
        """Return whether the server has exactly the files, except some, complete and with their bytes."""
        there = {file.name: file for file in self.client.list_files(self.upload_id)}
        wanted = {name: data for name, data in self.files.items() if name not in but}
        return set(there) - set(but) == set(wanted) and all(
            there[name].complete and held(self.emulator, self.upload_id, name) == data
            for name, data in wanted.items()
        )


def small_files(count: int, size: int = 3) -> dict[str, bytes]:
    return {f"f{n}.e57": some_bytes(size + n % 2) for n in range(count)}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    """Fail if a test leaves a thread of an upload behind."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("upload")]


@pytest.mark.parametrize("parallel", [1, 2, 8, 100], ids=["one", "two", "as many", "more than files"])
def test_side_by_side(emulator: Emulator, parallel: int) -> None:
    """Small files cost one PUT each and one list for all of them, for any number in parallel."""
    session = Session(emulator, {**small_files(8), "empty.las": b""})
    session.upload(parallel=parallel)
    assert session.arrived()
    assert sorted(session.puts) == sorted(session.files)
    gets = requests_of(emulator, "GET")
    assert [exchange.path for exchange in gets[:-1]] == [f"/uploads/{session.upload_id}"]
    assert session.tallies[-1] == SessionProgress(9, sum(map(len, session.files.values())))
    assert all(source.opened in ([0], []) for source in session.sources.values())
    assert all(source.open_readers == 0 for source in session.sources.values())


def test_they_are_really_side_by_side(emulator: Emulator) -> None:
    """With `parallel=3` three files are uploaded at a time, and never four."""
    session = Session(emulator, small_files(9))
    lock, together, most = threading.Lock(), [0], [0]
    three = threading.Barrier(3, timeout=5)

    class Meeting(MemorySource):
        def open(self, offset: int) -> Any:
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
            three.wait()
            with lock:
                together[0] -= 1
            return super().open(offset)

    session.sources = {name: Meeting(data, path=name) for name, data in session.files.items()}
    session.upload()
    assert session.arrived()
    assert most == [3]


def test_one_at_a_time(emulator: Emulator) -> None:
    """With `parallel=1` the largest file is sent first and the smallest last."""
    session = Session(
        emulator, {"small.e57": b"1", "large.e57": b"1" * 9, "middle.e57": b"1" * 4, "none.e57": b""}
    )
    session.upload(parallel=1)
    assert session.puts == ["large.e57"] * 3 + ["middle.e57", "small.e57", "none.e57"]


def test_an_upload_of_no_files_ends_immediately(emulator: Emulator) -> None:
    """With no files the upload ends immediately."""
    session = Session(emulator, {})
    session.upload()
    assert session.puts == []


@pytest.mark.parametrize("parallel", [0, -1])
def test_less_than_one_thread_is_refused(emulator: Emulator, parallel: int) -> None:
    """Fewer than one file at a time is refused before anything is sent."""
    session = Session(emulator, small_files(2))
    emulator.exchanges.clear()
    with pytest.raises(UploadError, match="parallel must be at least 1"):
        session.upload(parallel=parallel)
    assert not emulator.exchanges


def test_progress_in_the_calling_thread(emulator: Emulator) -> None:
    """Progress is reported in the calling thread, in numbers that grow to all files and all bytes."""
    session = Session(emulator, {f"f{n}.e57": some_bytes(40) for n in range(6)})
    threads: set[int] = set()
    emulator.faults.add({"on": session.on("f0.e57"), "do": "stall", "seconds": 1.3})

    def on_progress(tally: SessionProgress) -> None:
        threads.add(threading.get_ident())
        session.tallies.append(tally)

    session.upload(on_progress=on_progress)
    assert threads == {threading.get_ident()}
    assert len(session.tallies) >= 2
    assert session.tallies == sorted(session.tallies, key=lambda tally: tally.received)
    assert session.tallies[0].files < 6
    assert session.tallies[-1] == SessionProgress(6, 240)


def test_no_callback_is_required(emulator: Emulator) -> None:
    """No callback is required."""
    session = Session(emulator, small_files(3))
    session.upload(on_progress=None)
    assert session.arrived()


# -- carrying on


def test_complete_files_are_not_sent_again(emulator: Emulator) -> None:
    """A second run costs one request in total, opens no source, and counts the existing files."""
    session = Session(emulator, small_files(5))
    session.upload()
    emulator.exchanges.clear()
    session.sources = {name: MemorySource(data, path=name) for name, data in session.files.items()}
    session.upload()
    assert [exchange.path for exchange in emulator.exchanges] == [f"/uploads/{session.upload_id}"]
    assert all(source.opened == [] for source in session.sources.values())
    assert session.tallies[-1] == SessionProgress(5, sum(map(len, session.files.values())))


def test_a_retry_sends_what_is_missing(emulator: Emulator) -> None:
    """After an interrupted run, only the missing bytes are sent, and each file continues from its mark."""
    session = Session(emulator, {f"f{n}.e57": some_bytes(10) for n in range(6)}, tries=0)
    emulator.faults.add({"on": session.on("f3.e57"), "do": "status", "status": 503, "skip": 1})
    with pytest.raises(UploadStalledError):
        session.upload()
    assert session.arrived("f3.e57")
    emulator.exchanges.clear()
    session.upload()
    assert session.arrived()
    assert [(e.path.rpartition("/")[2], e.start) for e in requests_of(emulator, "PUT")] == [
        ("f3.e57", 4),
        ("f3.e57", 8),
    ]
    assert session.tallies[-1] == SessionProgress(6, 60)


def test_what_else_the_session_holds_does_not_count(emulator: Emulator) -> None:
    """Files of the session that are not among these are neither counted nor touched."""
    session = Session(emulator, small_files(2))
    session.client.put_file(session.upload_id, "other.las", b"other")
    session.upload()
    assert session.tallies[-1].files == 2
    assert held(emulator, session.upload_id, "other.las") == b"other"


@pytest.mark.parametrize(
    "fault",
    [{"do": "lost_reply"}, {"do": "reset", "after_bytes": 2, "keep": True}, {"do": "rate_limit"}],
    ids=["lost reply", "reset", "429"],
)
def test_temporary_failures_end_in_complete_files(emulator: Emulator, fault: dict[str, Any]) -> None:
    """Temporary failures of several files at a time end in complete files with their own bytes."""
    session = Session(emulator, {f"f{n}.e57": some_bytes(10 + n) for n in range(8)})
    emulator.faults.add(*({"on": session.on(f"f{n}.e57"), "skip": 1, **fault} for n in range(0, 8, 2)))
    session.upload()
    assert session.arrived()
    assert session.tallies[-1] == SessionProgress(8, sum(map(len, session.files.values())))


# -- files that cannot be uploaded


def broken(session: Session) -> None:
    """Let three files be refused, one vanish, and one change."""
    body = {"error": "file_too_large"}
    session.emulator.faults.add(
        {"on": session.on("f1.e57"), "do": "status", "status": 413, "body": body},
        {"on": session.on("f4.e57"), "do": "status", "status": 413, "body": body},
    )


def test_refused_files_do_not_stop_the_others(emulator: Emulator) -> None:
    """Refused files are named together at the end, with their reasons, and all others are complete."""
    session = Session(emulator, small_files(12))
    broken(session)

    def vanished() -> Source:
        raise SourceError("f7.e57 does not exist", path="f7.e57")

    session.sources["f9.e57"] = MemorySource(b"0", size=3, path="f9.e57")
    with pytest.raises(UploadError) as raised:
        session.upload(session.jobs(f7=vanished))
    assert session.arrived("f1.e57", "f4.e57", "f7.e57", "f9.e57")
    assert type(raised.value) is UploadError
    assert not raised.value.retryable
    message = str(raised.value)
    assert message.startswith("4 of 12 files could not be uploaded")
    for said in ("f1.e57", "f4.e57", "413", "f7.e57 does not exist", "f9.e57 ends at 1 bytes"):
        assert said in message
    for name in ("f1.e57", "f4.e57"):
        assert session.puts.count(name) == 1


@pytest.mark.parametrize("code", ["invalid_filename", "invalid_content_range"])
def test_an_invalid_file_does_not_stop_the_others(emulator: Emulator, code: str) -> None:
    """A file with a 400 from the server is refused like any other, and the others are complete."""
    session = Session(emulator, small_files(12))
    emulator.faults.add({"on": session.on("f1.e57"), "do": "status", "status": 400, "body": {"error": code}})
    outcome: object = None
    try:
        session.upload()
    except ThreeSixtyError as error:
        outcome = error
    assert session.arrived("f1.e57")
    assert isinstance(outcome, UploadError)
    assert "f1.e57" in str(outcome)


def test_many_refused_files(emulator: Emulator) -> None:
    """Of very many refused files the message names twenty and counts the rest."""
    session = Session(emulator, small_files(50))
    body = {"error": "file_too_large"}
    emulator.faults.add(
        {
            "on": f"PUT /uploads/{session.upload_id}/*",
            "do": "status",
            "status": 413,
            "times": 50,
            "body": body,
        }
    )
    with pytest.raises(UploadError, match="and 30 more") as raised:
        session.upload()
    assert str(raised.value).count("\n- ") == 21
    assert len(session.puts) == 50


def test_after_a_413_with_a_limit() -> None:
    """After a 413 that names a limit no larger file is sent; smaller ones are."""
    files = {**{f"large{n}.e57": some_bytes(50 + n) for n in range(5)}, "small.e57": b"x"}
    with strict_emulator(max_file_bytes=10) as emulator:
        session = Session(emulator, files)
        with pytest.raises(UploadError, match=r"5 of 6 files.*(?s:.*)accepts files of at most 10 bytes"):
            session.upload(parallel=1)
        assert sum(name.startswith("large") for name in session.puts) == 1
        assert session.arrived(*(name for name in files if name.startswith("large")))


def test_after_a_415(caplog: pytest.LogCaptureFixture) -> None:
    """After a 415 no further file of an extension that it does not list is sent; the others are."""
    files = {**small_files(4), **{f"x{n}.xyz": some_bytes(9) for n in range(9)}, "y.las": b"y"}
    with strict_emulator(extensions=["e57", "las"]) as emulator:
        session = Session(emulator, files)
        with pytest.raises(UploadError, match="9 of 14 files could not be uploaded") as raised:
            session.upload(parallel=1)
        assert session.puts.count("x0.xyz") == 1
        assert len([name for name in session.puts if name.endswith(".xyz")]) == 1
        assert session.arrived(*(f"x{n}.xyz" for n in range(9)))
        assert not raised.value.retryable
        for n in range(9):
            assert f"x{n}.xyz" in str(raised.value)
            assert f"x{n}.xyz" in caplog.text
        assert "takes only e57, las" in str(raised.value)


def test_after_a_415_without_a_list(emulator: Emulator) -> None:
    """After a 415 that names only the extension, no further file of that extension is sent."""
    session = Session(emulator, {f"x{n}.xyz": b"abc" for n in range(5)})
    body = {"error": "extension_not_allowed", "extension": "xyz"}
    emulator.faults.add({"on": session.on("x0.xyz"), "do": "status", "status": 415, "body": body})
    with pytest.raises(UploadError):
        session.upload(parallel=1)
    assert session.puts == ["x0.xyz"]


def test_only_stalled_files(emulator: Emulator) -> None:
    """If every remaining error is temporary, so is the error of the whole upload."""
    session = Session(emulator, small_files(5), tries=1)
    emulator.faults.add({"on": session.on("f2.e57"), "do": "status", "status": 503, "times": 2})

    def busy() -> Source:
        raise SourceError("f4.e57 is busy", path="f4.e57", retryable=True)

    with pytest.raises(UploadStalledError, match="2 of 5 files") as raised:
        session.upload(session.jobs(f4=busy))
    assert raised.value.retryable
    assert session.arrived("f2.e57", "f4.e57")


def test_stalled_and_refused_files(emulator: Emulator) -> None:
    """If one file is refused permanently, a retry of the whole upload does not help."""
    session = Session(emulator, small_files(5), tries=1)
    body = {"error": "file_too_large"}
    emulator.faults.add(
        {"on": session.on("f2.e57"), "do": "status", "status": 503, "times": 2},
        {"on": session.on("f3.e57"), "do": "status", "status": 413, "body": body},
    )
    with pytest.raises(UploadError, match="2 of 5 files") as raised:
        session.upload()
    assert type(raised.value) is UploadError
    assert session.arrived("f2.e57", "f3.e57")


# -- errors that concern all files


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "upload_session_not_found", UploadSessionNotFoundError),
        (401, "invalid_api_key", AuthenticationError),
        (402, "storage_quota_exceeded", QuotaError),
        (413, "session_too_large", FileRejectedError),
    ],
)
def test_what_concerns_all_stops_all(
    emulator: Emulator, status: int, code: str, kind: type[ThreeSixtyError]
) -> None:
    """An error that does not concern a single file ends the others too, and is raised itself."""
    session = Session(emulator, small_files(60))
    body = {"error": code}
    on = f"PUT /uploads/{session.upload_id}/*"
    emulator.faults.add({"on": on, "do": "status", "status": status, "body": body, "skip": 5})
    with pytest.raises(kind):
        session.upload()
    assert len(session.puts) < 20
    assert session.waits == []


def test_session_really_gone(emulator: Emulator) -> None:
    """A session that is discarded during the upload ends it after at most one refused PUT per thread."""
    session = Session(emulator, {f"f{n}.e57": some_bytes(20) for n in range(20)})

    def discarding() -> Source:
        emulator.store.delete_session(session.upload_id)
        return session.sources["f7.e57"]

    with pytest.raises(UploadSessionNotFoundError):
        session.upload(session.jobs(f7=discarding))
    assert len([e for e in requests_of(emulator, "PUT") if e.status == 404]) <= 3


def test_session_gone_before(emulator: Emulator) -> None:
    """A session that does not exist costs one request."""
    session = Session(emulator, small_files(5))
    session.client.delete_upload_session(session.upload_id)
    emulator.exchanges.clear()
    with pytest.raises(UploadSessionNotFoundError):
        session.upload()
    assert len(emulator.exchanges) == 1


def test_long_rate_limit_stops_all(emulator: Emulator) -> None:
    """A rate limit that is too long to wait for ends all uploads, and the error contains its length."""
    session = Session(emulator, small_files(60))
    on = f"PUT /uploads/{session.upload_id}/*"
    emulator.faults.add({"on": on, "do": "rate_limit", "retry_after": 600, "skip": 5})
    with pytest.raises(RateLimitedError) as raised:
        session.upload()
    assert raised.value.retry_after == 600
    assert len(session.puts) < 20


def test_a_server_that_is_down_stops_all() -> None:
    """If one file after another stalls, the server is the cause: not every file is waited for to the end."""
    with Emulator() as emulator:
        session = Session(emulator, small_files(60), tries=1)
        on = f"PUT /uploads/{session.upload_id}/*"
        emulator.faults.add({"on": on, "do": "status", "status": 503, "times": 999})
        with pytest.raises(UploadStalledError) as raised:
            session.upload()
        assert raised.value.retryable
        assert len(session.puts) < 20


def test_a_large_file_stops_between_chunks(emulator: Emulator) -> None:
    """If all uploads have to stop, a file of many chunks is not sent to its end."""
    session = Session(emulator, {"huge.e57": some_bytes(4000), **small_files(5)})
    body = {"error": "invalid_api_key"}
    emulator.faults.add({"on": session.on("f3.e57"), "do": "status", "status": 401, "body": body})
    with pytest.raises(AuthenticationError):
        session.upload()
    assert session.puts.count("huge.e57") < 900
    assert session.sources["huge.e57"].open_readers == 0


def test_a_defect_stops_all(emulator: Emulator) -> None:
    """An error that is not this package's comes out as it is, and ends the others."""
    session = Session(emulator, small_files(60))

    def defect() -> Source:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.upload(session.jobs(f3=defect))
    assert len(session.puts) < 60


def test_an_error_of_the_caller_stops_all(emulator: Emulator) -> None:
    """An error in the callback, such as Airflow's timeout of a task, ends the threads and is raised."""
    session = Session(emulator, {f"f{n}.e57": some_bytes(400) for n in range(4)})
    emulator.faults.add({"on": session.on("f0.e57"), "do": "stall", "seconds": 1.5, "skip": 2})

    def fail(tally: SessionProgress) -> None:
        session.tallies.append(tally)
        if len(session.tallies) > 1:  # the first call comes before anything is sent
            raise TimeoutError("the task's")

    with pytest.raises(TimeoutError, match="the task's"):
        session.upload(on_progress=fail)
    assert session.puts.count("f0.e57") == 3


# -- two files of one name


def test_one_name_twice() -> None:
    """Two files of one name are refused before any byte moves; never are there two PUTs for one file."""
    with Emulator() as emulator:
        session = Session(emulator, {"a.e57": some_bytes(40)})
        job = session.jobs()[0]
        emulator.faults.add({"on": session.on("a.e57"), "do": "stall", "when": "after_body", "seconds": 0.2})
        other = Job("a.e57", 40, lambda: MemorySource(bytes(40), path="other.e57"))
        with pytest.raises(ThreeSixtyError):
            session.upload([job, other])
        assert session.puts == []
