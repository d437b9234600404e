"""The decisions about one project per session, as a table, and the record that they read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_360.api.records import Project
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    NoReplyError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadSessionNotFoundError,
)
from airflow_360.projects import creation
from airflow_360.projects.creation import (
    ConfirmDeleted,
    CreationRecord,
    CreationTimes,
    Facts,
    Fail,
    FindProject,
    NotAsked,
    Post,
    ReadSession,
    Refuse,
    Remember,
    Reuse,
    SessionState,
    Stage,
    Step,
    Stop,
    Wait,
    next_step,
)

NOW = 1_800_000_000.0
TIMES = CreationTimes()
MINUTE = 60.0
SESSION = "abcd1234"

UNSENT = CreationRecord(Stage.UNSENT, session_created=NOW - 600)
DOUBT = replace(
    UNSENT, stage=Stage.DOUBT, posts=1, since=NOW, patience=15 * MINUTE, cause="the request got HTTP 503"
)
CREATED = CreationRecord(Stage.CREATED, name="other")
UNKNOWN = CreationRecord()
FACTS = Facts(NOW, SESSION, title="Bridge")
LATER = replace(FACTS, first=False)
MISSING, WHOLE, NOT_WHOLE, GONE = (
    NotAsked.MISSING,
    SessionState.WHOLE,
    SessionState.NOT_WHOLE,
    SessionState.GONE,
)


def ready(title: str = "Bridge", created: float = NOW - 300) -> Project:
    moment = datetime.fromtimestamp(created, UTC)
    record = {"name": SESSION, "title": title, "created": moment.isoformat()}
    return Project(SESSION, 100, record)


PROCESSING = Project(SESSION, 40, {"name": SESSION, "status": 40})
OURS, OLD, OTHER_TITLE = ready(), ready(created=NOW - 9_000), ready(title="A stranger's")


def at(minutes: float, **more: Any) -> Facts:
    """Return the facts some minutes after the doubt began, with the project missing."""
    return replace(LATER, now=NOW + minutes * MINUTE, project=MISSING, **more)


TABLE: list[tuple[str, CreationRecord, Facts, type[Step], dict[str, Any]]] = [
    # before the first POST
    ("asks for the name first", UNSENT, FACTS, FindProject, {"name": SESSION}),
    ("then for the session", UNSENT, replace(FACTS, project=MISSING), ReadSession, {}),
    (
        "posts",
        UNSENT,
        replace(FACTS, project=MISSING, session=WHOLE),
        Post,
        {"name_is_free": True, "why": ""},
    ),
    ("an incomplete session", UNSENT, replace(FACTS, project=MISSING, session=NOT_WHOLE), Refuse, {}),
    ("a session that is gone", UNSENT, replace(FACTS, project=MISSING, session=GONE), Refuse, {}),
    ("a later attempt that is sure", UNSENT, replace(LATER, project=MISSING, session=WHOLE), Post, {}),
    ("a later attempt of which nothing is saved", UNKNOWN, replace(LATER, project=MISSING), Remember, {}),
    # a project of that name exists
    ("reads the session", UNSENT, replace(FACTS, project=PROCESSING), ReadSession, {}),
    ("the session became it", UNSENT, replace(FACTS, project=PROCESSING, session=GONE), Reuse, {}),
    ("the same for a later attempt", UNKNOWN, replace(LATER, project=PROCESSING, session=GONE), Reuse, {}),
    ("ours, by its record", UNKNOWN, replace(LATER, project=OURS, session=WHOLE), Reuse, {}),
    ("ours, by a first attempt", UNSENT, replace(FACTS, project=OURS, session=WHOLE), Reuse, {}),
    (
        "no title to compare",
        UNSENT,
        replace(FACTS, title=None, project=OTHER_TITLE, session=WHOLE),
        Reuse,
        {},
    ),
    ("no record yet", UNSENT, replace(FACTS, project=PROCESSING, session=WHOLE), Remember, {}),
    (
        "waits for the record",
        replace(UNSENT, since=NOW - 60),
        replace(FACTS, project=PROCESSING, session=WHOLE),
        Wait,
        {"seconds": 60.0},
    ),
    (
        "waits a day at most",
        replace(UNSENT, since=NOW - 86_400),
        replace(FACTS, project=PROCESSING, session=WHOLE),
        Stop,
        {},
    ),
    (
        "a stranger's, by its date",
        UNSENT,
        replace(FACTS, project=OLD, session=WHOLE),
        Post,
        {"name_is_free": False},
    ),
    (
        "a stranger's, by its title",
        UNSENT,
        replace(FACTS, project=OTHER_TITLE, session=WHOLE),
        Post,
        {"name_is_free": False},
    ),
    ("a stranger's and no session", UNSENT, replace(FACTS, project=OLD, session=GONE), Refuse, {}),
    (
        "a stranger's, and nothing saved",
        UNKNOWN,
        replace(LATER, project=OTHER_TITLE, session=WHOLE),
        Remember,
        {},
    ),
    # doubt
    ("was killed", replace(DOUBT, stage=Stage.SENDING), LATER, Remember, {}),
    ("searches", DOUBT, LATER, FindProject, {"name": SESSION}),
    ("finds it", DOUBT, replace(LATER, project=PROCESSING), Reuse, {"warning": ""}),
    ("the first wait", DOUBT, at(0), Wait, {"seconds": 1.0, "until": NOW + 900}),
    ("waits grow", DOUBT, at(0.5), Wait, {"seconds": 30.0}),
    ("waits are bounded", DOUBT, at(5), Wait, {"seconds": 120.0}),
    ("no wait is too long", DOUBT, at(14.5), Wait, {"seconds": 30.0}),
    ("reads the session at the end", DOUBT, at(15), ReadSession, {}),
    ("posts again", DOUBT, at(15, session=WHOLE), Post, {"name_is_free": True}),
    ("posts a third time", replace(DOUBT, posts=2), at(15, session=WHOLE), Post, {}),
    ("and no fourth time", replace(DOUBT, posts=3), at(15, session=WHOLE), Stop, {}),
    (
        "a session that is gone is searched for longer",
        DOUBT,
        at(15, session=GONE),
        Wait,
        {"until": NOW + 1800},
    ),
    ("but not for ever", DOUBT, at(30, session=GONE), Stop, {}),
    ("nor one that changed", DOUBT, at(30, session=NOT_WHOLE), Stop, {}),
    ("after a timeout it waits longer", replace(DOUBT, patience=3600), at(29), Wait, {"until": NOW + 3600}),
    ("then reads the session", replace(DOUBT, patience=3600), at(30), ReadSession, {}),
    ("waits if it is whole", replace(DOUBT, patience=3600), at(30, session=WHOLE), Wait, {}),
    ("stops if it is gone", replace(DOUBT, patience=3600), at(30, session=GONE), Stop, {}),
    ("posts after an hour", replace(DOUBT, patience=3600), at(60, session=WHOLE), Post, {}),
    ("the name was taken", replace(DOUBT, name_was_free=False), LATER, Stop, {}),
    # a link
    ("checks a link", UNSENT, replace(FACTS, upload_id=None), ReadSession, {}),
    ("posts a link", UNSENT, replace(FACTS, upload_id=None, session=WHOLE), Post, {}),
    ("a link of which nothing is saved", UNKNOWN, replace(LATER, upload_id=None), Stop, {}),
    ("a link in doubt", DOUBT, replace(LATER, upload_id=None), Stop, {}),
    # created
    ("looks for it by its own name", CREATED, LATER, FindProject, {"name": "other"}),
    ("reuses it", CREATED, replace(LATER, project=PROCESSING), Reuse, {"warning": ""}),
    ("looks again", CREATED, replace(LATER, project=MISSING), ConfirmDeleted, {}),
    ("was deleted", replace(CREATED, missing=2), replace(LATER, project=MISSING), Fail, {}),
    (
        "was deleted, and the task is cleared",
        replace(CREATED, missing=2),
        replace(LATER, project=MISSING, cleared=True),
        Remember,
        {},
    ),
]


@pytest.mark.parametrize(
    ("record", "facts", "kind", "fields"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_next_step(record: CreationRecord, facts: Facts, kind: type[Step], fields: dict[str, Any]) -> None:
    """Each row of the table leads to its step."""
    step = next_step(record, facts, TIMES)
    assert type(step) is kind
    assert {name: getattr(step, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("error", "since", "kind", "seconds"),
    [
        (ServerError("down"), None, Wait, 1.0),
        (ServerError("down"), 30.0, Wait, 30.0),
        (ServerError("down"), 3601.0, Fail, None),
        (RateLimitedError("slow", retry_after=700.0), None, Wait, 700.0),
        (RateLimitedError("slow", retry_after=700.0), 7200.0, Wait, 700.0),
        (RateLimitedError("slow", retry_after=700.0), 72 * 3600 + 1.0, Fail, None),
        (ServerError("maintenance", status=503, retry_after=700.0), None, Wait, 700.0),
        (ServerError("maintenance", status=503, retry_after=700.0), 3601.0, Fail, None),
        (UnexpectedReplyError("proxy", status=408), None, Wait, 1.0),
        (ConfigurationError("certificate"), None, Fail, None),
        (AuthenticationError("no", status=401, code="invalid_api_key"), None, Fail, None),
        (AuthenticationError("proxy", status=403), None, Wait, 1.0),
        (ApiError("proxy", status=404), 30.0, Wait, 30.0),
        (ApiError("redirect", status=302), 3601.0, Fail, None),
    ],
    ids=[
        "first",
        "growing",
        "too long",
        "limited",
        "limited for hours",
        "limited for days",
        "maintenance",
        "maintenance for too long",
        "proxy's 408",
        "certificate",
        "permanent",
        "a proxy's 403",
        "a proxy's 404",
        "a redirect for too long",
    ],
)
def test_failures_are_tolerated_for_a_while(
    error: ThreeSixtyError, since: float | None, kind: type[Step], seconds: float | None
) -> None:
    """A temporary failure is waited for, a rate limit for its full time, and no failure for ever."""
    record = UNSENT if since is None else UNSENT.failed(NOW - since, error)
    step = next_step(record, replace(FACTS, failure=error), TIMES)
    assert type(step) is kind
    assert getattr(step, "seconds", None) == seconds


def test_a_rate_limit_does_not_use_up_the_time_for_failures() -> None:
    """A failure after hours of rate limits is waited for like the first one."""
    record = UNSENT.failed(NOW - 7200, RateLimitedError("slow", retry_after=7200.0))
    assert type(next_step(record, replace(FACTS, failure=ServerError("down")), TIMES)) is Wait


def test_failures_do_not_start_a_rate_limit_again() -> None:
    """Rate limits end after three days, also with other failures between them."""
    limited = RateLimitedError("slow", retry_after=7200.0)
    record = UNSENT.failed(NOW - 72 * 3600 - 1, limited).failed(NOW - 60, ServerError("down"))
    assert type(next_step(record, replace(FACTS, failure=limited), TIMES)) is Fail


@pytest.mark.parametrize(
    ("error", "doubtful", "slow"),
    [
        (NoReplyError("broke"), True, False),
        (NoReplyError("late", timed_out=True), True, True),
        (NoReplyError("refused", sent=False), False, False),
        (ServerError("bad", status=502), True, False),
        (ServerError("late", status=504), True, True),
        (ServerError("own", status=500, code="internal_error"), True, False),
        (ApiError("proxy", status=403), True, False),
        (ApiError("proxy", status=404), True, False),
        (ApiError("proxy", status=408), True, True),
        (UnexpectedReplyError("proxy", status=404), True, False),
        (UnexpectedReplyError("proxy", status=408, code="request_timeout"), True, True),
        (UnexpectedReplyError("proxy", status=425), True, False),
        (ConfigurationError("certificate"), False, False),
        (ApiError("redirect", status=302), True, False),
        (ApiError("early", status=103), True, False),
        (AuthenticationError("proxy", status=401), True, False),
        (AuthenticationError("own", status=401, code="invalid_api_key"), False, False),
        (InvalidRequestError("own", status=400, code="project_creation_failed"), False, False),
        (QuotaError("own", status=402, code="storage_quota_exceeded"), False, False),
        (RateLimitedError("own", status=429, code="rate_limited"), False, False),
        (UploadSessionNotFoundError("own", status=404, code="upload_session_not_found"), True, False),
    ],
)
def test_which_failures_leave_doubt(error: ThreeSixtyError, doubtful: bool, slow: bool) -> None:
    """Only the contract's own refusal, or a request that was not sent, proves that nothing was created."""
    assert creation._is_doubtful(error) is doubtful
    assert not doubtful or creation._may_still_run(error) is slow


