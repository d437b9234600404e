"""The whole pipeline in one call, and the session that is only created if there is something to upload."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException

from airflow_360.emulator import Emulator
from airflow_360.operators.upload import CreateUploadSessionOperator
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import context

STEPS = ("create_session", "upload", "create_project")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scan = tmp_path / "bridge"
    (scan / "raw").mkdir(parents=True)
    for name in ("a.e57", "raw/b.e57", "notes.txt"):
        (scan / name).write_bytes(b"12345")
    return scan


def group_of(**given: Any) -> dict[str, Any]:
    """Return the tasks of a group by their names."""
    with DAG("d", schedule=None) as dag:
        scan_to_project(**given)
    return {task.task_id.rpartition(".")[2]: task for task in dag.tasks}


def run(**given: Any) -> dict[str, Any]:
    """Run a group's tasks up to its project, one after the other, and return their results."""
    tasks = group_of(**given)
    results: dict[str, Any] = {}
    for step in STEPS:
        task = tasks[step]
        if step != "create_session":
            task.upload_id = results["create_session"]
        if step == "create_project":
            task.uploads = results["upload"]
        results[step] = task.execute(context())
    return results


class TestScanToProject:
    def test_a_folder_becomes_a_project(self, emulator: Emulator, folder: Path) -> None:
        """Everything below a folder is uploaded, and the project has the folder's name."""
        results = run(path=str(folder), inspect="off")
        assert results["upload"] == {"files": 3, "bytes": 15}
        names = {file.name for file in emulator.store.sessions[results["create_session"]].files.values()}
        assert names == {"a.e57", "raw_b.e57", "notes.txt"}
        assert emulator.store.projects[results["create_project"]].options["title"] == "bridge"

    def test_a_single_file_becomes_a_project(self, emulator: Emulator, folder: Path) -> None:
        """A path may lead to one file, whose name is the title."""
        results = run(path=folder / "a.e57", pattern="*.las", inspect="off")
        assert results["upload"] == {"files": 1, "bytes": 5}
        assert emulator.store.projects[results["create_project"]].options["title"] == "a.e57"

    def test_an_archive_of_a_single_file(self, emulator: Emulator, folder: Path) -> None:
        """A single file can be sent as an archive too."""
        results = run(path=str(folder / "a.e57"), archive="scan.zip")
        assert results["upload"]["files"] == 1

    def test_a_missing_file_fails_before_a_session_is_created(self, emulator: Emulator, folder: Path) -> None:
        """A path that looks like a file's and does not exist is not an empty folder."""
        with pytest.raises(AirflowFailException, match=r"c\.e57 does not exist"):
            run(path=str(folder / "c.e57"))
        assert emulator.exchanges == []

    def test_pattern_and_exclude_choose_the_files(self, emulator: Emulator, folder: Path) -> None:
        """The group uploads the files that `pattern` and `exclude` select."""
        results = run(path=str(folder), pattern=["*.E57", "*.txt"], exclude="raw/*")
        assert set(emulator.store.sessions[results["create_session"]].files) == {"a.e57", "notes.txt"}

    @pytest.mark.parametrize(
        "given",
        [
            {"pattern": "*.las"},
            {"exclude": ["*.e57", "*.txt"]},
            {"path": "{folder}/raw", "recursive": False, "exclude": "b.*"},
            {"path": "{folder}/../tunnel"},
        ],
        ids=str,
    )
    def test_nothing_to_upload_creates_no_session(
        self, emulator: Emulator, folder: Path, given: dict[str, Any]
    ) -> None:
        """If there is no file to upload, the group is skipped without a request."""
        given = {**given, "path": given.get("path", "{folder}").format(folder=folder)}
        with pytest.raises(AirflowSkipException, match="No files in"):
            run(**given)
        with pytest.raises(AirflowFailException, match="No files in"):
            run(on_empty="fail", **given)
        assert emulator.exchanges == []

    def test_files_in_subfolders_only(self, emulator: Emulator, folder: Path) -> None:
        """With `recursive=False` files in subfolders do not count, but an archive always contains them."""
        (folder / "a.e57").unlink()
        (folder / "notes.txt").unlink()
        with pytest.raises(AirflowSkipException):
            run(path=str(folder), recursive=False)
        assert run(path=str(folder), recursive=False, archive="scan.zip")["upload"]["files"] == 1

    def test_parameters_reach_the_tasks(self) -> None:
        """Each parameter of the group reaches the tasks that it is for."""
        tasks = group_of(
            path="/scans",
            on_empty="fail",
            fail_on_errors=True,
            stall_timeout=timedelta(hours=1),
            timeout=timedelta(hours=8),
            pool="uploads",
        )
        assert {task.pool for task in tasks.values()} == {"uploads"}
        assert (tasks["create_session"].on_empty, tasks["upload"].on_empty) == ("fail", "fail")
        ready = tasks["ready"]
        assert (ready.fail_on_errors, ready.stall_timeout) == (True, 3600.0)
        assert timedelta(seconds=float(ready.timeout)) == timedelta(hours=8)

    def test_the_default_pool(self) -> None:
        """Without `pool` Airflow's own is used."""
        assert {task.pool for task in group_of(path="/scans").values()} == {"default_pool"}


class TestSession:
    def create(self, **given: Any) -> str:
        return CreateUploadSessionOperator(task_id="session", **given).execute(context())

    def test_without_a_path(self, emulator: Emulator) -> None:
        """Without `path` a session is created in any case."""
        assert self.create() in emulator.store.sessions

    @pytest.mark.parametrize("path", ["", "/", "/*.e57", "/a.e57", "/raw"], ids=repr)
    def test_a_path_with_a_file(self, emulator: Emulator, folder: Path, path: str) -> None:
        """A folder, a glob or a file with content gets a session."""
        assert self.create(path=f"{folder}{path}") in emulator.store.sessions

    def test_an_empty_folder(self, emulator: Emulator, tmp_path: Path) -> None:
        """A folder without files gets no session, and the message contains the search conditions."""
        (tmp_path / ".hidden").touch()
        with pytest.raises(AirflowSkipException, match=r"No files in .* that match \*\.e57, \*\.las"):
            self.create(path=tmp_path, pattern=["*.e57", "*.las"])
        assert emulator.exchanges == []

    def test_a_template_that_gives_no_path(self, emulator: Emulator) -> None:
        """A template that renders to no path fails the task and creates no session."""
        for empty in ("", "None"):
            with pytest.raises(AirflowFailException, match="path is"):
                self.create(path=empty)
        assert emulator.exchanges == []
