"""One project per session over the attempts and clears of a task, against the emulator."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import Project
from airflow_360.emulator import Emulator
from airflow_360.exceptions import InvalidRequestError, ProjectError, RateLimitedError, ServerError
from airflow_360.projects.creation import (
    CreationRecord,
    Pause,
    ProjectCreation,
    Stage,
)
from airflow_360.projects.times import CreationTimes
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
    :ivar records: where its record is saved.
    :ivar requests: what was recorded of its requests to create a project.
    """

    def __init__(self, client: ThreeSixtyClient) -> None:
        self.client = client
        self.clock = Steps(0.0)
        self.waits: list[float] = []
        self.requests: list[str] = []
        self.upload_id = client.create_upload_session().upload_id
        client.put_file(self.upload_id, "a.e57", b"scan")
        self.records = MemoryRecords()

    def run(self, attempt: int = 1, clears: int = 0, check: Callable[[], None] = lambda: None) -> str:
        """Run one attempt to its end, and return the project's name."""

        def checked(client: ThreeSixtyClient) -> None:
            client.list_files(self.upload_id)
            check()

        creation = self.creation(attempt, clears, check=checked, title="Bridge", sleep=self._sleep)
        while isinstance(done := creation.run(), Pause):
            self._sleep(done.seconds)
        return done.name

    def run_once(self, attempt: int = 1, clears: int = 0) -> Project | Pause:
        """Run one attempt until it returns; it waits in place as long as it may."""
        return self.creation(attempt, clears, sleep=self._sleep).run()

    def run_to_a_pause(self, attempt: int = 1, clears: int = 0, **more: Any) -> Project | Pause:
        """Run one attempt; a pause is not waited for."""
        times = CreationTimes(in_place=0.0)
        return self.creation(attempt, clears, on_request=self.requests.append, times=times, **more).run()

    def creation(self, attempt: int, clears: int, **more: Any) -> ProjectCreation:
        """Return one attempt.

        :param more: fields of :class:`ProjectCreation`.
        """
        return creation_of(
            self.client,
            self.upload_id,
            self.records,
            attempt=attempt,
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
    assert task.records.load() == CreationRecord(Stage.CREATED, "0", name, attempt=2)
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


@pytest.mark.parametrize(("status", "minutes", "session_reads"), [(503, 15, 2), (504, 60, 17)])
def test_the_search_ends_with_another_post(
    emulator: Emulator, status: int, minutes: int, session_reads: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A project that does not appear is searched for at growing intervals: a quarter of an hour, or an hour.

    It is an hour if the server may still be working on the request.
    """
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": POST, "do": "status", "status": status})
    assert task.run() == task.upload_id
    assert sum(task.waits) == minutes * 60
    log = [record.getMessage() for record in caplog.records]
    until = time.strftime("%H:%M", time.localtime(minutes * 60))
    assert log[0].startswith(f"POST /api/v1/projects: the server answered {status} ")
    assert log[1].startswith(f"Next request in 1 s, waiting until {until} at the latest: the request ")
    sent_again = f"Sending the request to create a project from session {task.upload_id} again: no project"
    assert [line for line in log if line.startswith(sent_again)] == [log[-1]]
    assert task.waits[:6] == [1, 1, 2, 4, 8, 16]
    assert max(task.waits) == 120
    # Once before each of the two requests, and after half an hour at each search.
    assert len(requests_of(emulator, "GET", f"/uploads/{task.upload_id}")) == session_reads
    # Once before the request, and before, between and after the waits.
    assert len(requests_of(emulator, "GET", f"/projects/{task.upload_id}")) == 1 + len(task.waits) + 1


@pytest.mark.parametrize("stage", [Stage.DOUBT, Stage.SENDING])
def test_a_clear_gives_all_posts_back(emulator: Emulator, stage: Stage) -> None:
    """After three POSTs without a result the task stops; cleared, it sends three more."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": POST, "do": "status", "status": 503, "times": 6})
    for clears in (0, 1):
        with pytest.raises(ProjectError, match="sent 3 times"):
            task.run(attempt=clears + 1, clears=clears)
        assert len(requests_of(emulator, "POST", "/projects")) == 3 * (clears + 1)
        task.records.save(replace(task.records.load(), stage=stage))


