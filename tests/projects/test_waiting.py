"""The next step after one poll of a project, as tables."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.api.records import Project
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    ProjectError,
    ProjectStatusError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
)
from airflow_360.projects.times import WaitTimes, as_seconds, pause_left
from airflow_360.projects.waiting import (
    GiveUp,
    PollAgain,
    Ready,
    WaitRecord,
    error_event,
    next_step,
    poll_once,
    project_of,
    ready_event,
    ready_record,
)

MISSING = NotFoundError("404", status=404, code="project_not_found")
DOWN = ServerError("503", status=503)
UNREADABLE = NoReplyError("The status is None.")
BEYOND = ProjectStatusError("The status is 101.", status=101)
LIMITED = RateLimitedError("429", retry_after=40.0)
CLOSED = ServerError("503", retry_after=40.0)
PROXY = UnexpectedReplyError("404 (not a reply of the 360 API)", status=404)
CERTIFICATE = ConfigurationError("not trusted")
REFUSED = AuthenticationError("403", status=403, code="insufficient_scope")
INVALID = InvalidRequestError("400", status=400, code="invalid_filename")
PORTAL = ApiError("302 (not a reply of the 360 API)", status=302)
PORTAL_401 = AuthenticationError("401 (not a reply of the 360 API)", status=401)


def project(status: int, **record: Any) -> Project:
    return Project("town-hall", status, {"name": "town-hall", "status": status, **record})


def failing(failures: int, since: float = 0.0, missing: int = 0, not_before: float = 0.0) -> WaitRecord:
    return WaitRecord(7, 0.0, since, failures, missing, not_before)


SEEN = WaitRecord(status=7, since=0.0)


@pytest.mark.parametrize(
    ("record", "outcome", "now", "expected"),
    [
        pytest.param(SEEN, project(100), 50, Ready(project(100)), id="ready"),
        pytest.param(failing(9), project(100), 5000, Ready(project(100)), id="ready after failures"),
        pytest.param(WaitRecord(), project(0), 50, PollAgain(WaitRecord(0, 50)), id="first status"),
        pytest.param(SEEN, project(8), 50, PollAgain(WaitRecord(8, 50)), id="status grows"),
        pytest.param(SEEN, project(3), 50, PollAgain(WaitRecord(3, 50)), id="status goes backwards"),
        pytest.param(SEEN, project(7), 99, PollAgain(SEEN), id="same status"),
        pytest.param(failing(2, 10), project(7), 99, PollAgain(SEEN), id="a reply ends the failures"),
        pytest.param(SEEN, DOWN, 10, PollAgain(failing(1, 10)), id="503"),
        pytest.param(SEEN, UNREADABLE, 10, PollAgain(failing(1, 10)), id="unreadable status"),
        pytest.param(SEEN, BEYOND, 10, PollAgain(failing(1, 10)), id="status 101"),
        pytest.param(failing(8, 0), DOWN, 900, PollAgain(failing(9, 0)), id="within the tolerance"),
        pytest.param(failing(8, 0), DOWN, 901, GiveUp(DOWN), id="503 for too long"),
        pytest.param(failing(8, 5000), DOWN, 5900, PollAgain(failing(9, 5000)), id="after a long wait"),
        pytest.param(failing(8, 0), UNREADABLE, 901, GiveUp(UNREADABLE), id="unreadable for too long"),
        pytest.param(failing(8, 0), BEYOND, 901, GiveUp(BEYOND), id="101 for too long"),
        pytest.param(failing(2, 0), DOWN, 7200, PollAgain(failing(3, 0)), id="three polls, however long"),
        pytest.param(failing(3, 0), DOWN, 9000, GiveUp(DOWN), id="a fourth poll"),
        pytest.param(SEEN, LIMITED, 10, PollAgain(failing(1, 10, 0, 50), 40), id="429"),
        pytest.param(SEEN, CLOSED, 10, PollAgain(failing(1, 10, 0, 50), 40), id="503 with Retry-After"),
        pytest.param(SEEN, PROXY, 10, PollAgain(failing(1, 10)), id="a proxy's 404"),
        pytest.param(failing(2, 0, 2), PROXY, 10, PollAgain(failing(3, 0, 0)), id="not a third 404"),
        pytest.param(failing(3, 0), PROXY, 901, GiveUp(PROXY), id="a proxy's 404 for too long"),
        pytest.param(SEEN, PORTAL, 10, PollAgain(failing(1, 10)), id="a portal's redirect"),
        pytest.param(SEEN, PORTAL_401, 10, PollAgain(failing(1, 10)), id="a portal's 401"),
        pytest.param(failing(3, 0), PORTAL, 901, GiveUp(PORTAL), id="a portal's redirect for too long"),
        pytest.param(SEEN, CERTIFICATE, 10, GiveUp(CERTIFICATE), id="certificate"),
        pytest.param(failing(3, 0), LIMITED, 901, GiveUp(LIMITED), id="429 for too long"),
        pytest.param(SEEN, MISSING, 10, PollAgain(failing(1, 10, 1)), id="404"),
        pytest.param(failing(1, 0, 1), MISSING, 10, PollAgain(failing(2, 0, 2)), id="second 404"),
        pytest.param(failing(2, 0, 2), MISSING, 10, GiveUp(MISSING), id="third 404"),
        pytest.param(failing(2, 0, 2), DOWN, 10, PollAgain(failing(3, 0, 0)), id="503 between 404s"),
        pytest.param(failing(3, 0, 0), MISSING, 901, GiveUp(MISSING), id="404 after long failures"),
        pytest.param(SEEN, REFUSED, 10, GiveUp(REFUSED), id="403"),
        pytest.param(SEEN, INVALID, 10, GiveUp(INVALID), id="400"),
    ],
)
def test_next_step(
    record: WaitRecord, outcome: Project | ThreeSixtyError, now: float, expected: Ready | PollAgain | GiveUp
) -> None:
    """A poll is followed by success, by another poll, or by the error that ends the wait."""
    assert next_step(record, outcome, now) == expected


@pytest.mark.parametrize("since", [0.0, 5000.0])
@pytest.mark.parametrize(("seconds", "ends"), [(59.0, False), (60.0, False), (61.0, True)])
def test_a_status_that_stands_still_ends_the_wait(since: float, seconds: float, ends: bool) -> None:
    """A status that stays the same for longer than the stall timeout ends the wait permanently."""
    step = next_step(WaitRecord(7, since), project(7), since + seconds, stall_timeout=60)
    assert isinstance(step, GiveUp) == ends
    if isinstance(step, GiveUp):
        assert "status 7 for 61 s" in str(step.error)
        assert not step.error.retryable


def test_a_status_that_changes_does_not_stall() -> None:
    """The stall timeout counts from the last change of the status."""
    assert next_step(SEEN, project(8), 5000, stall_timeout=60) == PollAgain(WaitRecord(8, 5000))


@pytest.mark.parametrize(
    "error", [DOWN, UNREADABLE, BEYOND, LIMITED, MISSING, REFUSED, CLOSED, PROXY], ids=repr
)
@pytest.mark.parametrize("every", [0.1, 5, 60, 7200])
def test_every_wait_that_only_fails_ends(error: ThreeSixtyError, every: float) -> None:
    """If every poll fails, the wait ends after its tolerance or four polls, with the last error."""
    record, now, polls = WaitRecord(), 0.0, 0
    while True:
        step = next_step(record, error, now)
        polls += 1
        if not isinstance(step, PollAgain):
            break
        record = step.record
        now += max(every, step.not_before_seconds)
    assert step == GiveUp(error)
    assert now <= max(900 + max(every, 40), 3 * every)
    if error not in (REFUSED, MISSING):
        assert polls >= 4
        assert now > 900 or polls == 4


outcomes = st.lists(
    st.sampled_from([DOWN, UNREADABLE, BEYOND, LIMITED, MISSING, project(1), project(2)]), max_size=60
)


@given(outcomes=outcomes, times=st.lists(st.integers(1, 1000), min_size=60, max_size=60))
def test_a_wait_survives_its_state_being_saved(outcomes: list[Any], times: list[int]) -> None:
    """A record that is saved as JSON between two polls leads to the same steps."""
    record, now = WaitRecord(), 0.0
    for outcome, seconds in zip(outcomes, times, strict=False):
        step = next_step(record, outcome, now, stall_timeout=5000)
        saved = WaitRecord.from_json(json.loads(json.dumps(record.to_json())))
        # As text, because two equal errors are not the same one.
        assert repr(step) == repr(next_step(saved, outcome, now, stall_timeout=5000))
        if not isinstance(step, PollAgain):
            return
        record, now = step.record, now + seconds


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        "x",
        {},
        {"status": 7},
        {**SEEN.to_json(), "failures": "many"},
        {**SEEN.to_json(), "since": None},
    ],
    ids=str,
)
def test_saved_state_of_another_kind_is_an_empty_record(saved: object) -> None:
    """Saved state that cannot be read starts the wait over, and does not fail it."""
    assert WaitRecord.from_json(saved) == WaitRecord()


def test_shorter_times_end_a_wait_sooner() -> None:
    """All durations are one value that a test can replace."""
    times = WaitTimes(failure_tolerance=1, tolerated_failures=0, missing_polls=1)
    assert next_step(SEEN, MISSING, 10, times=times) == GiveUp(MISSING)
    assert next_step(failing(1, 8), DOWN, 10, times=times) == GiveUp(DOWN)


def test_times_travel_as_plain_numbers() -> None:
    """Only durations that differ from the default are handed to a trigger, and unknown ones are ignored."""
    assert WaitTimes().to_json() == {}
    times = WaitTimes(failure_tolerance=1.5)
    assert times.to_json() == {"failure_tolerance": 1.5}
    assert WaitTimes.from_json({**times.to_json(), "of_a_later_version": 3}) == times
    assert WaitTimes.from_json(None) == WaitTimes()


@pytest.mark.parametrize(
    ("started", "now", "left"),
    [
        (None, 5000, 1000),
        (5000, 5000, 1000),
        (5000, 5059, 1000),
        (5000, 4000, 1000),
        (5000, 5060, 940),
        (5000, 5900, 100),
        (5000, 5990, 30),
        (5000, 9000, 30),
    ],
    ids=["unknown", "new", "clocks differ", "clock behind", "a minute", "most", "nearly all", "over"],
)
def test_pause_left(started: float | None, now: float, left: float) -> None:
    """A pause that has just started is waited for in full, later only the rest, at least half a minute."""
    assert pause_left(1000, started, now) == left


@pytest.mark.parametrize("now", [0, 61, 1e6])
@pytest.mark.parametrize(("seconds", "left"), [(0, 10), (5, 10), (10, 10), (20, 20)])
def test_a_short_pause_stays_short(now: float, seconds: float, left: float) -> None:
    """A pause below half a minute lasts 10 seconds at least, so that Airflow notices the deferral before."""
    assert pause_left(seconds, 0, now) == left
    assert pause_left(seconds, None, now) == seconds


@pytest.mark.parametrize(("error", "retried"), [(PORTAL, True), (BEYOND, False), (DOWN, True)])
def test_a_retry_follows_what_may_pass(error: ThreeSixtyError, retried: bool) -> None:
    """A portal that outlasts the tolerance leaves the rest to Airflow's retries; an odd status is final."""
    step = next_step(failing(3, 0), error, 901)
    assert isinstance(step, GiveUp)
    assert step.error.retryable is retried


