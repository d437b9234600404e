"""Replies as frozen values: what is taken for an answer, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_360.api.records import FileProgress, Project, UploadSession
from airflow_360.exceptions import NoReplyError, ProjectError

PROGRESS = {"received": 3, "total": 5, "complete": False}
MISSING = object()


def changed(reply: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**reply, **changes}.items() if value is not MISSING}


def test_session() -> None:
    """The reply of the contract becomes a session."""
    session = UploadSession.from_reply({"upload_id": "Bx0xyTjt", "expires_in_seconds": 259200})
    assert session == UploadSession("Bx0xyTjt", 259200)


@pytest.mark.parametrize(
    "changes",
    [
        {"upload_id": MISSING},
        {"upload_id": None},
        {"upload_id": ""},
        {"upload_id": 7},
        {"upload_id": ["Bx0xyTjt"]},
        {"expires_in_seconds": MISSING},
        {"expires_in_seconds": None},
        {"expires_in_seconds": "259200"},
        {"expires_in_seconds": -1},
        {"expires_in_seconds": 1.5},
        {"expires_in_seconds": True},
    ],
    ids=lambda changes: str(changes).replace(str(MISSING), "missing"),
)
def test_bad_session(changes: dict[str, Any]) -> None:
    """A reply that names no session, or no lifetime, is no session."""
    reply = changed({"upload_id": "Bx0xyTjt", "expires_in_seconds": 259200}, **changes)
    with pytest.raises(NoReplyError):
        UploadSession.from_reply(reply)


@pytest.mark.parametrize(
    ("reply", "progress"),
    [
        ({"received": 3, "total": 5, "complete": False}, FileProgress(3, 5, False)),
        ({"received": 5, "total": 5, "complete": True}, FileProgress(5, 5, True)),
        ({"received": 5, "total": 5, "complete": False}, FileProgress(5, 5, False)),
        ({"received": 0, "total": 0, "complete": True}, FileProgress(0, 0, True)),
        ({"received": 2**53 + 1, "total": 2**60, "complete": False}, FileProgress(2**53 + 1, 2**60, False)),
        ({"name": "a.e57", **PROGRESS}, FileProgress(3, 5, False, "a.e57")),
        ({"more": "than promised", **PROGRESS}, FileProgress(3, 5, False)),
    ],
    ids=["partial", "complete", "whole but not finalized", "empty", "huge", "of a list", "with more"],
)
def test_progress(reply: dict[str, Any], progress: FileProgress) -> None:
    """The reply of the contract becomes a file's progress, to the byte."""
    assert FileProgress.from_reply(reply) == progress


@pytest.mark.parametrize(
    "changes",
    [
        {"received": MISSING},
        {"received": None},
        {"received": "3"},
        {"received": 3.0},
        {"received": True},
        {"received": -1},
        {"received": 10**400, "total": 10**400},
        {"received": 6},
        {"total": MISSING},
        {"total": None},
        {"total": 2},
        {"total": -5, "received": -5},
        {"complete": True},
    ],
    ids=lambda changes: str(changes).replace(str(MISSING), "missing"),
)
def test_bad_progress(changes: dict[str, Any]) -> None:
    """Numbers that are missing, no whole numbers, or contradict each other are no progress."""
    with pytest.raises(NoReplyError):
        FileProgress.from_reply(changed(PROGRESS, **changes))


@pytest.mark.parametrize("complete", [MISSING, None, 1, "true", "yes"], ids=lambda value: repr(value)[:10])
def test_only_true_is_complete(complete: object) -> None:
    """Nothing but a plain true says that a file is complete."""
    reply = changed({"received": 5, "total": 5}, complete=complete)
    assert not FileProgress.from_reply(reply).complete


@pytest.mark.parametrize(
    ("reply", "ready", "errors"),
    [
        ({"name": "p", "status": 0, "message": "processing_started"}, False, 0),
        ({"name": "p", "status": 99}, False, 0),
        ({"name": "p", "status": 100, "errors": 0}, True, 0),
        ({"name": "p", "status": 100, "errors": 2}, True, 2),
        ({"name": "p", "status": 100, "errors": None}, True, 0),
        ({"name": "p", "status": 100, "errors": "2"}, True, 0),
    ],
    ids=["queued", "almost", "ready", "ready with errors", "null errors", "errors as text"],
)
def test_project(reply: dict[str, Any], ready: bool, errors: int) -> None:
    """A project is ready at 100 and only there, and keeps the whole reply."""
    project = Project.from_reply(reply)
    assert (project.name, project.ready, project.errors, project.record) == ("p", ready, errors, reply)


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 0},
        {"name": "", "status": 0},
        {"name": None, "status": 0},
        {"name": "p\x1b[31m", "status": 0},
        {"name": "p\nERROR - all is lost", "status": 0},
        {"name": 256 * "p", "status": 0},
    ],
    ids=str,
)
def test_project_without_a_name(reply: dict[str, Any]) -> None:
    """A reply without a name that may stand in a log is no project, and the error does not repeat it."""
    with pytest.raises(NoReplyError) as raised:
        Project.from_reply(reply)
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("status", [None, "100", 100.0, True, -1, 101], ids=str)
def test_bad_status(status: Any) -> None:
    """A status that is no whole number from 0 to 100 is an error that shows it, and no waiting mends it."""
    with pytest.raises(ProjectError, match=str(status)) as raised:
        Project.from_reply({"name": "p", "status": status})
    assert not raised.value.retryable


def test_project_keeps_its_own_record() -> None:
    """What the caller does to the reply afterwards does not change the project."""
    reply = {"name": "p", "status": 100, "errors": 0}
    project = Project.from_reply(reply)
    reply["errors"] = 7
    assert project.errors == 0
