"""Two mapped uploads with one flat name: the server ignores the second one, and the project task finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFileOperator
from tests.airflow.conftest import StateStore, context


def upload_each(paths: list[Path], filenames: list[str | None]) -> tuple[str, list[dict[str, Any]]]:
    """Upload files one by one, as mapped tasks do that do not know of each other."""
    upload_id = CreateUploadSessionOperator(task_id="s").execute(context())
    results = [
        UploadFileOperator(task_id="u", upload_id=upload_id, path=str(path), filename=name).execute(context())
        for path, name in zip(paths, filenames, strict=True)
    ]
    return upload_id, results


@pytest.mark.parametrize(
    "filenames",
    [[None, None], ["a.e57", "A.E57"], ["raw/a.e57", "raw_a.e57"]],
    ids=["same name", "case", "flat"],
)
def test_the_project_task_finds_it(emulator: Emulator, tmp_path: Path, filenames: list[str | None]) -> None:
    """No project is created, and the error names both paths."""
    paths = [tmp_path / "north" / "a.e57", tmp_path / "south" / "a.e57"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())  # of one size, so that sizes show no difference
    upload_id, results = upload_each(paths, filenames)
    assert [result["filename"].lower() for result in results[1:]] == [results[0]["filename"].lower()]
    task = CreateProjectOperator(task_id="p", upload_id=upload_id, uploads=results)
    with pytest.raises(AirflowFailException) as caught:
        task.execute(context(store=StateStore()))
    assert all(str(path) in str(caught.value) for path in paths)
    assert not emulator.store.projects


def test_one_file_that_was_uploaded_twice_is_fine(emulator: Emulator, tmp_path: Path) -> None:
    """The same file, uploaded by two tasks, becomes a project."""
    path = tmp_path / "a.e57"
    path.write_bytes(b"12345")
    upload_id, results = upload_each([path, path], [None, None])
    assert CreateProjectOperator(task_id="p", upload_id=upload_id, uploads=results).execute(
        context(store=StateStore())
    )