def test_poll_once_turns_an_error_into_a_step() -> None:
    """A poll that raises is an outcome like any other."""

    def refuses() -> Project:
        raise REFUSED

    assert poll_once(refuses, SEEN, lambda: 10.0) == (REFUSED, GiveUp(REFUSED))
    assert poll_once(lambda: project(100), SEEN, lambda: 10.0)[1] == Ready(project(100))


def test_poll_once_ends_a_wait_as_the_next_step_does() -> None:
    """The clock, the stall timeout and the tolerated failures are those of its caller."""
    _, stalled = poll_once(lambda: project(7), SEEN, lambda: 61.0, stall_timeout=60)
    assert isinstance(stalled, GiveUp)

    def down() -> Project:
        raise DOWN

    times = WaitTimes(failure_tolerance=1, tolerated_failures=0)
    assert poll_once(down, failing(1, 8), lambda: 10.0, times=times) == (DOWN, GiveUp(DOWN))


# -- events


def test_a_ready_project_goes_through_an_event() -> None:
    """The event of a ready project brings its whole record to the task."""
    ready = project(100, title="Town hall", files=[{"name": "a.e57"}])
    event = ready_event(ready)
    assert project_of(json.loads(json.dumps(event, allow_nan=False))) == ready
    msgpack = pytest.importorskip("msgspec").msgpack  # by which a triggerer of Airflow 3 sends it
    assert project_of(msgpack.decode(msgpack.encode(event))) == ready