def test_a_session_that_has_just_become_a_project(emulator: Emulator) -> None:
    """Before the task stops because the session is gone, it searches for the project once more."""
    emulator.store._session_consumed = True
    task = Task(client_for(emulator, tries=0))
    task.records.save(CreationRecord(posts=1).in_doubt("the reply was lost", 0.0, 60.0))
    task.clock.now = 1801.0
    name = task.client.create_project({"upload_id": task.upload_id}).name
    missing = {"do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({"on": "GET /projects/*", **missing})
    assert task.run(attempt=2) == name
    assert not task.waits


@pytest.mark.parametrize("code", ["upload_session_not_found", "session_not_found", "not_found"])
def test_a_session_is_gone_with_any_code(emulator: Emulator, code: str) -> None:
    """The contract names no error code for a missing session that is listed."""
    task = Task(client_for(emulator, tries=0))
    name = task.client.create_project({"upload_id": task.upload_id, "title": "Bridge"}).name
    emulator.store.projects[name].processing_seconds = 3600
    emulator.faults.add({"on": "GET /uploads/*", "do": "status", "status": 404, "body": {"error": code}})
    assert task.run() == name
    assert not task.waits


def test_an_odd_status_while_searching(emulator: Emulator) -> None:
    """One reply with an impossible status neither ends the search nor the retry of a created project."""
    task = Task(client_for(emulator, tries=0))
    odd = {"on": "GET /projects/*", "do": "alter", "fields": {"status": 101}}
    emulator.faults.add({"on": POST, "do": "lost_reply"}, {**odd, "skip": 1})
    assert task.run() == task.upload_id
    emulator.faults.add(odd)
    assert task.run(attempt=2) == task.upload_id
    assert len(emulator.store.projects) == 1


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
    paused = task.run_to_a_pause()
    assert isinstance(paused, Pause)
    assert paused.rate_limit is None
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


def test_a_stop_says_what_to_do(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """The error names the server, and the projects that it could be unless they cannot be listed."""
    emulator.store.take_name()
    task = Task(client_for(emulator, tries=0))
    task.client.create_project({"download_link": "https://example.com/a.e57", "title": "Bridge"})
    task.client.create_project({"download_link": "https://example.com/a.e57", "title": "Tower"})
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    with pytest.raises(ProjectError) as stopped:
        task.run()
    for part in (f"on {emulator.url}.", "one of these: ", "(Bridge)", "clear the session task"):
        assert part in str(stopped.value)
    assert "(Tower)" not in str(stopped.value)

    emulator.faults.add({"on": "GET /projects", "do": "status", "status": 502})
    with pytest.raises(ProjectError, match=r"projects on the server\. If none"):
        task.run(attempt=2)
    assert "projects could not be listed: GET" in caplog.text


def test_what_is_saved_of_a_created_project(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """The record of a created project keeps what a later clear needs; a retry says that it is reused."""
    caplog.set_level("INFO", "airflow_360")
    task = Task(client_for(emulator, tries=0))
    task.records.save(CreationRecord(name_was_free=False, session_created=5.0))
    name = task.run(clears=3)
    created = CreationRecord(Stage.CREATED, "3", name, name_was_free=False, attempt=1, session_created=5.0)
    assert task.records.load() == created
    assert "reused" not in caplog.text
    assert task.run(attempt=2, clears=3) == name
    (said,) = [record.getMessage() for record in caplog.records if "reused" in record.getMessage()]
    assert said.startswith(f"Project {name} was already created for session {task.upload_id}")
    assert task.records.load() == replace(created, attempt=2)


def test_a_project_of_another_task_is_reused_with_a_warning(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the project, the session, who may have created it, and the next step."""
    task = Task(client_for(emulator, tries=0))
    name = task.client.create_project({"upload_id": task.upload_id, "title": "Bridge"}).name
    assert task.run() == name
    (warned,) = [record.getMessage() for record in caplog.records]
    page = f"{emulator.url}/projects/{name}"
    for part in (
        f"Project {name} ({page}) exists",
        f"session {task.upload_id}",
        "another run",
        "clear the session",
    ):
        assert part in warned


@pytest.mark.parametrize(
    ("fault", "error", "hours"),
    [
        ({"do": "status", "status": 502}, ServerError, 1),
        ({"do": "rate_limit", "retry_after": 7200}, RateLimitedError, 72),
    ],
    ids=["failures", "rate limits"],
)
def test_failures_end_the_task(fault: dict[str, Any], error: type[Exception], hours: int) -> None:
    """Failures before the first POST are tolerated for an hour, rate limits for three days."""
    with Emulator() as emulator:
        task = Task(client_for(emulator, tries=0))
        task.clock.now = 1_000_000
        emulator.faults.add({"on": "GET /projects/*", "times": 1000, **fault})
        for attempt in (1, 2):  # a retry does so again
            task.waits.clear()
            with pytest.raises(error):
                task.run(attempt)
            assert hours * 3600 < sum(task.waits) <= hours * 3600 + task.waits[-1]


REFUSED = {"on": POST, "do": "status", "status": 429}
DOWN = {"on": "GET /projects/*", "do": "status", "status": 502}


@pytest.mark.parametrize(
    ("stage", "fault", "error"),
    [
        (Stage.UNSENT, DOWN, ServerError),
        (Stage.CREATED, DOWN, ServerError),
        (Stage.UNSENT, REFUSED, RateLimitedError),
    ],
    ids=["search", "created", "POST"],
)
def test_each_attempt_tolerates_failures_for_an_hour(
    emulator: Emulator, stage: Stage, fault: dict[str, Any], error: type[Exception]
) -> None:
    """An attempt counts its own failures, also over its pauses, and none of one that was killed before."""
    task = Task(client_for(emulator, tries=0))
    task.clock.now = 10_000
    record = CreationRecord(stage, "0", task.upload_id, attempt=2, failing_since=1, refused_since=1)
    task.records.save(record)
    emulator.faults.add({**fault, "times": 2})
    with pytest.raises(error):
        task.run_to_a_pause(attempt=2)
    task.records.save(record)
    paused = task.run_to_a_pause(attempt=3)
    assert isinstance(paused, Pause)
    assert paused.seconds == 1


def test_a_failed_request_does_not_use_up_a_clear(emulator: Emulator) -> None:
    """A deleted project is created again after a clear, also if the attempt after the clear fails."""
    task = Task(client_for(emulator, tries=0))
    name = task.run()
    del emulator.store.projects[name]
    emulator.faults.add({**DOWN, "times": 40})
    with pytest.raises(ServerError):
        task.run(attempt=2, clears=1)
    emulator.faults.clear()
    assert task.run(attempt=3, clears=1) == name
    assert list(emulator.store.projects) == [name]


def test_each_attempt_waits_for_a_readable_record(emulator: Emulator) -> None:
    """After the wait for another one's project ended, an attempt after a clear waits for a day again."""
    task = Task(client_for(emulator, tries=0))
    name = task.client.create_project({"upload_id": task.upload_id}).name
    emulator.store.projects[name].processing_seconds = 10**6
    for attempt in (1, 2):
        task.waits.clear()
        with pytest.raises(ProjectError, match="its record cannot be read"):
            task.run(attempt, clears=attempt)
        assert sum(task.waits) == 24 * 3600


def test_a_post_ends_a_series_of_failed_searches(emulator: Emulator) -> None:
    """Before a POST all searches succeeded, so the first failed one after it is waited for shortly."""
    task = Task(client_for(emulator, tries=0))
    task.clock.now = 10_000
    task.records.save(CreationRecord(Stage.UNSENT, "0", attempt=1, failing_since=1))
    emulator.faults.add(REFUSED)
    assert isinstance(task.run_to_a_pause(), Pause)
    emulator.faults.add(DOWN)
    assert isinstance(task.run_to_a_pause(), Pause)
    assert isinstance(task.run_to_a_pause(), Project)


def test_refused_posts_end_the_attempt(emulator: Emulator) -> None:
    """POSTs that are all refused end the attempt after two hours, also if each second search fails."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({**REFUSED, "times": 1000})
    fails = itertools.cycle([False, True])

    def check() -> None:
        if next(fails):
            raise ServerError("bad gateway", status=502)

    with pytest.raises(RateLimitedError):
        task.run(check=check)
    assert 2 * 3600 < sum(task.waits) < 2 * 3600 + 2 * 120
    emulator.faults.clear()


@pytest.mark.parametrize(("allowed", "waits"), [(60.0, [5.0]), (1.0, [])])
def test_how_long_a_rate_limit_is_waited_for_in_place(
    emulator: Emulator, allowed: float, waits: list[float]
) -> None:
    """A rate limit is waited for in place as long as the connection allows, other failures for seconds."""
    task = Task(client_for(emulator, tries=0, longest_rate_limit_wait=allowed))
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 5})
    done = task.run_once()
    assert task.waits == waits
    assert isinstance(done, Project if waits else Pause)
    assert isinstance(done, Project) or done.rate_limit
    emulator.faults.add({"on": "GET /projects/*", "do": "status", "status": 502})
    assert isinstance(task.run_once(attempt=2), Project)
    assert task.waits == [*waits, 1.0]


def test_what_is_saved_of_a_request(emulator: Emulator) -> None:
    """Before the POST its intent is saved with its time, and afterwards the doubt about it."""
    task = Task(client_for(emulator, tries=0))
    task.clock.now = 100.0
    task.records.save(CreationRecord(session_created=5.0))
    saved: list[CreationRecord] = []

    def create(client: ThreeSixtyClient) -> Project:
        saved.append(task.records.load())
        return client.create_project({"upload_id": task.upload_id})

    emulator.faults.add({"on": POST, "do": "status", "status": 504})
    assert isinstance(task.run_to_a_pause(create=create), Pause)
    sending = CreationRecord(Stage.SENDING, "0", posts=1, since=100.0, attempt=1, session_created=5.0)
    assert saved == [sending]
    assert task.records.load() == sending.in_doubt("the request to create it got HTTP 504", 100.0, 3600.0)


def test_what_is_saved_of_a_refusal(emulator: Emulator) -> None:
    """A refusal by the server proves that nothing was created, and a teardown is told so."""
    task = Task(client_for(emulator, tries=0))
    before = CreationRecord(Stage.UNSENT, since=50.0, session_created=5.0)
    task.records.save(before)
    refusal = {"status": 400, "body": {"error": "project_creation_failed"}}
    emulator.faults.add({"on": POST, "do": "status", **refusal})
    with pytest.raises(InvalidRequestError):
        task.run_to_a_pause()
    assert task.records.load() == CreationRecord(Stage.UNSENT, "0", attempt=1, session_created=5.0)
    assert task.requests == ["asked", "refused"]

    emulator.faults.add({"on": POST, "do": "rate_limit", "retry_after": 3600})
    assert isinstance(task.run_to_a_pause(attempt=2), Pause)
    assert task.requests == 2 * ["asked", "refused"]
    assert isinstance(task.run_to_a_pause(attempt=2), Project)


def test_a_link_in_doubt_stops_and_a_clear_creates_its_project(emulator: Emulator) -> None:
    """Nothing can be searched for: the task asks a person, and the clear after that creates the project."""
    task = Task(client_for(emulator, tries=0))
    fields = {"download_link": "https://example.com/a.e57", "title": "Bridge"}

    def run(attempt: int = 1, clears: int = 0) -> Project | Pause:
        creation = task.creation(
            attempt, clears, about="link 12ab", create=lambda client: client.create_project(fields)
        )
        return replace(creation, upload_id=None).run()

    emulator.faults.add({"on": POST, "do": "status", "status": 502})
    with pytest.raises(ProjectError) as stopped:
        run()
    for part in ("from link 12ab", "HTTP 502", "If there is none, clear this task"):
        assert part in str(stopped.value)
    assert task.records.load().stopped
    with pytest.raises(ProjectError, match="HTTP 502"):
        run(attempt=2)
    assert isinstance(run(attempt=3, clears=1), Project)
    assert len(emulator.store.projects) == 1


def test_a_doubt_gives_its_slot_back_after_some_seconds(emulator: Emulator) -> None:
    """The first waits take place in the slot, ten seconds in all; the pause after them carries the record."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": POST, "do": "status", "status": 503})
    paused = task.run_once()
    assert task.waits == [1, 1, 2, 4]
    assert isinstance(paused, Pause)
    assert paused.seconds == 8
    assert paused.record == task.records.load()


@pytest.mark.parametrize("stage", [Stage.SENDING, Stage.DOUBT, Stage.UNKNOWN])
def test_a_teardown_learns_of_a_doubt(emulator: Emulator, stage: Stage) -> None:
    """An attempt that finds a doubt, or nothing that is saved, says that a project was requested."""
    task = Task(client_for(emulator, tries=0))
    task.records.save(CreationRecord(stage, "0", posts=1, since=0.0, patience=60.0))
    paused = task.run_to_a_pause(attempt=2)
    assert isinstance(paused, Pause)
    assert set(task.requests) == {"asked"}
    assert task.records.load() == paused.record
    assert (paused.record.stage, paused.record.clears) == (Stage.DOUBT, "0")


def test_waits_in_place_are_counted_together(emulator: Emulator) -> None:
    """Two rate limits of five seconds are waited for in the slot, and with a third one it is given back."""
    task = Task(client_for(emulator, tries=0))
    emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 5, "times": 3})
    assert isinstance(task.run_once(), Pause)
    assert task.waits == [5, 5]
    assert isinstance(task.run_once(attempt=2), Project)


def test_a_clear_gives_a_session_its_requests_back(emulator: Emulator) -> None:
    """After three requests without a clear answer the task stops; a clear sends another one."""
    task = Task(client_for(emulator, tries=0))
    task.records.save(CreationRecord(Stage.DOUBT, "0", posts=3, since=-3600.0, patience=60.0, cause="x"))
    with pytest.raises(ProjectError, match="sent 3 times"):
        task.run_once(attempt=2)
    assert isinstance(task.run_once(attempt=3, clears=1), Project)
    assert len(emulator.store.projects) == 1
