"""Exactly one session per task and one project per session, whatever fails and whatever is cleared."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.exceptions import NoReplyError
from airflow_360.operators import once
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from tests.airflow.conftest import StateStore, connect, context

POST = "POST /projects"


@pytest.fixture(params=[False, True], ids=["session lives on", "session is consumed"])
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Both readings of what becomes of a session."""
    # Two minutes of looking for a project are too long for a test.
    monkeypatch.setattr(once, "LOOK", 0.2)
    monkeypatch.setattr(once, "LOOK_EVERY", 0.1)
    with Emulator(processing_seconds=0, session_consumed=request.param) as emulator:
        connect(monkeypatch, host=emulator.url)
        yield emulator
        assert not emulator.faults.unused()


@pytest.fixture
def upload_id(emulator: Emulator, tmp_path: Path) -> str:
    """A session with one complete file."""
    (tmp_path / "a.e57").write_bytes(b"scan")
    upload_id = CreateUploadSessionOperator(task_id="session").execute(context())
    UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(tmp_path / "a.e57")).execute(context())
    return upload_id


def project_task(upload_id: str) -> CreateProjectOperator:
    return CreateProjectOperator(task_id="project", upload_id=upload_id)


def posts(emulator: Emulator) -> int:
    return sum(e.method == "POST" and e.path == "/projects" for e in emulator.exchanges)


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "lost_reply"},
        {"do": "truncate"},
        {"do": "garbage"},
        {"do": "status", "status": 502, "when": "after_body", "body": "<h1>Bad gateway"},
    ],
    ids=["lost", "cut off", "page", "502"],
)
def test_made_without_an_answer(emulator: Emulator, upload_id: str, fault: dict[str, Any]) -> None:
    """A project whose creation got no answer is found, in the same attempt, and not made again."""
    emulator.faults.add({"on": POST, **fault})
    store = StateStore()
    assert project_task(upload_id).execute(context(store=store)) == upload_id
    assert project_task(upload_id).execute(context(2, store)) == upload_id
    assert posts(emulator) == len(emulator.store.projects) == 1


@pytest.mark.parametrize(
    "fault",
    [{"do": "status", "status": 503, "when": "before_body"}, {"do": "reset"}],
    ids=["503", "reset"],
)
def test_not_made_and_no_answer(emulator: Emulator, upload_id: str, fault: dict[str, Any]) -> None:
    """What nobody can know stops for good, and stays stopped until a person clears the task."""
    emulator.faults.add({"on": POST, **fault})
    store = StateStore()
    for attempt in (1, 2):
        with pytest.raises(AirflowFailException, match="Nobody can tell whether a project was created"):
            project_task(upload_id).execute(context(attempt, store))
    assert posts(emulator) == 1
    assert project_task(upload_id).execute(context(3, store, max_tries=4)) == upload_id
    assert len(emulator.store.projects) == 1


def test_killed_before_the_record(emulator: Emulator, upload_id: str) -> None:
    """A worker that dies between the POST and its record leaves a project that the retry takes over."""
    store = StateStore()

    class Killed(BaseException):
        pass

    task = project_task(upload_id)
    client = task.hook.client
    create = client.create_project

    def create_and_die(fields: Any) -> Any:
        create(fields)
        raise Killed

    client.create_project = create_and_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        task.execute(context(store=store))
    assert project_task(upload_id).execute(context(2, store)) == upload_id
    assert posts(emulator) == len(emulator.store.projects) == 1


@pytest.mark.parametrize("fault", [None, {"do": "lost_reply"}], ids=["answered", "lost reply"])
def test_collision(emulator: Emulator, tmp_path: Path, fault: dict[str, Any] | None) -> None:
    """A stranger's project that bears the session's name is never taken over."""
    taken = emulator.store.take_name()
    (tmp_path / "a.e57").write_bytes(b"scan")
    upload_id = CreateUploadSessionOperator(task_id="session").execute(context())
    assert upload_id == taken
    UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(tmp_path / "a.e57")).execute(context())
    store = StateStore()
    if fault is None:
        name = project_task(upload_id).execute(context(store=store))
        assert name != upload_id
        assert project_task(upload_id).execute(context(2, store)) == name
    else:
        emulator.faults.add({"on": POST, **fault})
        with pytest.raises(AirflowFailException, match="the name of an older project"):
            project_task(upload_id).execute(context(store=store))
        with pytest.raises(AirflowFailException, match="the name of an older project"):
            project_task(upload_id).execute(context(2, store))
    assert posts(emulator) == 1


def test_cleared(emulator: Emulator, upload_id: str) -> None:
    """Clearing the project task takes over the project that is there."""
    store = StateStore()
    project_task(upload_id).execute(context(store=store))
    assert project_task(upload_id).execute(context(2, store, max_tries=4)) == upload_id
    assert posts(emulator) == 1


def test_no_connection_is_not_sent(emulator: Emulator, upload_id: str) -> None:
    """A POST that never had a connection leaves no doubt, and the retry sends it."""
    store, task = StateStore(), project_task(upload_id)

    def refused(fields: Any) -> Any:
        raise NoReplyError("connection refused", sent=False)

    task.hook.client.create_project = refused  # type: ignore[method-assign]
    with pytest.raises(AirflowException) as caught:
        task.execute(context(store=store))
    assert not isinstance(caught.value, AirflowFailException)
    assert project_task(upload_id).execute(context(2, store)) == upload_id
    assert posts(emulator) == 1