@pytest.mark.parametrize(
    ("error", "retryable"), [(DOWN, True), (REFUSED, False), (BEYOND, False), (UNREADABLE, True)], ids=str
)
def test_an_error_goes_through_an_event(error: ThreeSixtyError, retryable: bool) -> None:
    """The event of an error brings its message to the task, and whether Airflow should retry."""
    with pytest.raises(ProjectError) as caught:
        project_of(error_event(error))
    assert str(caught.value) == str(error)
    assert caught.value.retryable is retryable
    assert error_event(error)["status"] == "error"


def test_a_message_is_one_bounded_line() -> None:
    """For any text of an error, its event can be stored: one bounded line, in UTF-8, without NUL."""
    event = error_event(ServerError("a\nb\0c \ud800" + "x" * 10_000))
    assert event["message"].startswith("a b c ?x")
    assert len(event["message"]) == 2000
    json.dumps(event, ensure_ascii=False).encode()


def test_an_unexpected_error_does_not_show_its_text() -> None:
    """The text of an error of another library may contain a secret, so the event has only its type."""
    event = error_event(KeyError("sk_secret"))
    assert "KeyError" in event["message"]
    assert "sk_secret" not in str(event)
    assert event["retryable"] is True
    assert event["status"] == "error"


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "ready",
        {"status": "ready"},
        {"status": "ready", "record": {}},
        {"status": "ready", "record": {"name": "x", "status": 101}},
        {"status": "ready", "record": {"name": "x", "status": 42}},
        {"status": "done", "record": {"name": "x", "status": 100}},
    ],
    ids=str,
)
def test_an_unexpected_event_fails_for_good(event: Any) -> None:
    """An event without a ready project or a message is a permanent failure."""
    with pytest.raises(ProjectError, match=r"trigger event: .* Clear this task") as caught:
        project_of(event)
    assert not caught.value.retryable


