"""How far a task is, as Airflow's task state store shows it to people."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_360.emulator import Emulator
from airflow_360.hooks.file_upload import FileUpload
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.hooks.uploads import Uploads
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.runtime.task_state import TaskState
from airflow_360.sensors.project import ProjectReadySensor
from tests.airflow.conftest import AirflowRescheduleException, StateStore, context

SHOWN = "360 progress"


class Recorded(StateStore):
    """Remembers everything that was ever shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[dict[str, Any]] = []

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if key == SHOWN:
            self.shown.append(self[key])


@pytest.fixture
def store() -> Recorded:
    return Recorded()


@pytest.fixture
def hook() -> ThreeSixtyHook:
    """A hook that shows each new number of the server at once."""
    hook = ThreeSixtyHook()
    hook.uploads = Uploads(hook, progress_interval=0.0)
    hook.file_upload = FileUpload(hook, progress_interval=0.0)
    return hook


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return ThreeSixtyHook().client.create_upload_session().upload_id


def test_an_upload_shows_the_numbers_of_the_server(
    emulator: Emulator, hook: ThreeSixtyHook, store: Recorded, tmp_path: Path, upload_id: str
) -> None:
    """An upload shows the server's numbers as plain values, and the text of its log lines."""
    path = tmp_path / "scan.e57"
    path.write_bytes(bytes(3000))
    hook.upload(upload_id, str(path), chunk_size=1000, state=TaskState(context(store=store)))
    assert [shown["received"] for shown in store.shown] == [1000, 2000, 3000]
    first = store.shown[0]
    assert first.pop("progress").startswith("1000 bytes of 2.9 KiB (33 %), ")
    assert first.pop("rate") > 0
    assert first.pop("seconds_left") >= 0
    assert first == {
        "received": 1000,
        "size": 3000,
        "percent": 33,
        "resumed_from": 0,
        "file": "scan.e57",
        "upload_id": upload_id,
        "chunk_size": 1000,
        "attempt": 1,
    }


def test_a_second_attempt_shows_where_it_continued(
    emulator: Emulator, hook: ThreeSixtyHook, store: Recorded, tmp_path: Path, upload_id: str
) -> None:
    """A second attempt shows that it is one, and the byte at which it continued."""
    path = tmp_path / "scan.e57"
    path.write_bytes(bytes(3000))
    hook.client.put_chunk(upload_id, "scan.e57", bytes(1000), "bytes 0-999/3000")
    given = context(try_number=2, store=store)
    hook.upload(upload_id, str(path), chunk_size=1000, state=TaskState(given))
    assert [(shown["attempt"], shown["resumed_from"]) for shown in store.shown] == [(2, 1000)] * 2


def test_a_folder_shows_how_many_files_are_done(
    emulator: Emulator,
    hook: ThreeSixtyHook,
    store: Recorded,
    tmp_path: Path,
    upload_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder also shows how many of its files are done."""
    for name in ("a.e57", "b.e57"):
        (tmp_path / name).write_bytes(bytes(2000))
    begin_put = emulator.store.begin_put

    def begin_b_later(upload_id: str, filename: str, **more: Any) -> Any:
        """Hold one file until the other one is shown."""
        deadline = time.monotonic() + 20
        while filename == "b.e57" and not halves() and time.monotonic() < deadline:
            time.sleep(0.01)
        return begin_put(upload_id, filename, **more)

    def halves() -> list[dict[str, Any]]:
        return [shown for shown in store.shown if shown["files_done"] == 1]

    monkeypatch.setattr(emulator.store, "begin_put", begin_b_later)
    hook.uploads.files(upload_id, hook.paths.list_files(str(tmp_path)), state=TaskState(context(store=store)))
    assert halves()[0]["progress"].startswith("1 of 2 files, 2.0 KiB of 3.9 KiB (50 %)")
    assert {shown["files"] for shown in store.shown} == {2}
    assert store.shown[-1]["files_done"] == 2


def test_a_failed_save_fails_no_upload(
    hook: ThreeSixtyHook, tmp_path: Path, upload_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If Airflow cannot save the progress, this is logged, and no upload fails."""

    class Broken(Recorded):
        def set(self, key: str, value: Any) -> None:
            if key == SHOWN:
                raise RuntimeError("the API server is away")

    path = tmp_path / "scan.e57"
    path.write_bytes(bytes(3000))
    state = TaskState(context(store=Broken()))
    sent = hook.upload(upload_id, str(path), chunk_size=1000, state=state)
    assert sent["size"] == 3000
    assert "Could not save the progress for Airflow's UI: the API server is away" in caplog.text


@pytest.mark.parametrize("wait", ["sensor", "operator"])
def test_a_rescheduled_wait_shows_the_status(emulator: Emulator, wait: str) -> None:
    """A wait that reschedules shows the project's status; one that defers saves none itself."""
    emulator.store.processing_seconds = 1000
    made: dict[str, Any] = {"task_id": "task", "deferrable": False}
    link: dict[str, Any] = {"download_link": "https://x/y.e57"}
    name = CreateProjectOperator(task_id="p", **link).execute(context())
    store = Recorded()
    if wait == "sensor":
        ProjectReadySensor(project_name=name, **made).poke(context(store=store))
    else:
        with pytest.raises(AirflowRescheduleException):
            CreateProjectOperator(wait_for_completion=True, **link, **made).execute(context(store=store))
    (shown,) = store.shown
    assert shown.pop("project_name")
    assert shown == {"progress": "status 0 of 100", "percent": 0, "attempt": 1}
    store = Recorded()
    with pytest.raises(TaskDeferred):
        ProjectReadySensor(project_name=name, **{**made, "deferrable": True}).execute(context(store=store))
    assert store.shown == []