@pytest.mark.parametrize("record", [UNSENT, DOUBT, CREATED, UNKNOWN])
def test_record_survives_json(record: CreationRecord) -> None:
    """A record that was saved is the same when it is read."""
    assert CreationRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("saved", [None, "x", [], {"stage": "unheard of"}, {"more": 1}], ids=str)
def test_a_record_of_another_kind_is_empty(saved: object) -> None:
    """A record that this version did not save counts as empty."""
    assert CreationRecord.from_json(saved) == CreationRecord()


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (None, []),
        ("text", []),
        ({"projects": [{"name": "a", "title": "Bridge"}, {"name": "b"}]}, ["a (Bridge)"]),
        ([{"name": "a"}, {"name": 1}, "x", {"title": "Bridge"}], ["a"]),
        ({"items": [{"name": f"p{n}"} for n in range(9)]}, ["p4", "p5", "p6", "p7", "p8"]),
        ([{"name": "a\x1b[31m\n" + "b" * 500}], ["a[31m" + "b" * 113]),
    ],
    ids=["nothing", "text", "same title", "odd entries", "five", "control characters"],
)
def test_candidates(found: object, names: list[str]) -> None:
    """At most five projects are named, those with the same title first, for any form of the list."""
    assert creation._candidates(found, "Bridge") == names