def test_processing_errors_fail_only_if_asked(caplog: pytest.LogCaptureFixture) -> None:
    """A ready project with processing errors is a success with a warning, or with the option a failure."""
    ready = project(100, errors=3)
    assert ready_record(ready, "https://x/page") == ready.record
    (warned,) = caplog.records
    assert warned.levelname == "WARNING"
    for part in ("town-hall", "3 errors", "https://x/page"):
        assert part in warned.getMessage()
    with pytest.raises(ProjectError, match="3"):
        ready_record(ready, "https://x/page", fail_on_errors=True)


def test_a_ready_project_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the project and its page."""
    caplog.set_level("INFO", "airflow_360")
    ready_record(project(100), "https://x/projects/town-hall")
    (said,) = caplog.records
    assert said.getMessage().endswith("town-hall is ready: https://x/projects/town-hall")


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (5, 5), (0.5, 0.5), (timedelta(minutes=2), 120)], ids=str
)
def test_durations(value: Any, seconds: float | None) -> None:
    """A duration is a number of seconds or a timedelta."""
    assert as_seconds(value, "stall_timeout") == seconds


@pytest.mark.parametrize("value", [0, -1, "60", True, float("nan"), timedelta(0)], ids=str)
def test_wrong_durations_are_refused(value: Any) -> None:
    """A value that is not a duration is refused, with the parameter's name."""
    with pytest.raises(ValueError, match="stall_timeout"):
        as_seconds(value, "stall_timeout")
