"""The decisions about one project per session, as a table, and the record that they read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import pytest

from airflow_360.api.records import Project
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
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
from airflow_360.projects.times import CreationTimes

NOW = 1_800_000_000.0
TIMES = CreationTimes()
MINUTE = 60.0
SESSION = "abcd1234"

UNSENT = CreationRecord(Stage.UNSENT, session_created=NOW - 600)
DOUBT = replace(
    UNSENT, stage=Stage.DOUBT, posts=1, since=NOW, patience=15 * MINUTE, cause="the request got HTTP 503"
)
CREATED = CreationRecord(Stage.CREATED, name="other", session_created=NOW - 600)
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
NO_ZONE = Project(SESSION, 100, {"name": SESSION, "title": "Bridge", "created": "2001-01-01T00:00:00"})


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
    (
        "a later attempt of which nothing is saved",
        UNKNOWN,
        replace(LATER, project=MISSING),
        Remember,
        {"record.stage": Stage.DOUBT, "record.since": NOW, "record.patience": 60 * MINUTE},
    ),
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
    (
        "no record yet",
        UNSENT,
        replace(FACTS, project=PROCESSING, session=WHOLE),
        Remember,
        {"record": replace(UNSENT, since=NOW)},
    ),
    (
        "waits for the record",
        replace(UNSENT, since=NOW - 60),
        replace(FACTS, project=PROCESSING, session=WHOLE),
        Wait,
        {"seconds": 60.0, "until": NOW - 60 + 86_400},
    ),
    (
        "waits for the last second",
        replace(UNSENT, since=NOW - 86_399.5),
        replace(FACTS, project=PROCESSING, session=WHOLE),
        Wait,
        {"seconds": 0.5},
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
    (
        "older than the session by more than the clocks differ",
        UNSENT,
        replace(FACTS, project=ready(created=NOW - 606), session=WHOLE),
        Post,
        {"name_is_free": False},
    ),
    (
        "as old as the session, as far as the clocks agree",
        UNSENT,
        replace(FACTS, project=ready(created=NOW - 604), session=WHOLE),
        Reuse,
        {},
    ),
    ("a date without a zone", UNSENT, replace(FACTS, project=NO_ZONE, session=WHOLE), Reuse, {}),
    ("a stranger's and no session", UNSENT, replace(FACTS, project=OLD, session=GONE), Refuse, {}),
    (
        "a stranger's, and nothing saved",
        UNKNOWN,
        replace(LATER, project=OTHER_TITLE, session=WHOLE),
        Remember,
        {
            "record.stage": Stage.DOUBT,
            "record.since": NOW,
            "record.patience": 60 * MINUTE,
            "record.name_was_free": False,
        },
    ),
    # doubt
    (
        "was killed",
        replace(DOUBT, stage=Stage.SENDING, since=NOW - 100, patience=0.0),
        LATER,
        Remember,
        {"record.stage": Stage.DOUBT, "record.since": NOW - 100, "record.patience": 60 * MINUTE},
    ),
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
    ("posts a link", UNSENT, replace(FACTS, upload_id=None, session=WHOLE), Post, {"name_is_free": True}),
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
        {"record": UNSENT},
    ),
]


@pytest.mark.parametrize(
    ("record", "facts", "kind", "fields"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_next_step(record: CreationRecord, facts: Facts, kind: type[Step], fields: dict[str, Any]) -> None:
    """Each row of the table leads to its step."""
    step = next_step(record, facts, TIMES)
    assert type(step) is kind
    assert {name: attrgetter(name)(step) for name in fields} == fields


@pytest.mark.parametrize(
    ("record", "facts", "said"),
    [
        (DOUBT, at(15, session=WHOLE), [SESSION, "15 min", "HTTP 503", "complete"]),
        (DOUBT, at(1), ["HTTP 503", "may exist"]),
        (DOUBT, at(30, session=GONE), ["HTTP 503", "session no longer exists", "not found"]),
        (DOUBT, at(30, session=NOT_WHOLE), ["HTTP 503", "session changed", "not found"]),
        (replace(DOUBT, posts=3), at(15, session=WHOLE), ["HTTP 503", "3 times"]),
        (replace(DOUBT, name_was_free=False), LATER, ["HTTP 503", f"had the name {SESSION}"]),
        (DOUBT, replace(LATER, upload_id=None), ["HTTP 503"]),
        (UNKNOWN, replace(LATER, upload_id=None), ["nothing is saved"]),
        (
            replace(UNSENT, since=NOW - 60),
            replace(FACTS, project=PROCESSING, session=WHOLE),
            [SESSION, "only when it is ready"],
        ),
        (
            replace(UNSENT, since=NOW - 86_400),
            replace(FACTS, project=PROCESSING, session=WHOLE),
            [SESSION, "not ready"],
        ),
        (UNSENT, replace(FACTS, project=OURS, session=WHOLE), ["another task", "another run", "attempt"]),
    ],
    ids=[
        "another POST",
        "search",
        "gone",
        "changed",
        "three POSTs",
        "taken",
        "link",
        "lost record of a link",
        "record",
        "no record",
        "reused",
    ],
)
def test_a_step_says_why(record: CreationRecord, facts: Facts, said: list[str]) -> None:
    """A step that a person reads of in the log says what is known and what is missing."""
    step = next_step(record, facts, TIMES)
    match step:
        case Post(why=text) | Wait(why=text) | Stop(reason=text) | Reuse(warning=text):
            assert [part for part in said if part not in text] == []
        case _:
            pytest.fail(f"{step} has no reason")


@pytest.mark.parametrize(
    ("error", "since", "kind", "seconds"),
    [
        (ServerError("down"), None, Wait, 1.0),
        (ServerError("down"), 30.0, Wait, 30.0),
        (ServerError("down"), 3600.0, Wait, 120.0),
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
        "as long as allowed",
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
    assert getattr(step, "error", error) is error
    assert getattr(step, "why", str(error)) == str(error)


@pytest.mark.parametrize(
    ("error", "since", "until"),
    [
        (ServerError("down"), 60.0, 3540.0),
        (RateLimitedError("slow", retry_after=700.0), 60.0, 72 * 3600 - 60.0),
        (ServerError("maintenance", status=503, retry_after=7000.0), 60.0, 7000.0),
    ],
    ids=["failure", "rate limit", "maintenance that is longer"],
)
def test_a_wait_says_until_when(error: ThreeSixtyError, since: float, until: float) -> None:
    """The announced end is the end of the tolerated time, or of the pause that the server asked for."""
    step = next_step(UNSENT.failed(NOW - since, error), replace(FACTS, failure=error), TIMES)
    assert isinstance(step, Wait)
    assert step.until == NOW + until


DOWN = ServerError("down")
LIMITED = RateLimitedError("slow", retry_after=7200.0)


def test_a_doubt_begins_without_failures() -> None:
    """The record of a doubt has its own time and cause, and none of the failures before it."""
    failed = UNSENT.failed(NOW - 60, DOWN).failed(NOW - 60, DOWN, posting=True)
    limited = failed.failed(NOW - 30, LIMITED)
    doubt = replace(UNSENT, stage=Stage.DOUBT, cause="x", since=NOW, patience=5.0)
    assert failed.in_doubt("x", NOW, 5.0) == limited.in_doubt("x", NOW, 5.0) == doubt
    assert failed.without_failures() == limited.without_failures() == UNSENT


@pytest.mark.parametrize("posting", [False, True])
def test_posts_have_their_own_series_of_failures(posting: bool) -> None:
    """Each POST follows requests that succeeded, so their failures do not count for it, nor its for them."""
    record = UNSENT.failed(NOW - 7201, DOWN, posting)
    failed = replace(FACTS, failure=DOWN)
    assert type(next_step(record, replace(failed, posting=posting), TIMES)) is Fail
    step = next_step(record, replace(failed, posting=not posting), TIMES)
    assert isinstance(step, Wait)
    assert step.seconds == 1.0


@pytest.mark.parametrize(("since", "kind"), [(3601.0, Wait), (7200.0, Wait), (7201.0, Fail)])
def test_refused_posts_are_tolerated_for_two_hours(since: float, kind: type[Step]) -> None:
    """Between two POSTs that are refused, the other requests may fail for an hour."""
    record = UNSENT.failed(NOW - since, DOWN, posting=True)
    step = next_step(record, replace(FACTS, failure=DOWN, posting=True), TIMES)
    assert type(step) is kind
    if isinstance(step, Wait):
        assert step.seconds == 120.0
        assert step.until == max(NOW + 7200 - since, NOW + 120)


@pytest.mark.parametrize("posting", [False, True])
def test_a_rate_limit_ends_a_series_of_failures(posting: bool) -> None:
    """A failure after a rate limit is the first one of a new series."""
    record = UNSENT.failed(NOW - 9000, DOWN, posting).failed(NOW - 60, LIMITED)
    assert type(next_step(record, replace(FACTS, failure=DOWN, posting=posting), TIMES)) is Wait


def test_a_rate_limit_does_not_use_up_the_time_for_failures() -> None:
    """A failure after hours of rate limits is waited for like the first one."""
    record = UNSENT.failed(NOW - 7200, LIMITED)
    assert type(next_step(record, replace(FACTS, failure=DOWN), TIMES)) is Wait


def test_failures_do_not_start_a_rate_limit_again() -> None:
    """Rate limits end after three days, also with other failures between them."""
    record = UNSENT.failed(NOW - 72 * 3600 - 1, LIMITED).failed(NOW - 60, DOWN)
    assert type(next_step(record, replace(FACTS, failure=LIMITED), TIMES)) is Fail


@pytest.mark.parametrize(
    ("error", "doubtful", "slow"),
    [
        (NoReplyError("broke"), True, False),
        (NoReplyError("late", timed_out=True), True, True),
        (NoReplyError("refused", sent=False), False, False),
        (ServerError("bad", status=502), True, False),
        (ServerError("late", status=504), True, True),
        (ServerError("late at Cloudflare", status=524), True, True),
        (ServerError("the first one that is not standard", status=520), True, True),
        (ServerError("a proxy", status=519), True, False),
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
        (RateLimitedError("a proxy's", status=429), False, False),
        (UploadSessionNotFoundError("own", status=404, code="upload_session_not_found"), True, False),
        (NotFoundError("own", status=404, code="session_not_found"), True, False),
    ],
)
def test_which_failures_leave_doubt(error: ThreeSixtyError, doubtful: bool, slow: bool) -> None:
    """Only the contract's own refusal, or a request that was not sent, proves that nothing was created."""
    assert creation._is_doubtful(error) is doubtful
    assert not doubtful or creation._may_still_run(error) is slow


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NoReplyError("broke"), "no usable reply"),
        (NoReplyError("late", timed_out=True), "no reply in time"),
        (ServerError("bad", status=502), "HTTP 502"),
        (UploadSessionNotFoundError("own", status=404), "session existed a moment before"),
    ],
)
def test_the_cause_of_doubt(error: ThreeSixtyError, cause: str) -> None:
    """What happened to the request is said in the messages that follow."""
    assert cause in creation._cause(error)


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
