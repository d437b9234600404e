"""Links that lead out of a folder are refused by every operator, or followed with `follow_links`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    ListScansOperator,
    UploadFilesOperator,
)
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import context

Make = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of scans, which is itself a scan; all that it contains is a link that leads out."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.e57").write_bytes(b"12345")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "link").symlink_to(tmp_path / "outside")
    return tmp_path / "scans"


OPERATORS: dict[str, Make] = {
    "files": lambda path, **more: ListFilesOperator(task_id="t", path=path, **more),
    "scans": lambda path, **more: ListScansOperator(task_id="t", path=path, **more),
    "settled scans": lambda path, **more: ListScansOperator(
        task_id="t", path=path, settle_seconds=1e-9, **more
    ),
    "session": lambda path, **more: CreateUploadSessionOperator(task_id="t", path=path, **more),
    "upload": lambda path, **more: UploadFilesOperator(task_id="t", upload_id="", path=path, **more),
    "archive": lambda path, **more: UploadFilesOperator(
        task_id="t", upload_id="", path=path, archive="a.zip", **more
    ),
}


def run(task: Any) -> Any:
    if getattr(task, "upload_id", None) == "":
        task.upload_id = ThreeSixtyHook().client.create_upload_session().upload_id
    return task.execute(context())


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
def test_refused_by_default(emulator: Emulator, folder: Path, make: Make) -> None:
    """A link that leads out fails the task permanently, and nothing is sent."""
    with pytest.raises(AirflowFailException, match="link is a link that leads out of the folder"):
        run(make(str(folder)))
    assert not any(session.files for session in emulator.store.sessions.values())


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
def test_followed_if_the_author_trusts_it(emulator: Emulator, folder: Path, make: Make) -> None:
    """With follow_links=True the file behind the link is uploaded."""
    assert run(make(str(folder), follow_links=True))


def test_a_link_within_a_scan_is_followed_for_its_age_too(tmp_path: Path, folder: Path) -> None:
    """The target of a link counts for `settle_seconds` if the link is followed."""
    (tmp_path / "all").mkdir()
    folder.rename(tmp_path / "all" / "monday")
    (tmp_path / "all" / "monday" / "a.e57").write_bytes(b"1")
    (scan,) = ThreeSixtyHook().paths.snapshot_scans([f"{tmp_path}/all/monday"])
    (followed,) = ThreeSixtyHook().paths.snapshot_scans([f"{tmp_path}/all/monday"], follow_links=True)
    assert scan.fingerprint != followed.fingerprint


def test_in_a_task_group(folder: Path) -> None:
    """`scan_to_project` passes the parameter to both tasks that list the folder."""
    with DAG("d", schedule=None) as dag:
        scan_to_project(path=str(folder), follow_links=True)
    told = {task.task_id: task.follow_links for task in dag.tasks if hasattr(task, "follow_links")}
    assert told == {"scan_to_project.create_session": True, "scan_to_project.upload": True}


@pytest.mark.parametrize("kind", ["pipe", "name"])
def test_a_pipe_or_a_strange_name_in_a_folder(emulator: Emulator, tmp_path: Path, kind: str) -> None:
    """A pipe, and a name that is not UTF-8, fail the task by name before anything is sent."""
    if kind == "pipe":
        os.mkfifo(tmp_path / "live.e57")
    else:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/live\xff.e57")).write_bytes(b"1")
    (tmp_path / "a.e57").write_bytes(b"1")
    with pytest.raises(AirflowFailException, match=r"live(\\xff)?\.e57 (is a named pipe|has a name)"):
        run(OPERATORS["upload"](str(tmp_path)))
    assert not any(session.files for session in emulator.store.sessions.values())