@pytest.mark.parametrize("attempt", [1, 2])
def test_without_a_memory(emulator: Emulator, upload_id: str, attempt: int) -> None:
    """An Airflow that keeps no state creates on the first attempt, and stops where it would guess."""
    if attempt == 1:
        assert project_task(upload_id).execute(context()) == upload_id
        return
    project_task(upload_id).execute(context())
    with pytest.raises(AirflowFailException, match="Nobody can tell"):
        project_task(upload_id).execute(context(2))
    assert posts(emulator) == 1


def test_started_over(
    emulator: Emulator, upload_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared task with a new session makes its project at once: it knows that it has not asked for it."""
    store = StateStore()
    project_task(upload_id).execute(context(store=store))
    again = CreateUploadSessionOperator(task_id="session").execute(context(2))
    UploadFileOperator(task_id="upload", upload_id=again, path=str(tmp_path / "a.e57")).execute(context(2))
    monkeypatch.setattr(once, "LOOK", 60.0)
    monkeypatch.setattr(once, "LOOK_EVERY", 60.0)
    began = time.monotonic()
    assert project_task(again).execute(context(2, store)) == again
    assert time.monotonic() - began < 30
    assert posts(emulator) == 2


def test_link_without_a_memory(emulator: Emulator) -> None:
    """A link whose earlier attempts are not known is never posted again, whatever is clicked."""
    task = CreateProjectOperator(task_id="project", download_link="https://x/a.e57?signature=secret")
    task.execute(context())
    for max_tries in (2, 4):
        with pytest.raises(AirflowFailException, match="to make another, trigger a new run") as caught:
            task.execute(context(2, max_tries=max_tries))
        assert "secret" not in str(caught.value)
    assert posts(emulator) == 1


def test_a_link_that_is_signed_anew(emulator: Emulator) -> None:
    """A retry with another link may be one for the same project, and is not posted by guess."""
    store = StateStore()
    links = [f"https://x/a.e57?signature={number}" for number in range(2)]
    first, second = (CreateProjectOperator(task_id="project", download_link=link) for link in links)
    first.execute(context(store=store))
    with pytest.raises(AirflowFailException, match="Nobody can tell"):
        second.execute(context(2, store))
    assert posts(emulator) == 1


def test_links_are_kept_apart(emulator: Emulator) -> None:
    """Another link under the same task and index makes another project; the same link makes none."""
    store = StateStore()

    def create(link: str) -> str:
        return CreateProjectOperator(task_id="project", download_link=link).execute(context(store=store))

    first = create("https://x/a.e57?signature=secret")
    assert create("https://x/b.e57") != first
    assert create("https://x/a.e57?signature=secret") == first
    assert posts(emulator) == 2
    assert "secret" not in str(store)


class TestSession:
    def session(self, given: Any) -> str:
        return CreateUploadSessionOperator(task_id="session").execute(given)

    def test_retry(self, emulator: Emulator) -> None:
        """A retry uses the session that was made before."""
        store = StateStore()
        first = self.session(context(store=store))
        assert self.session(context(2, store)) == first
        assert len(emulator.store.sessions) == 1

    def test_retry_of_a_dead_session(self, emulator: Emulator) -> None:
        """A retry makes a new session where the first is gone."""
        store = StateStore()
        first = self.session(context(store=store))
        CreateUploadSessionOperator(task_id="s").hook.client.delete_upload_session(first)
        assert self.session(context(2, store)) != first

    def test_clear(self, emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
        """A clear makes a new session and logs the old one's id."""
        store = StateStore()
        first = self.session(context(store=store))
        assert self.session(context(2, store, max_tries=4)) != first
        assert f"upload session {first} is left to expire" in capsys.readouterr().out

    def test_clear_after_the_project(
        self, emulator: Emulator, upload_id: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A clear after the session became a project names the project that stays."""
        store = StateStore({"360 session": {"upload_id": upload_id, "clears": 2}})
        project_task(upload_id).execute(context())
        assert self.session(context(2, store, max_tries=4)) != upload_id
        assert f"which stays: {emulator.url}/projects/{upload_id}" in capsys.readouterr().out


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
        with pytest.raises(AirflowFailException, match="is not what this upload began with"):
            self.upload(upload_id, scan, store, 2)
        assert len(emulator.exchanges) == before

    def test_another_session(self, emulator: Emulator, tmp_path: Path) -> None:
        """A new session takes the file as it is now."""
        store, scan = StateStore(), tmp_path / "b.e57"
        for content in (b"old", b"newer"):
            scan.write_bytes(content)
            upload_id = CreateUploadSessionOperator(task_id="s").execute(context())
            assert self.upload(upload_id, scan, store, 2)["size"] == len(content)

    def test_refused_file_is_taken_away(self, emulator: Emulator, tmp_path: Path) -> None:
        """A folder whose refused file was taken away goes on; one that changed otherwise does not."""
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
        with pytest.raises(AirflowFailException, match="is not what this upload began with"):
            upload(3)
