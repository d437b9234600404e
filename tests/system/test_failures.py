"""Failures of a nightly run in a real Airflow: killed processes, cleared tasks, lost replies, rate limits."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_360.emulator import Exchange
from harness.airflow import COMMANDS
from harness.processes import Child, end
from tests.system.conftest import PAUSED, Site

pytestmark = pytest.mark.system

CHUNK = 256 * 1024
SIZE = CHUNK * 5 + 17
NAMES = ("one.e57", "two.e57", "three.e57")
Run = tuple[str, str]


def content(word: str) -> bytes:
    return (word.encode() * SIZE)[:SIZE]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def fill(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).write_bytes(content(name))
    return folder


@pytest.fixture(autouse=True)
def quick_projects(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 0.5)


def until(site: Site, what: str, happened: Callable[[], bool], timeout: float = 600) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        site.airflow.check()
        assert time.monotonic() < deadline, f"It never came to this: {what}"
        time.sleep(0.1)


def finish(site: Site, run: Run) -> None:
    site.airflow.wait(*run, must_succeed=True)


class Since:
    """The requests that came after a moment."""

    def __init__(self, site: Site) -> None:
        self._site, self._first = site, len(site.emulator.exchanges)

    def __call__(self, method: str, beginning: str) -> list[Exchange]:
        return [
            e
            for e in self._site.emulator.exchanges[self._first :]
            if e.method == method and e.path.startswith(beginning)
        ]


def stalled(site: Site, since: Since, method: str, beginning: str) -> None:
    """Wait until a request hangs in the emulator, so that its task is surely in the middle of it."""
    until(
        site,
        f"a stalled {method} {beginning}",
        lambda: any(e.fault == "stall" for e in since(method, beginning)),
    )


def kill_task(site: Site, run: Run, task_id: str, map_index: int = -1) -> None:
    """Kill a task's process as the kernel does if memory runs out; its supervisor survives."""
    instance = site.airflow.task_instance(*run, task_id, map_index)
    # Airflow puts the task instance's id into the title of the process that runs it.
    title = f"airflow worker -- {instance['id']}"
    found = [pid for pid in pids() if title_of(pid) == title]
    assert len(found) == 1
    assert os.getsid(found[0]) == site.airflow.pid("scheduler")
    os.kill(found[0], signal.SIGKILL)


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def session_of(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def signal_all(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def identical(site: Site, project: str, folder: Path) -> bool:
    stored = {name: site.emulator.store.file_path(project, name).read_bytes() for name in NAMES}
    return stored == {name: (folder / name).read_bytes() for name in NAMES}


def projects_of(site: Site, upload_id: str) -> list[str]:
    """Return the projects that a session became."""
    return [
        project.name
        for project in site.emulator.store.projects.values()
        if project.session and project.session.upload_id == upload_id
    ]


# -- something is killed


@pytest.mark.parametrize("keep", [True, pytest.param(False, marks=pytest.mark.long)])
def test_worker_killed_during_an_upload(
    site: Site, folder: Path, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload whose process is killed between chunks resumes at the server's mark, in one project."""
    monkeypatch.setattr(site.emulator.store, "keep_cut_bytes", keep)
    site.emulator.faults.add(
        {"on": "PUT /uploads/*/two.e57", "skip": 2, "do": "stall", "seconds": 300, "when": "before_body"}
    )
    since = Since(site)
    run = site.run("chunked_upload", folder=str(folder))
    stalled(site, since, "PUT", "/uploads/")
    upload_id = site.airflow.xcom(*run, "create_session")
    index = [file["filename"] for file in site.airflow.xcom(*run, "list_files")].index("two.e57")
    kill_task(site, run, "upload", index)
    finish(site, run)

    assert site.airflow.task_instance(*run, "upload", index)["try_number"] == 2
    puts = since("PUT", f"/uploads/{upload_id}/two.e57")
    broken = next(i for i, put in enumerate(puts) if put.fault == "stall")
    assert puts[broken + 1].start == puts[broken + 1].received_before == 2 * CHUNK
    assert all(put.start == put.received_before for put in puts)
    assert SIZE <= sum(put.body_bytes for put in puts) <= SIZE + CHUNK
    assert "two.e57: resumes at 512.0 KiB of 1.3 MiB" in site.airflow.log(*run, "upload", map_index=index)
    assert projects_of(site, upload_id) == [site.airflow.xcom(*run, "create_project")]
    assert identical(site, upload_id, folder)


@pytest.mark.long
@pytest.mark.parametrize("consumed", [True, False])
def test_worker_killed_before_the_project_is_noted(
    site: Site, folder: Path, consumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project task that is killed before it hears of its project finds it; there is no second one."""
    monkeypatch.setattr(site.emulator.store, "_session_consumed", consumed)
    site.emulator.faults.add({"on": "POST /projects", "do": "stall", "seconds": 300, "when": "after_body"})
    since = Since(site)
    run = site.run("chunked_upload", folder=str(folder))
    stalled(site, since, "POST", "/projects")
    upload_id = site.airflow.xcom(*run, "create_session")
    until(site, "the project is there", lambda: projects_of(site, upload_id) != [])
    kill_task(site, run, "create_project")
    finish(site, run)

    assert site.airflow.task_instance(*run, "create_project")["try_number"] == 2
    assert len(since("POST", "/projects")) == 1
    assert projects_of(site, upload_id) == [site.airflow.xcom(*run, "create_project")]


@pytest.mark.long
def test_machine_gone_during_an_upload(site: Site, folder: Path) -> None:
    """An upload whose machine dies, scheduler and supervisor with it, resumes once a scheduler is back."""
    site.emulator.faults.add(
        {"on": "PUT /uploads/*/two.e57", "skip": 2, "do": "stall", "seconds": 300, "when": "before_body"}
    )
    since = Since(site)
    run = site.run("chunked_upload", folder=str(folder))
    stalled(site, since, "PUT", "/uploads/")
    site.airflow.kill("scheduler")
    # The new one looks for tasks of dead schedulers often, not every five minutes.
    site.airflow.env["AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"] = "3"
    try:
        site.airflow.restart("scheduler")
        finish(site, run)
    finally:
        del site.airflow.env["AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"]
        site.airflow.restart("scheduler")

    upload_id, project = results(site, run)
    puts = since("PUT", f"/uploads/{upload_id}/two.e57")
    broken = next(i for i, put in enumerate(puts) if put.fault == "stall")
    assert puts[broken + 1].start == puts[broken + 1].received_before == 2 * CHUNK
    assert sum(put.body_bytes for put in puts) <= SIZE + CHUNK
    assert projects_of(site, upload_id) == [project]
    assert identical(site, upload_id, folder)


def waiting(site: Site, folder: Path, since: Since) -> tuple[Run, str]:
    """Start a run, and return it with its project's name once the triggerer polls for that."""
    run = site.run("chunked_upload", folder=str(folder))
    until(site, "a wait", lambda: site.airflow.task_instance(*run, "ready")["state"] == "deferred")
    name = site.airflow.xcom(*run, "create_project")
    polls = f"/projects/{name}"
    first = len(since("GET", polls))
    until(site, "polls by the triggerer", lambda: len(since("GET", polls)) > first + 1)
    return run, name


@pytest.mark.long
def test_triggerer_killed_during_the_wait(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a project continues in a new triggerer after the old one was killed, and succeeds."""
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 3600)
    since = Since(site)
    run, name = waiting(site, folder, since)
    polls = f"/projects/{name}"

    site.airflow.kill("triggerer")
    dead = len(since("GET", polls))
    time.sleep(3)
    assert len(since("GET", polls)) == dead
    assert site.airflow.task_instance(*run, "ready")["state"] == "deferred"

    site.airflow.restart("triggerer")
    until(site, "polls by the new triggerer", lambda: len(since("GET", polls)) > dead)
    site.emulator.store.projects[name].processing_seconds = 0
    finish(site, run)
    assert site.airflow.task_instance(*run, "ready")["try_number"] == 1
    assert site.airflow.xcom(*run, "ready")["status"] == 100


@pytest.mark.long
def test_two_triggerers(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen triggerer that wakes up waits in parallel with its replacement; the task ends once."""
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 3600)
    since = Since(site)
    run, name = waiting(site, folder, since)
    polls = f"/projects/{name}"

    frozen = [pid for pid in pids() if session_of(pid) == site.airflow.pid("triggerer")]
    signal_all(frozen, signal.SIGSTOP)
    asked = len(since("GET", polls))
    second = Child(
        "triggerer",
        [sys.executable, "-m", "airflow", *COMMANDS["triggerer"]],
        log=site.folder / "second-triggerer.log",
        # It takes the other for dead after five seconds and not after thirty.
        env={**site.airflow.env, "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5"},
        cwd=site.airflow.home,
    )
    try:
        until(site, "polls by the second", lambda: len(since("GET", polls)) > asked + 1)
        ready = Since(site)
        site.emulator.store.projects[name].processing_seconds = 0
        signal_all(frozen, signal.SIGCONT)
        finish(site, run)
        until(site, "a poll by each", lambda: len(ready("GET", polls)) >= 2)
    finally:
        signal_all(frozen, signal.SIGCONT)
        end([second])
    assert site.airflow.task_instance(*run, "ready")["try_number"] == 1
    assert site.airflow.xcom(*run, "ready")["status"] == 100
    assert site.airflow.log(*run, "ready").count(f"Project {name} is ready: ") == 1
    assert len(since("POST", "/projects")) == 1


# -- a button is pressed after the run


@pytest.fixture(scope="module")
def finished(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One finished run, on which every test of this part presses another button."""
    before, site.emulator.store.processing_seconds = site.emulator.store.processing_seconds, 0.5
    run = site.run("chunked_upload", folder=str(fill(tmp_path_factory.mktemp("finished"))))
    finish(site, run)
    site.emulator.store.processing_seconds = before
    return run


@pytest.mark.long
def test_clear_an_upload(site: Site, finished: Run) -> None:
    """A cleared upload of a finished run costs one question and no bytes, and the project stays the one."""
    upload_id, project = results(site, finished)
    since = Since(site)
    site.airflow.clear(*finished, [("upload", 0)])
    finish(site, finished)
    name = site.airflow.xcom(*finished, "list_files")[0]["filename"]
    assert [e.path for e in since("GET", "/uploads/")] == [f"/uploads/{upload_id}/{name}"]
    assert since("PUT", "/") == since("POST", "/") == []
    assert results(site, finished) == (upload_id, project)


@pytest.mark.long
def test_clear_the_project(site: Site, finished: Run) -> None:
    """A cleared project task reuses the project that it created."""
    upload_id, project = results(site, finished)
    since = Since(site)
    site.airflow.clear(*finished, ["create_project"])
    finish(site, finished)
    assert since("PUT", "/") == since("POST", "/") == []
    assert results(site, finished) == (upload_id, project)
    log = site.airflow.log(*finished, "create_project")
    assert f"Project {project} was already created for session {upload_id} and is reused" in log


@pytest.mark.long
def test_clear_the_sensor(site: Site, finished: Run) -> None:
    """A cleared sensor ends immediately if the project is ready."""
    _, project = results(site, finished)
    since = Since(site)
    site.airflow.clear(*finished, ["ready"])
    finish(site, finished)
    assert [e.path for e in since("GET", "/")] == [f"/projects/{project}"]
    assert since("PUT", "/") == since("POST", "/") == []
    assert site.airflow.xcom(*finished, "ready")["name"] == project


@pytest.mark.long
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("consumed", [False, True])
def test_clear_the_session(
    site: Site, finished: Run, whole: bool, consumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared session task starts over with a second project; its log names the old session and project."""
    monkeypatch.setattr(site.emulator.store, "_session_consumed", consumed)
    upload_id, project = results(site, finished)
    since = Since(site)
    if whole:
        site.airflow.clear_run(*finished)
    else:
        site.airflow.clear(*finished, ["create_session"])
    finish(site, finished)
    new_id, new_project = results(site, finished)
    assert (new_id != upload_id, new_project != project) == (True, True)
    assert len(since("POST", "/uploads")) == len(since("POST", "/projects")) == 1
    assert projects_of(site, new_id) == [new_project]
    assert projects_of(site, upload_id) == [project]
    assert len(since("PUT", f"/uploads/{new_id}/")) == 6 * len(NAMES)
    log = site.airflow.log(*finished, "create_session")
    assert f"upload session {upload_id} will expire by itself" in log
    assert f"Session {upload_id} already became a project" in log
    assert f"{site.emulator.url}/projects/{project}" in log


def results(site: Site, run: Run) -> tuple[str, str]:
    return site.airflow.xcom(*run, "create_session"), site.airflow.xcom(*run, "create_project")


# -- the server's answers are lost, or ask for patience


@pytest.mark.parametrize("consumed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_lost_reply_to_the_project(
    site: Site, folder: Path, consumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose request for the project got no answer ends by itself with exactly one project."""
    monkeypatch.setattr(site.emulator.store, "_session_consumed", consumed)
    site.emulator.faults.add({"on": "POST /projects", "do": "lost_reply"})
    since = Since(site)
    run = site.run("chunked_upload", folder=str(folder))
    finish(site, run)
    upload_id, project = results(site, run)
    assert len(since("POST", "/projects")) == 1
    assert projects_of(site, upload_id) == [project]
    assert {i["try_number"] for i in site.airflow.task_instances(*run)} == {1}
    assert identical(site, upload_id, folder)


@pytest.mark.parametrize(
    ("dag_id", "state"),
    [
        pytest.param("rate_limited_deferred", "DEFERRED", marks=pytest.mark.matrix),
        pytest.param("rate_limited_rescheduled", "UP_FOR_RESCHEDULE", marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("hasty")
def test_long_rate_limit(site: Site, folder: Path, dag_id: str, state: str) -> None:
    """A long rate limit holds no worker and uses no retry, and the server gets only two requests."""
    for on in ("POST /uploads", "POST /projects"):
        site.emulator.faults.add({"on": on, "do": "rate_limit", "retry_after": 6})
    since = Since(site)
    run = site.run(dag_id, folder=str(folder))
    finish(site, run)
    for task_id in ("create_session", "create_project"):
        assert state in PAUSED.findall(site.airflow.log(*run, task_id))
    assert {i["try_number"] for i in site.airflow.task_instances(*run)} == {1}
    for path in ("/uploads", "/projects"):
        refused, accepted = since("POST", path)
        assert accepted.at - refused.at >= 6
    upload_id, project = results(site, run)
    assert projects_of(site, upload_id) == [project]


# -- the source has changed, or has a strange name


@pytest.mark.long
def test_source_replaced_between_attempts(site: Site, tmp_path: Path) -> None:
    """A file that was replaced by one of the same size is not sent, and no further retry is used."""
    path = tmp_path / "scan.e57"
    path.write_bytes(content("old"))
    site.emulator.faults.add(
        {"on": "PUT /uploads/*/scan.e57", "skip": 2, "do": "stall", "seconds": 300, "when": "before_body"}
    )
    since = Since(site)
    run = site.run("retried_upload", path=str(path))
    stalled(site, since, "PUT", "/uploads/")
    other = tmp_path / "other.e57"
    other.write_bytes(content("new"))
    other.replace(path)
    kill_task(site, run, "upload")
    assert site.airflow.wait(*run) == "failed"

    upload = site.airflow.task_instance(*run, "upload")
    assert (upload["try_number"], upload["max_tries"]) == (2, 3)
    assert len(since("PUT", "/uploads/")) == 3  # the stalled one was the last
    upload_id = site.airflow.xcom(*run, "create_session")
    stored = site.emulator.store.file_path(upload_id, "scan.e57").read_bytes()
    assert content("old").startswith(stored)
    log = site.airflow.log(*run, "upload")
    assert f"{path} changed since this upload started" in log
    assert "Nothing more was sent. Clear the session task to start over" in log


@pytest.mark.long
def test_names_that_look_like_templates(site: Site) -> None:
    """A file whose name is a template is uploaded under a flat name, and the template is not rendered."""
    date = site.next_day()
    names = ["{{ conn.three_sixty_default.password }}.e57", "{{ ds }}.e57"]
    site.s3.make_bucket("scans")
    for name in names:
        key = f"{date:%Y-%m-%d}/{name}"
        site.s3.client().put_object(Bucket="scans", Key=key, Body=content(name))
    run = site.run("example_nightly_s3_scans", date, day=f"{date:%Y-%m-%d}")
    finish(site, run)
    upload_id, project = results(site, run)
    assert projects_of(site, upload_id) == [project]
    files = site.emulator.store.sessions[upload_id].files
    stored = {name: site.emulator.store.file_path(upload_id, name).read_bytes() for name in files}
    assert set(stored.values()) == {content(name) for name in names}
    assert all("sk_system_test" not in name and f"{date:%Y-%m-%d}" not in name for name in stored)
    rendered = [site.airflow.xcom(*run, "upload", map_index=index) for index in range(2)]
    assert {result["path"].rpartition("/")[2] for result in rendered} == set(names)
    for index in range(2):
        assert "sk_system_test" not in site.airflow.log(*run, "upload", map_index=index)
