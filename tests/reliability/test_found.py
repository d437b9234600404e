"""What the long tests led to: answers that are none, and requests that were never sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.exceptions import ProjectError, RateLimitedError, ServerError
from airflow_360.hooks.task_state import TaskState
from airflow_360.operators import once
from airflow_360.operators.once import OnlyOnce
from airflow_360.operators.project import CreateProjectOperator
from tests.airflow.conftest import StateStore, connect, context
from tests.fakes import client_for, outcome_of, strict_emulator


def filled_session(client: ThreeSixtyClient) -> str:
    upload_id = client.create_upload_session().upload_id
    client.put_file(upload_id, "a.e57", b"scan")
    return upload_id


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, upload_id: client.get_file_progress(upload_id, "a.e57"),
        lambda client, upload_id: client.list_files(upload_id),
        lambda client, upload_id: client.get_project(upload_id),
    ],
    ids=["file", "session", "project"],
)
def test_an_answer_to_something_else(ask: Callable[[ThreeSixtyClient, str], Any]) -> None:
    """JSON that does not answer the question is no answer: it is asked again."""
    with strict_emulator() as emulator:
        client = client_for(emulator)
        upload_id = filled_session(client)
        client.create_project({"upload_id": upload_id})
        emulator.faults.add({"on": "GET /**", "do": "garbage", "body": {"ok": True}})
        assert ask(client, upload_id)


def test_a_listing_is_no_post(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the session could not even be listed, no project was asked for, and the retry makes it."""
    monkeypatch.setattr(once, "LOOK", 0.0)
    with strict_emulator(processing_seconds=0) as emulator:
        connect(monkeypatch, host=emulator.url)
        upload_id = filled_session(client_for(emulator))
        store = StateStore()

        def attempt(number: int, task: CreateProjectOperator) -> object:
            return outcome_of(lambda: task.execute(context(number, store)))

        def fails(upload_id: str) -> Any:
            raise ServerError("502", status=502)

        unlucky = CreateProjectOperator(task_id="project", upload_id=upload_id)
        unlucky.hook.client.list_files = fails  # type: ignore[method-assign]
        attempt(1, unlucky)
        retry = CreateProjectOperator(task_id="project", upload_id=upload_id)
        assert attempt(2, retry) == upload_id


def test_a_refusal_does_not_end_an_older_doubt() -> None:
    """A project that comes late of a doubtful request is taken over, also where a clear met a rate limit."""
    with strict_emulator(processing_seconds=0) as emulator:
        client = client_for(emulator)
        upload_id = filled_session(client)
        state = TaskState({"task_state_store": StateStore()})

        def make(attempt: int, clears: int) -> str:
            task = OnlyOnce(client, state, "session", upload_id, attempt, clears, sleep=lambda seconds: None)
            return task.project(lambda: client.create_project({"upload_id": upload_id})).name

        emulator.faults.add({"on": "POST /projects", "do": "status", "status": 504})
        with pytest.raises(ProjectError, match="Nobody can tell"):
            make(1, 0)
        emulator.faults.add({"on": "POST /projects", "do": "rate_limit", "retry_after": 3600})
        with pytest.raises(RateLimitedError):
            make(2, 1)
        client.create_project({"upload_id": upload_id})  # the server gets round to the first request
        assert make(2, 1) == upload_id
        assert list(emulator.store.projects) == [upload_id]
