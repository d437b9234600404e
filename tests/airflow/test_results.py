"""The results of upload tasks: accepted in each form that Airflow passes; any other value is refused."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.exceptions import ProjectError
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.runtime.results import count_files, results_of
from tests.airflow.conftest import context

FILE = {"filename": "a.e57", "path": "/a.e57", "size": 3}
SUMMARY = {"files": 2, "bytes": 30}
SHARD = {**SUMMARY, "shards": 2, "shard": 0}


@pytest.mark.parametrize(
    ("uploads", "results", "files"),
    [
        (None, None, None),
        (FILE, [FILE], 1),
        (SUMMARY, [SUMMARY], 2),
        ([FILE, SHARD], [FILE, SHARD], 3),
        (([FILE], [[SUMMARY], FILE]), [FILE, SUMMARY, FILE], 4),
        ({"filename": "a.e57", "size": "3"}, [{"filename": "a.e57", "size": "3"}], 1),
    ],
    ids=["nothing", "a file", "a summary", "a list", "lists of lists", "digits"],
)
def test_results_become_one_flat_list(uploads: Any, results: Any, files: int | None) -> None:
    """One result, a list, or lists of them become one flat list."""
    assert results_of(uploads) == results
    assert count_files(uploads) == files


MALFORMED: dict[str, tuple[Any, str]] = {
    "text": ("a.e57", "uploads must be the result of upload tasks, not 'a.e57'"),
    "number": (7, "not 7"),
    "None among others": ([FILE, None], "Result 2 of 2 in uploads must be the result of upload tasks"),
    "text among others": ([FILE, FILE, "b.las"], "Result 3 of 3 .* not 'b.las'"),
    "no size": ({"filename": "a.e57"}, "Result 1 of 1 in uploads has no size: .*a.e57"),
    "size is text": (
        [FILE, {"filename": "b.las", "size": "3 GB"}],
        "Result 2 of 2 .*size that is not a whole.*b.las",
    ),
    "size is None": ({"filename": "a.e57", "size": None}, "has a size that is not a whole number"),
    "size is a fraction": ({"filename": "a.e57", "size": 1.5}, "has a size that is not a whole number"),
    "size is not a number": (
        {"filename": "a.e57", "size": float("nan")},
        "has a size that is not a whole number",
    ),
    "size is negative": ({"filename": "a.e57", "size": -1}, "has a size that is not a whole number"),
    "size is true": ({"filename": "a.e57", "size": True}, "has a size that is not a whole number"),
    "size is huge": ({"filename": "a.e57", "size": "9" * 5000}, "has a size that is not a whole number"),
    "no name": ({"filename": None, "size": 1}, "has a filename that is not a name"),
    "something else": ({"path": "/a.e57"}, "has no files and no bytes"),
    "no bytes": ({"files": 2}, "has no bytes"),
    "files are text": ({"files": "two", "bytes": 1}, "has a files that is not a whole number"),
    "no shard": ({**SUMMARY, "shards": 2}, "has no shard"),
}


@pytest.mark.parametrize(("uploads", "said"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_results(uploads: Any, said: str) -> None:
    """A value that is not the result of an upload task is named, with the reason and the next step."""
    for read in (results_of, count_files):
        with pytest.raises(ProjectError, match=said) as raised:
            read(uploads)
        assert "clear it" in str(raised.value)
        assert "UploadFilesOperator" in str(raised.value)
        assert len(str(raised.value)) < 800


def test_a_project_of_malformed_results(emulator: Emulator) -> None:
    """The project task fails permanently, and creates nothing."""
    operator = CreateProjectOperator(task_id="p", upload_id="AAAAAAAA", uploads=[{"filename": "a.e57"}])
    upload_id = operator.hook.client.create_upload_session().upload_id
    operator.upload_id = upload_id
    with pytest.raises(AirflowFailException, match="Result 1 of 1 in uploads has no size"):
        operator.execute(context())
    assert not emulator.store.projects
