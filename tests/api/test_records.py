"""Replies as frozen values: accepted replies and refused ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.api.records import FileProgress, Project, UploadSession
from airflow_360.exceptions import NoReplyError, ProjectStatusError

PROGRESS = {"received": 3, "total": 5, "complete": False}
MISSING = "a record without this field"


def changed(reply: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**reply, **changes}.items() if value is not MISSING}


def test_a_reply_becomes_a_session() -> None:
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
def test_an_invalid_reply_is_no_session(changes: dict[str, Any]) -> None:
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
def test_a_reply_becomes_progress(reply: dict[str, Any], progress: FileProgress) -> None:
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
def test_invalid_numbers_are_no_progress(changes: dict[str, Any]) -> None:
    """Numbers that are missing, no whole numbers, or contradict each other are no progress."""
    with pytest.raises(NoReplyError):
        FileProgress.from_reply(changed(PROGRESS, **changes))


@pytest.mark.parametrize("complete", [MISSING, None, 1, "true", "yes"], ids=lambda value: repr(value)[:10])
def test_only_true_is_complete(complete: object) -> None:
    """Only a plain true means that a file is complete."""
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
def test_a_project_is_ready_at_100(reply: dict[str, Any], ready: bool, errors: int) -> None:
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
    """A reply without a name that is safe in a log is not a project, and the error does not repeat it."""
    with pytest.raises(NoReplyError) as raised:
        Project.from_reply(reply)
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("status", [MISSING, None, "100", "ready", 100.0, True, [100], {"a": 1}], ids=repr)
def test_unreadable_status_is_no_reply(status: Any) -> None:
    """A status that is not a whole number is no answer, so asking again may help."""
    reply = changed({"name": "p", "status": 0}, status=status)
    with pytest.raises(NoReplyError, match="p has the status") as raised:
        Project.from_reply(reply)
    assert raised.value.retryable


@pytest.mark.parametrize("status", [-1, 101, 2**63 - 1], ids=str)
def test_impossible_status_is_an_error_of_its_own(status: int) -> None:
    """A whole number that is not within 0 to 100 is an error that carries it, for waits that tolerate it."""
    with pytest.raises(ProjectStatusError, match=str(status)) as raised:
        Project.from_reply({"name": "p", "status": status})
    assert (raised.value.status, raised.value.retryable) == (status, False)


KIB = 1024


@pytest.mark.parametrize(
    ("fields", "omitted"),
    [
        ({"title": "t" * 15 * KIB, "size": 7}, set()),
        ({"title": "t" * 17 * KIB, "size": 7}, {"title"}),
        ({"title": "\u00e9" * 3 * KIB, "size": 7}, {"title"}),
        ({"points": [[1, 2]] * 10_000, "size": 7}, {"points"}),
        ({f"f{n:02}": "x" * 15 * KIB for n in range(20)} | {"title": "t"}, {"f17", "f18", "f19"}),
        ({"k" * 17 * KIB: 1, "title": "t"}, {"k" * 17 * KIB}),
    ],
    ids=["small", "long text", "long as JSON", "long list", "many", "long name"],
)
@pytest.mark.parametrize("read", [Project.from_reply, Project.created], ids=["asked for", "created"])
def test_record_omits_what_is_too_large(
    read: Callable[[dict[str, Any]], Project],
    fields: dict[str, Any],
    omitted: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A record omits fields of over 16 KiB, and the largest beyond 256 KiB, and the log names them."""
    reply = {**fields, "name": "p", "status": 100}
    assert set(reply) - set(read(reply).record) == omitted
    assert (len(caplog.messages), set(read(reply).record) <= set(reply)) == (bool(omitted), True)
    for name in omitted:
        assert name[:200] in caplog.text
    assert len(caplog.text) < 1000 or not omitted


def test_record_always_names_project_and_status() -> None:
    """However many fields a record has, its name and status stay, and the record can be read again."""
    record = Project.from_reply(
        {**{str(n): n for n in range(50_000)}, "name": "p" * 255, "status": 100}
    ).record
    assert len(json.dumps(record)) < 300 * KIB
    again = Project.from_reply(record)
    assert (again.name, again.status, again.record) == ("p" * 255, 100, record)


def test_project_keeps_its_own_record() -> None:
    """Later changes of the reply by the caller do not change the project."""
    reply = {"name": "p", "status": 100, "errors": 0}
    project = Project.from_reply(reply)
    reply["errors"] = 7
    assert project.errors == 0
