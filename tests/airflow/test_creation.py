"""Exactly one session per task and one project per session, despite all failures and clears."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    TaskDeferred,
)

from airflow_360.emulator import Emulator
from airflow_360.exceptions import NoReplyError
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.projects.times import CreationTimes
from airflow_360.runtime.source_records import SourceRecord
from airflow_360.runtime.task_state import TaskState
from tests.airflow.conftest import (
    AIRFLOW,
    AirflowRescheduleException,
    Lasting,
    StateStore,
    connect,
    context,
)

POST = "POST /projects"
GONE = {"do": "status", "status": 404, "body": {"error": "project_not_found"}}
DOWN = {"do": "status", "status": 503, "when": "before_body", "body": "<h1>Down"}
TITLE = "Bridge"
#: Hours become fractions of a second.
QUICK = CreationTimes(
    in_place=60.0,
    shortest=0.02,
    longest=0.1,
    after_break=0.3,
    after_timeout=0.6,
    without_session=0.5,
    record=5.0,
    failing=5.0,
    refused=10.0,
    missing=0.02,
)


class Killed(BaseException):
    """Simulates the death of a worker."""


@pytest.fixture(params=[False, True], ids=["session lives on", "session is consumed"])
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Both possible fates of a session after its project."""
    monkeypatch.setattr(CreateProjectOperator, "creation_times", QUICK)
    with Emulator(processing_seconds=0, session_consumed=request.param) as emulator:
        connect(monkeypatch, host=emulator.url, extra={"rate_limits": "off"})
        yield emulator
        assert not emulator.faults.unused()


@pytest.fixture(autouse=True)
def lasting(monkeypatch: pytest.MonkeyPatch) -> Lasting:
    """Airflow's storage that survives a clear."""
    return Lasting(monkeypatch)


@pytest.fixture
def upload_id(emulator: Emulator, lasting: Lasting, tmp_path: Path) -> str:
    """A session with one complete file."""
    return fill(tmp_path, lasting)


def fill(folder: Path, lasting: Lasting, try_number: int = 1) -> str:
    (folder / "a.e57").write_bytes(b"scan")
    upload_id = CreateUploadSessionOperator(task_id="session").execute(context(try_number, lasting=lasting))
    UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(folder / "a.e57")).execute(
        context(try_number)
    )
    return upload_id


def project_task(upload_id: str, **more: Any) -> CreateProjectOperator:
    return CreateProjectOperator(task_id="project", upload_id=upload_id, title=TITLE, **more)


def later(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the time of a rate limit, which applied to another key."""
    connect(monkeypatch, host=emulator.url, password="sk_later", extra={"rate_limits": "off"})


def posts(emulator: Emulator) -> int:
    return sum(e.method == "POST" and e.path == "/projects" for e in emulator.exchanges)


def killing(task: CreateProjectOperator, when: str) -> CreateProjectOperator:
    """Return a task whose worker dies before or after its POST."""
    client = task.hook.client
    create = type(client).create_project

    def die(self: Any, fields: Any) -> Any:
        if when == "after":
            create(self, fields)
        raise Killed

    task.hook.__dict__["client"] = _with_create(client, die)
    return task


def _with_create(client: Any, create: Callable[[Any, Any], Any]) -> Any:
    """Return a client, also without retries, that creates projects in another way."""
    kind = type("Client", (type(client),), {"create_project": create})
    other = kind(client._transport, client.backoff, client.bandwidth)
    other.without_retries = lambda: other
    return other


DOUBTS = {
    "lost": {"do": "lost_reply"},
    "cut off": {"do": "truncate"},
    "portal": {"do": "garbage"},
    "502": {"do": "status", "status": 502, "when": "after_body", "body": "<h1>Bad gateway"},
    "500": {"do": "status", "status": 500, "when": "after_body", "body": {"error": "internal_error"}},
    "403": {"do": "status", "status": 403, "when": "after_body", "body": "<h1>Forbidden"},
    "404": {"do": "status", "status": 404, "when": "after_body", "body": "<h1>Not found"},
    "408": {"do": "status", "status": 408, "when": "after_body", "body": "<h1>Time-out"},
    "redirect": {"do": "status", "status": 302, "when": "after_body", "headers": {"Location": "/login"}},
}


class TestDoubt:
    @pytest.mark.parametrize("fault", DOUBTS.values(), ids=DOUBTS)
    def test_a_project_whose_reply_is_lost_is_found(
        self, emulator: Emulator, upload_id: str, fault: dict[str, Any]
    ) -> None:
        """A project that was created without a usable reply is reused, in the same attempt and later."""
        emulator.faults.add({"on": POST, **fault})
        store = StateStore()
        assert project_task(upload_id).execute(context(store=store)) == upload_id
        assert project_task(upload_id).execute(context(2, store)) == upload_id
        assert posts(emulator) == len(emulator.store.projects) == 1

    @pytest.mark.parametrize("fault", [DOWN, {"do": "reset"}], ids=["503", "reset"])
    def test_a_project_that_does_not_appear_is_created(
        self, emulator: Emulator, upload_id: str, fault: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A POST that created nothing is sent again after a while; the log says why this is safe."""
        emulator.faults.add({"on": POST, **fault, "times": 2})
        given = context(store=StateStore())
        assert project_task(upload_id).execute(given) == upload_id
        assert posts(emulator) == 3
        assert len(emulator.store.projects) == 1
        first, *more = [e.at for e in emulator.exchanges if (e.method, e.path) == ("POST", "/projects")]
        assert all(later - first >= QUICK.after_break for later in more)

    def test_it_stops_after_three_posts(self, emulator: Emulator, upload_id: str) -> None:
        """A server that fails each POST ends the task, which names the account's projects."""
        emulator.store.create_project({"download_link": "https://x/y.e57", "title": TITLE})
        emulator.faults.add({"on": POST, **DOWN, "times": 3})
        with pytest.raises(AirflowFailException, match=f"HTTP 503.*sent 3 times.*{TITLE}.*clear the session"):
            project_task(upload_id).execute(context(store=StateStore()))
        assert posts(emulator) == 3

    def test_a_clear_searches_and_posts_again(self, emulator: Emulator, upload_id: str) -> None:
        """A task that stopped can be cleared: it reuses a project that appeared, or creates one."""
        emulator.faults.add({"on": POST, **DOWN, "times": 3})
        store = StateStore()
        with pytest.raises(AirflowFailException):
            project_task(upload_id).execute(context(store=store))
        assert project_task(upload_id).execute(context(2, store, max_tries=4)) == upload_id
        assert len(emulator.store.projects) == 1

    def test_a_session_that_is_deleted_meanwhile(self, emulator: Emulator, upload_id: str) -> None:
        """If the session is gone and no project appears, the task stops with an error."""
        task = project_task(upload_id)

        def delete(self: Any, fields: Any) -> Any:
            self.delete_upload_session(upload_id)
            raise NoReplyError("the connection broke")

        task.hook.__dict__["client"] = _with_create(task.hook.client, delete)
        with pytest.raises(AirflowFailException, match=r"session no longer exists.*clear the session task"):
            task.execute(context(store=StateStore()))
        assert not emulator.store.projects

    def test_a_search_survives_a_server_that_is_down(self, emulator: Emulator, upload_id: str) -> None:
        """Failures of the search are tolerated, and spend no retry."""
        emulator.faults.add({"on": POST, "do": "lost_reply"})
        emulator.faults.add({"on": "GET /projects/*", **DOWN, "skip": 1, "times": 5})
        assert project_task(upload_id).execute(context()) == upload_id
        assert posts(emulator) == 1

    def test_the_contracts_refusal_leaves_no_doubt(self, emulator: Emulator, upload_id: str) -> None:
        """A refusal in the contract's JSON ends the attempt, and the next one posts immediately."""
        refused = {"do": "status", "status": 402, "body": {"error": "storage_quota_exceeded"}}
        emulator.faults.add({"on": POST, **refused})
        store = StateStore()
        given = context(store=store)
        with pytest.raises(AirflowFailException, match="storage_quota_exceeded"):
            project_task(upload_id).execute(given)
        assert given["ti"].pushed["project_request"] == "refused"
        assert project_task(upload_id).execute(context(2, store)) == upload_id
        assert posts(emulator) == 2

    def test_an_older_doubt_outlives_a_refusal(self, emulator: Emulator, upload_id: str) -> None:
        """A refusal of the second POST does not answer the question about the first one."""
        refused = {"do": "status", "status": 402, "body": {"error": "storage_quota_exceeded"}}
        emulator.faults.add({"on": POST, **DOWN}, {"on": POST, **refused})
        store = StateStore()
        given = context(store=store)
        with pytest.raises(AirflowFailException, match="storage_quota_exceeded"):
            project_task(upload_id).execute(given)
        assert given["ti"].pushed["project_request"] == "asked"
        assert store[f"360 project of {upload_id}"]["stage"] == "doubt"

    def test_a_session_that_vanishes_at_the_post_is_doubt(self, emulator: Emulator, upload_id: str) -> None:
        """A 404 for a session that was listed a moment before may mean that it became a project."""
        gone = {"do": "status", "status": 404, "when": "after_body"}
        emulator.faults.add({"on": POST, **gone, "body": {"error": "upload_session_not_found"}})
        assert project_task(upload_id).execute(context(store=StateStore())) == upload_id
        assert posts(emulator) == 1

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("saved", [True, False], ids=["saved state", "no saved state"])
    def test_a_killed_worker(self, emulator: Emulator, upload_id: str, when: str, saved: bool) -> None:
        """A worker that dies before or after its POST leaves one project to the retry."""
        store = StateStore() if saved else None
        with pytest.raises(Killed):
            killing(project_task(upload_id), when).execute(context(store=store))
        assert project_task(upload_id).execute(context(2, store)) == upload_id
        assert len(emulator.store.projects) == 1

    def test_no_connection_is_not_sent(self, emulator: Emulator, upload_id: str) -> None:
        """A POST that never had a connection leaves no doubt and is sent again."""
        task, tries = project_task(upload_id), iter([True, False])
        create = type(task.hook.client).create_project

        def refused(self: Any, fields: Any) -> Any:
            if next(tries):
                raise NoReplyError("connection refused", sent=False)
            return create(self, fields)

        task.hook.__dict__["client"] = _with_create(task.hook.client, refused)
        assert task.execute(context()) == upload_id
        assert posts(emulator) == 1

    def test_nothing_is_sent_that_cannot_be_recorded(
        self, emulator: Emulator, upload_id: str, lasting: Lasting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the record of a request cannot replace the record "unsent", the request is not sent."""

        def fails(*arguments: Any, **more: Any) -> None:
            raise RuntimeError("the database is down")

        given = context(lasting=lasting)
        monkeypatch.setattr(lasting.store, "set", fails)
        monkeypatch.setattr(lasting, "set", fails)
        with pytest.raises(AirflowException, match=f"{upload_id} could not be recorded") as caught:
            project_task(upload_id).execute(given)
        assert not isinstance(caught.value, AirflowFailException)
        assert posts(emulator) == 0


class TestWithoutSlot:
    """A wait of more than some seconds gives the worker slot back, and loses nothing."""

    @pytest.fixture(autouse=True)
    def at_once(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        """No wait in place."""
        monkeypatch.setattr(CreateProjectOperator, "creation_times", CreationTimes(in_place=0.0))

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_without_saved_state_it_always_defers(
        self, emulator: Emulator, upload_id: str, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without saved state the doubt travels in the deferral, with a timeout."""
        emulator.faults.add({"on": POST, **DOWN})
        task = project_task(upload_id, deferrable=deferrable)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        assert deferred.value.timeout > timedelta(hours=1)
        record = (deferred.value.kwargs or {})["record"]
        assert (record["stage"], record["patience"]) == ("doubt", 900)
        emulator.faults.add({"on": "GET /projects/*", "do": "rate_limit", "retry_after": 300})
        with pytest.raises(TaskDeferred) as again:
            task.resume(context(), record=record)
        kept = (again.value.kwargs or {})["record"]
        assert (kept["stage"], kept["since"]) == ("doubt", record["since"])
        assert again.value.trigger.seconds >= 300
        emulator.store.create_project({"upload_id": upload_id})
        later(emulator, monkeypatch)
        assert project_task(upload_id).resume(context(), record=kept) == upload_id
        assert posts(emulator) == 1

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the task state store came with Airflow 3.3")
    def test_with_saved_state_it_reschedules(self, emulator: Emulator, upload_id: str) -> None:
        """A task that is not deferrable reschedules, and finds its doubt in its saved state."""
        emulator.faults.add({"on": POST, **DOWN})
        store, task = StateStore(), project_task(upload_id, deferrable=False)
        with pytest.raises(AirflowRescheduleException):
            task.execute(context(store=store))
        emulator.store.create_project({"upload_id": upload_id})
        given = context(store=store)
        assert task.execute(given) == upload_id
        assert given["ti"].pushed["project_request"] == "asked"

    def test_it_says_until_when_it_waits(
        self, emulator: Emulator, upload_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log names the cause and the time."""
        emulator.faults.add({"on": POST, **DOWN})
        with pytest.raises(TaskDeferred):
            project_task(upload_id).execute(context())
        assert "HTTP 503" in caplog.text
        assert "until" in caplog.text

    @pytest.mark.skipif(AIRFLOW >= (3, 3), reason="has saved state")
    def test_a_retry_of_a_wait_knows_its_project(
        self, emulator: Emulator, upload_id: str, lasting: Lasting
    ) -> None:
        """Without saved state, the next attempt continues the wait; a variable stays only until its end."""
        emulator.store.processing_seconds = 3600
        for attempt in (1, 2):
            task = project_task(upload_id, wait_for_completion=True)
            with pytest.raises(TaskDeferred) as deferred:
                task.execute(context(attempt, lasting=lasting))
            assert deferred.value.method_name == "execute_complete"
        assert len(lasting.store) == 1
        ready = {"name": upload_id, "status": 100}
        assert task.execute_complete(context(2), {"status": "ready", "record": ready}) == upload_id
        assert not lasting.store
        assert posts(emulator) == 1

    def test_a_long_rate_limit_defers(
        self, emulator: Emulator, upload_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A rate limit of an hour is waited for without a slot, and the POST is sent after it."""
        emulator.faults.add({"on": POST, "do": "rate_limit", "retry_after": 3600})
        task = project_task(upload_id, deferrable=True)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        assert deferred.value.trigger.seconds >= 3600
        record = (deferred.value.kwargs or {})["record"]
        later(emulator, monkeypatch)
        assert project_task(upload_id).resume(context(), record=record) == upload_id
        assert len(emulator.store.projects) == 1


class TestStrangers:
    @pytest.mark.parametrize("fault", [None, {"do": "lost_reply"}], ids=["answered", "lost reply"])
    def test_a_strangers_project_is_never_reused(
        self, emulator: Emulator, tmp_path: Path, lasting: Lasting, fault: dict[str, Any] | None
    ) -> None:
        """Another account's project with the session's name is not reused; in doubt the task stops."""
        taken = emulator.store.take_name()
        upload_id = fill(tmp_path, lasting)
        assert upload_id == taken
        store = StateStore()
        if fault is None:
            name = project_task(upload_id).execute(context(store=store, lasting=lasting))
            assert name != upload_id
            assert project_task(upload_id).execute(context(2, store, lasting=lasting)) == name
            if AIRFLOW >= (3, 3):  # a clear that deletes the task's state
                assert project_task(upload_id).execute(context(3, max_tries=4, lasting=lasting)) == name
        else:
            emulator.faults.add({"on": POST, **fault})
            for attempt in (1, 2):
                with pytest.raises(AirflowFailException, match=f"another project had the name {upload_id}"):
                    project_task(upload_id).execute(context(attempt, store, lasting=lasting))
        assert posts(emulator) == 1

    def test_a_strangers_project_and_nothing_saved(
        self, emulator: Emulator, tmp_path: Path, lasting: Lasting
    ) -> None:
        """Without a record a later attempt neither reuses another account's project nor creates a second."""
        emulator.store.take_name()
        upload_id = fill(tmp_path, Lasting())
        project_task(upload_id).execute(context())
        lasting.store.clear()  # variables, before Airflow 3.3
        if upload_id not in emulator.store.sessions or emulator.store.sessions[upload_id].consumed:
            return  # the session became a project, but only its record identifies it
        with pytest.raises(AirflowFailException, match="another project had the name"):
            project_task(upload_id).execute(context(2))
        assert posts(emulator) == 1

    @pytest.mark.parametrize("attempt", [1, 2])
    def test_a_project_of_another_task_is_reused(
        self, emulator: Emulator, upload_id: str, attempt: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A project that this task has no record of is reused, with a warning that names its page."""
        emulator.store.create_project({"upload_id": upload_id, "title": TITLE})
        assert project_task(upload_id).execute(context(attempt)) == upload_id
        assert posts(emulator) == 0
        assert f"Project {upload_id} ({emulator.url}/projects/{upload_id}) exists" in caplog.text

    def test_a_project_that_is_not_ready_is_waited_for(self, emulator: Emulator, upload_id: str) -> None:
        """If the session still exists, only a ready project's record identifies its owner."""
        emulator.store.processing_seconds = 0.5
        emulator.store.create_project({"upload_id": upload_id, "title": TITLE})
        assert project_task(upload_id).execute(context(2)) == upload_id
        assert posts(emulator) == 0


class TestClears:
    def test_a_cleared_task_reuses_its_project(self, emulator: Emulator, upload_id: str) -> None:
        """Clearing the project task reuses the project."""
        store = StateStore()
        project_task(upload_id).execute(context(store=store))
        assert project_task(upload_id).execute(context(2, store, max_tries=4)) == upload_id
        assert posts(emulator) == 1

    @pytest.mark.parametrize("kept", [True, False], ids=["asset state", "nothing"])
    def test_a_clear_that_deletes_the_state_reuses_the_project(
        self, emulator: Emulator, upload_id: str, lasting: Lasting, kept: bool
    ) -> None:
        """Clearing the project task with its saved state deleted reuses the project too."""
        given = lasting if kept else None
        project_task(upload_id).execute(context(store=StateStore(), lasting=given))
        cleared = context(2, StateStore(), max_tries=4, lasting=given)
        assert project_task(upload_id).execute(cleared) == upload_id
        assert posts(emulator) == 1

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the state of assets came with Airflow 3.3")
    def test_a_record_that_clears_do_not_reach_names_the_project(
        self, emulator: Emulator, upload_id: str, lasting: Lasting
    ) -> None:
        """After a clear that deleted the saved state, the task reuses its project, despite another title."""
        emulator.store.create_project({"upload_id": upload_id, "title": TITLE})
        project_task(upload_id).execute(context(store=StateStore(), lasting=lasting))
        (record,) = lasting.store.values()
        assert (record["stage"], record["name"]) == ("created", upload_id)
        task = CreateProjectOperator(task_id="project", upload_id=upload_id, title="Another title")
        assert task.execute(context(2, StateStore(), max_tries=4, lasting=lasting)) == upload_id
        assert len(emulator.store.projects) == 1

    def test_failures_of_another_run_do_not_count(
        self, emulator: Emulator, upload_id: str, lasting: Lasting
    ) -> None:
        """A second run for the same session tolerates failures in full, whatever the first one met."""
        (record,) = lasting.store.values()
        record.update(attempt=1, failing_since=1.0)
        emulator.faults.add({"on": "GET /projects/*", "do": "status", "status": 503})
        given = context(store=StateStore(), lasting=lasting)
        assert project_task(upload_id).execute(given) == upload_id

    def test_a_new_session_is_posted_at_once(
        self,
        emulator: Emulator,
        upload_id: str,
        lasting: Lasting,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """After a clear of the session task, it is certain that nothing was sent for the new one."""
        project_task(upload_id).execute(context(lasting=lasting))
        again = fill(tmp_path, lasting, 2)
        monkeypatch.setattr(CreateProjectOperator, "creation_times", CreationTimes(in_place=0.0))
        assert project_task(again).execute(context(2, lasting=lasting)) == again
        assert posts(emulator) == 2

    def test_a_deleted_project_is_created_again_only_if_asked(
        self, emulator: Emulator, upload_id: str
    ) -> None:
        """A project that was deleted fails a retry; a clear creates it again if the session still exists."""
        store = StateStore()
        project_task(upload_id).execute(context(store=store))
        emulator.store.projects.clear()
        with pytest.raises(AirflowFailException, match=f"Project {upload_id}.*was deleted"):
            project_task(upload_id).execute(context(2, store))
        if emulator.store.sessions[upload_id].consumed:
            with pytest.raises(AirflowFailException, match="clear the session task"):
                project_task(upload_id).execute(context(3, store, max_tries=4))
        else:
            assert project_task(upload_id).execute(context(3, store, max_tries=4)) == upload_id
        assert len(emulator.store.projects) == (not emulator.store.sessions[upload_id].consumed)


class TestLinks:
    def link_task(self, link: str = "https://x/a.e57?signature=secret", **more: Any) -> CreateProjectOperator:
        return CreateProjectOperator(task_id="project", download_link=link, **more)

    def test_nothing_saved_is_never_posted_again(self, emulator: Emulator) -> None:
        """A link whose earlier attempts are not known is never posted again, after any kind of clear."""
        self.link_task().execute(context())
        for max_tries in (2, 4):
            with pytest.raises(AirflowFailException, match="nothing is saved") as caught:
                self.link_task().execute(context(2, max_tries=max_tries))
            assert "secret" not in str(caught.value)
        assert posts(emulator) == 1

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the task state store came with Airflow 3.3")
    def test_an_attempt_that_sent_nothing_does_not_stop_the_next(self, emulator: Emulator) -> None:
        """If no clear can have deleted a record, and there is none, nothing was sent."""
        task = self.link_task()
        task.retries = 2
        assert task.execute(context(2, StateStore(), max_tries=2))
        cleared = self.link_task()
        cleared.retries = 2
        with pytest.raises(AirflowFailException, match="nothing is saved"):
            cleared.execute(context(4, StateStore(), max_tries=4))

    def test_a_link_that_is_signed_again(self, emulator: Emulator) -> None:
        """A retry with another link may be one for the same project, and is not posted by guess."""
        store = StateStore()
        self.link_task("https://x/a.e57?signature=0").execute(context(store=store))
        with pytest.raises(AirflowFailException, match="nothing is saved"):
            self.link_task("https://x/a.e57?signature=1").execute(context(2, store))
        assert posts(emulator) == 1
        assert "signature" not in str(store)

    @pytest.mark.parametrize("deferrable", [False, True], ids=["rescheduled", "deferred"])
    def test_a_wait_for_a_link_that_is_signed_again(self, emulator: Emulator, deferrable: bool) -> None:
        """Each run of a task that waits for its project polls the same one."""
        emulator.store.processing_seconds = 3600
        store, more = StateStore(), {"wait_for_completion": True, "deferrable": deferrable}
        for signature in range(3):
            task = self.link_task(f"https://x/a.e57?signature={signature}", **more)
            with pytest.raises(TaskDeferred if deferrable else AirflowRescheduleException):
                task.execute(context(store=store))
        assert posts(emulator) == 1

    def test_a_rate_limit_of_a_link_that_is_signed_again(self, emulator: Emulator) -> None:
        """A rescheduled task whose link is signed again still knows when its wait began."""
        emulator.faults.add({"on": POST, "do": "rate_limit", "retry_after": 3000})
        store = StateStore()
        for signature in range(2):
            with pytest.raises(AirflowRescheduleException):
                self.link_task(f"https://x/a.e57?s={signature}", deferrable=False).execute(
                    context(store=store)
                )
        (record,) = store["360 projects of links"].values()  # the value does not grow with each run
        record["limited_since"] -= 72 * 3600
        with pytest.raises(AirflowException, match="3000 s") as caught:
            self.link_task("https://x/a.e57?s=2", deferrable=False).execute(context(store=store))
        assert not isinstance(caught.value, AirflowRescheduleException)

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the task state store came with Airflow 3.3")
    def test_a_link_that_returns_does_not_hide_another_ones_doubt(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A link that was not sent is not sent after one that may be the same, signed again, is in doubt."""
        store = StateStore()

        def run(link: str, attempt: int) -> None:
            task = self.link_task(link, deferrable=False)
            task.retries = 2
            task.execute(context(attempt, store))

        emulator.faults.add({"on": POST, "do": "rate_limit", "retry_after": 3000}, {"on": POST, **DOWN})
        with pytest.raises(AirflowRescheduleException):
            run("https://x/a.e57?s=1", 1)
        later(emulator, monkeypatch)
        with pytest.raises(AirflowFailException, match="HTTP 503"):
            run("https://x/a.e57?s=2", 2)
        with pytest.raises(AirflowFailException, match="nothing is saved"):
            run("https://x/a.e57?s=1", 3)
        assert posts(emulator) == 2

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the state of assets came with Airflow 3.3")
    def test_failures_of_a_deleted_run_do_not_count(
        self, emulator: Emulator, lasting: Lasting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that was deleted and made again tolerates rate limits and failures in full."""
        emulator.faults.add({"on": POST, "do": "rate_limit", "retry_after": 3000, "times": 2})
        for _ in range(2):
            task = self.link_task(deferrable=False)
            with pytest.raises(AirflowRescheduleException):
                task.execute(context(store=StateStore(), lasting=lasting))
            (records,) = lasting.store.values()
            (record,) = records.values()
            record["limited_since"] -= 72 * 3600
            later(emulator, monkeypatch)

    @pytest.mark.skipif(AIRFLOW < (3, 3), reason="the state of assets came with Airflow 3.3")
    def test_another_link_in_a_new_run_of_the_same_name(self, emulator: Emulator, lasting: Lasting) -> None:
        """A run that was deleted and made again creates its own project from another link."""
        first = self.link_task("https://x/a.e57").execute(context(store=StateStore(), lasting=lasting))
        other = self.link_task("https://x/b.e57").execute(context(store=StateStore(), lasting=lasting))
        assert other != first
        assert posts(emulator) == 2

    def test_a_404_refuses_a_link(self, emulator: Emulator) -> None:
        """A refusal of a link names its code; there is no session that it could have become."""
        missing = {"status": 404, "body": {"error": "download_link_not_found"}}
        emulator.faults.add({"on": POST, "do": "status", **missing})
        with pytest.raises(AirflowFailException, match="404 download_link_not_found"):
            self.link_task().execute(context(store=StateStore()))

    def test_another_link_after_a_clear(self, emulator: Emulator) -> None:
        """After a clear, another link may be one for the same project, and is not posted by guess."""
        store = StateStore()
        first = self.link_task().execute(context(store=store))
        with pytest.raises(AirflowFailException, match="nothing is saved"):
            self.link_task("https://x/b.e57").execute(context(2, store, max_tries=4))
        assert self.link_task().execute(context(3, store, max_tries=6)) == first
        assert posts(emulator) == 1

    def test_a_clear_before_it_stopped_creates_nothing(self, emulator: Emulator) -> None:
        """A link in doubt whose task was killed before it stopped is not created again by a clear."""
        store = StateStore()
        with pytest.raises(Killed):
            killing(self.link_task(), "after").execute(context(store=store))
        with pytest.raises(AirflowFailException, match="stopped while it sent"):
            self.link_task().execute(context(2, store, max_tries=4))
        assert posts(emulator) == len(emulator.store.projects) == 1

    def test_in_doubt_it_stops_and_lists_candidates(self, emulator: Emulator) -> None:
        """A link in doubt stops immediately and lists the account's projects; a clear creates its project."""
        other = emulator.store.create_project({"download_link": "https://x/z.e57"})["name"]
        emulator.faults.add({"on": POST, **DOWN})
        store = StateStore()
        for attempt in (1, 2):
            with pytest.raises(AirflowFailException, match=f"HTTP 503.*{other}.*clear this task"):
                self.link_task().execute(context(attempt, store))
        assert posts(emulator) == 1
        assert self.link_task().execute(context(3, store, max_tries=4))
        assert posts(emulator) == 2


class TestTeardown:
    def delete(self, upload_id: str, request: str | None, **more: Any) -> None:
        from airflow.providers.common.compat.sdk import DAG

        class Ours(CreateProjectOperator):
            """A user's own operator."""

        with DAG("clean_up", schedule=None):
            Ours(task_id="project", upload_id=upload_id)
            task = DeleteUploadSessionOperator(task_id="delete", upload_id=upload_id, **more)
        given = context()
        given["ti"].pulled = {("project", "project_request"): request}
        task.execute(given)

    @pytest.mark.parametrize("request_", [None, "refused"])
    def test_a_session_without_a_request_is_deleted(
        self, emulator: Emulator, upload_id: str, request_: str | None
    ) -> None:
        """A session whose project was never requested, or was refused, is deleted immediately."""
        self.delete(upload_id, request_)
        assert upload_id not in emulator.store.sessions

    def test_a_session_in_doubt_is_kept(self, emulator: Emulator, upload_id: str) -> None:
        """A session is not deleted while it is unknown whether it has a project."""
        with pytest.raises(AirflowFailException, match="result of the request"):
            self.delete(upload_id, "asked")
        assert upload_id in emulator.store.sessions

    def test_a_project_with_an_odd_status_exists(self, emulator: Emulator, upload_id: str) -> None:
        """A session whose project has an impossible status is kept, and its teardown is skipped as usual."""
        emulator.store.create_project({"upload_id": upload_id})
        emulator.faults.add({"on": "GET /projects/*", "do": "alter", "fields": {"status": -1}})
        with pytest.raises(AirflowFailException, match=f"became project {upload_id}"):
            self.delete(upload_id, None)


class TestUploadAfterTheProject:
    """An upload that is cleared after its session became a project."""

    def clear(self, upload_id: str, folder: Path, store: StateStore | None) -> Any:
        task = UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(folder / "a.e57"))
        return task.execute(context(2, store, max_tries=4))

    def test_an_upload_without_saved_state_succeeds(
        self, emulator: Emulator, upload_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without saved state it succeeds, with a warning if the session is gone."""
        project_task(upload_id).execute(context())
        assert self.clear(upload_id, tmp_path, None)["filename"] == "a.e57"
        consumed = emulator.store.sessions[upload_id].consumed
        said = capsys.readouterr().out
        assert (f"became project {emulator.url}/projects/{upload_id}" in said) is consumed
        assert ("Cannot verify" in said) is consumed

    def test_saved_state_shows_that_it_is_complete(
        self, emulator: Emulator, upload_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """If saved state shows the file complete, there is nothing to warn about."""
        store = StateStore()
        self.clear(upload_id, tmp_path, store)
        project_task(upload_id).execute(context())
        odd = {"on": "GET /projects/*", "do": "alter", "fields": {"status": 101}}
        emulator.faults.add(*[odd] * emulator.store.sessions[upload_id].consumed)
        assert self.clear(upload_id, tmp_path, store)["size"] == 4
        assert "Cannot verify" not in capsys.readouterr().out
        assert not emulator.faults.unused()

    def test_a_failed_attempt_does_not_delete_that_it_was_complete(self) -> None:
        """If a complete upload is cleared and a file fails, the upload still counts as complete."""
        state = TaskState(context(store=StateStore()))
        record = SourceRecord(state, "session files")
        record.check_unchanged("The folder", "digest", [])
        record.save_complete()
        SourceRecord(state, "session files").allow_only([])
        assert SourceRecord(state, "session files").was_complete

    def test_saved_state_shows_that_it_is_not_complete(
        self, emulator: Emulator, upload_id: str, tmp_path: Path
    ) -> None:
        """If saved state shows the file incomplete and the session is gone, the task fails."""
        store = StateStore()
        self.clear(upload_id, tmp_path, store)
        del store[f"360 source of {upload_id} a.e57"]["complete"]
        project_task(upload_id).execute(context())
        if not emulator.store.sessions[upload_id].consumed:
            assert self.clear(upload_id, tmp_path, store)
            return
        with pytest.raises(AirflowFailException, match=f"became project.*{upload_id}.*not complete"):
            self.clear(upload_id, tmp_path, store)


class TestSession:
    def session(self, given: Any) -> str:
        return CreateUploadSessionOperator(task_id="session").execute(given)

    def test_a_retry_reuses_the_session(self, emulator: Emulator) -> None:
        """A retry uses the session that was made before."""
        store = StateStore()
        first = self.session(context(store=store))
        assert self.session(context(2, store)) == first
        assert len(emulator.store.sessions) == 1

    def test_retry_of_a_dead_session(self, emulator: Emulator) -> None:
        """A retry creates a new session if the first one is gone."""
        store = StateStore()
        first = self.session(context(store=store))
        CreateUploadSessionOperator(task_id="s").hook.client.delete_upload_session(first)
        assert self.session(context(2, store)) != first

    @pytest.mark.parametrize(
        "fault",
        [
            {"do": "status", "status": 403, "body": {"error": "insufficient_scope"}},
            {"do": "alter", "fields": {"status": 7000}},
            DOWN,
        ],
        ids=["forbidden", "odd status", "down"],
    )
    def test_a_clear_never_fails_because_of_the_old_project(
        self, emulator: Emulator, upload_id: str, fault: dict[str, Any]
    ) -> None:
        """Clearing the session task works with any reply of the server about the old project."""
        project_task(upload_id).execute(context())
        emulator.faults.add({"on": "GET /projects/*", **fault})
        store = StateStore({"360 session": {"upload_id": upload_id, "clears": 2}})
        assert self.session(context(2, store, max_tries=4)) != upload_id

    def test_a_clear_creates_a_new_session(
        self, emulator: Emulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A clear creates a new session and logs the old one's id."""
        store = StateStore()
        first = self.session(context(store=store))
        assert self.session(context(2, store, max_tries=4)) != first
        assert f"upload session {first} will expire by itself" in capsys.readouterr().out

    def test_clear_after_the_project(
        self, emulator: Emulator, upload_id: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A clear after the session became a project names the project that stays."""
        store = StateStore({"360 session": {"upload_id": upload_id, "clears": 2}})
        project_task(upload_id).execute(context())
        assert self.session(context(2, store, max_tries=4)) != upload_id
        assert f"which is kept: {emulator.url}/projects/{upload_id}" in capsys.readouterr().out


class TestSource:
    def upload(self, upload_id: str, path: Path, store: StateStore, attempt: int) -> Any:
        return UploadFileOperator(task_id="u", upload_id=upload_id, path=str(path), chunk_size=10).execute(
            context(attempt, store)
        )

    def test_changed_between_attempts(self, emulator: Emulator, tmp_path: Path) -> None:
        """A file of the same size but other bytes is refused before a byte of it is sent."""
        upload_id, store, scan = (
            CreateUploadSessionOperator(task_id="s").execute(context()),
            StateStore(),
            tmp_path / "b.e57",
        )
        scan.write_bytes(b"old" * 10)
        self.upload(upload_id, scan, store, 1)
        before = len(emulator.exchanges)
        scan.write_bytes(b"new" * 10)
        os.utime(scan, (1, 1))
        with pytest.raises(AirflowFailException, match="changed since this upload started"):
            self.upload(upload_id, scan, store, 2)
        assert len(emulator.exchanges) == before

    def test_a_new_session_takes_the_file_as_it_is_now(self, emulator: Emulator, tmp_path: Path) -> None:
        """A new session takes the file as it is now."""
        store, scan = StateStore(), tmp_path / "b.e57"
        for content in (b"old", b"newer"):
            scan.write_bytes(content)
            upload_id = CreateUploadSessionOperator(task_id="s").execute(context())
            assert self.upload(upload_id, scan, store, 2)["size"] == len(content)

    def test_refused_file_is_taken_away(self, emulator: Emulator, tmp_path: Path) -> None:
        """A folder without its refused file continues; a folder with any other change does not."""
        upload_id, store = CreateUploadSessionOperator(task_id="s").execute(context()), StateStore()
        for name in ("a.e57", "b.e57", "notes.docx"):
            (tmp_path / name).write_bytes(name.encode())

        def upload(attempt: int) -> Any:
            operator = UploadFilesOperator(task_id="u", upload_id=upload_id, path=str(tmp_path))
            return operator.execute(context(attempt, store))

        with pytest.raises(AirflowFailException, match=r"1 of 3 files.*(?s:.*)docx"):
            upload(1)
        (tmp_path / "notes.docx").unlink()
        assert upload(2)["files"] == 2
        os.utime(tmp_path / "a.e57", (1, 1))
        with pytest.raises(AirflowFailException, match="changed since this upload started"):
            upload(3)
