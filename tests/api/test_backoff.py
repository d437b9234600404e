"""Backoff: bounds, jitter, tries, and times from the server."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.api.backoff import Backoff
from airflow_360.exceptions import (
    ConfigurationError,
    FileRejectedError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    SourceError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadStalledError,
)
from tests.fakes import Waits


class Failing:
    """A request that fails a given number of times and then succeeds, and counts how often it was sent."""

    def __init__(self, times: int, error: ThreeSixtyError) -> None:
        self.times = times
        self.error = error
        self.sent = 0

    def __call__(self) -> str:
        self.sent += 1
        if self.sent <= self.times:
            raise self.error
        return "answer"


@pytest.mark.parametrize(
    ("jitter", "delays"),
    [
        (0.0, [0.5, 1, 2, 4, 8, 10]),
        (0.5, [0.75, 1.5, 3, 6, 12, 15]),
        (1.0, [1, 2, 4, 8, 16, 20]),
    ],
    ids=["shortest", "middle", "longest"],
)
def test_default_delays(jitter: float, delays: list[float]) -> None:
    """The default delays double from a second to twenty, each between half of its step and the whole."""
    assert list(Backoff(random=lambda: jitter).delays()) == delays


@given(
    first=st.floats(0.001, 100),
    longest=st.floats(0.001, 1000),
    tries=st.integers(0, 60),
    dice=st.lists(st.floats(0, 1), min_size=60, max_size=60),
)
def test_delays_are_bounded(first: float, longest: float, tries: int, dice: list[float]) -> None:
    """With any random numbers, there are exactly `tries` delays, each above zero and at most the longest."""
    delays = list(Backoff(first, longest, tries, random=iter(dice).__next__).delays())
    assert len(delays) == tries
    assert all(0 < delay <= longest for delay in delays)


def test_jitter_is_real_by_default() -> None:
    """Two backoffs made without dice do not wait in step."""
    assert list(Backoff().delays()) != list(Backoff().delays())


def test_delays_add_up_to_about_a_minute() -> None:
    """The default delays together are between half a minute and a minute: the rest is Airflow's."""
    assert 25 <= sum(Backoff(random=lambda: 0.0).delays()) < sum(Backoff(random=lambda: 1.0).delays()) <= 60


@pytest.mark.parametrize("failures", [0, 1, 6], ids=["none", "one", "as many as waits"])
def test_call_repeats_until_answered(failures: int) -> None:
    """A request that passes after no more failures than there are waits is answered, one wait per failure."""
    waits, request = Waits(), Failing(failures, NoReplyError("silence"))
    assert Backoff(sleep=waits).call(request) == "answer"
    assert (request.sent, len(waits)) == (failures + 1, failures)


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_call_gives_up(tries: int) -> None:
    """A request that never passes is sent once more than there are waits, and its own error comes out."""
    waits, error = Waits(), ServerError("down", status=503)
    request = Failing(99, error)
    with pytest.raises(ServerError) as raised:
        Backoff(tries=tries, sleep=waits).call(request)
    assert raised.value is error
    assert (request.sent, len(waits)) == (tries + 1, tries)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("400"),
        NotFoundError("404"),
        FileRejectedError("415"),
        SourceError("no permission"),
        ConfigurationError("certificate"),
        ThreeSixtyError("wrong setting"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_permanent_errors_are_raised_at_once(error: ThreeSixtyError) -> None:
    """A permanent error is requested once, without a wait."""
    waits, request = Waits(), Failing(1, error)
    with pytest.raises(type(error)):
        Backoff(sleep=waits).call(request)
    assert (request.sent, waits) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        NoReplyError(),
        ServerError(),
        RateLimitedError(),
        UnexpectedReplyError(),
        UploadStalledError(),
        SourceError(retryable=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_passing_errors_are_waited_for(error: ThreeSixtyError) -> None:
    """A temporary error is waited for."""
    waits = Waits()
    Backoff(sleep=waits).wait(error, 2.5)
    assert waits == [2.5]


def test_other_errors_come_through() -> None:
    """An error from elsewhere is a defect: it is raised immediately."""
    waits = Waits()

    def request() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Backoff(sleep=waits).call(request)
    assert waits == []


@pytest.mark.parametrize(
    ("asked", "waited"),
    [(None, 1.5), (0.0, 1.5), (1.0, 1.5), (7.0, 7.0), (60.0, 60.0)],
    ids=["nothing", "none", "less than the delay", "more than the delay", "the most that is allowed"],
)
@pytest.mark.parametrize("kind", [RateLimitedError, ServerError])
def test_short_retry_after_is_obeyed(
    kind: type[RateLimitedError | ServerError], asked: float | None, waited: float
) -> None:
    """A wait that the server asked for is done in full if it is short enough, and never cut short."""
    waits = Waits()
    Backoff(sleep=waits, longest_rate_limit_wait=60).wait(kind(retry_after=asked), 1.5)
    assert waits == [waited]


@pytest.mark.parametrize("asked", [60.01, 3600.0, float("inf")])
@pytest.mark.parametrize("kind", [RateLimitedError, ServerError])
def test_long_retry_after_is_raised(kind: type[RateLimitedError | ServerError], asked: float) -> None:
    """A wait that is too long for this process is not started: the error is raised with its number."""
    waits, request = Waits(), Failing(1, kind(retry_after=asked))
    with pytest.raises(kind) as raised:
        Backoff(sleep=waits, longest_rate_limit_wait=60).call(request)
    assert raised.value.retry_after == asked
    assert (request.sent, waits) == (1, [])


def test_waits_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A wait writes one log line: the failure and the time of the next try."""
    with caplog.at_level(logging.WARNING):
        Backoff(sleep=Waits()).wait(NoReplyError("GET /x: silence."), 2.0)
    assert caplog.messages == ["GET /x: silence. Trying again in 2.0 s."]


def test_a_backoff_cannot_be_changed() -> None:
    """A backoff is a value: no user can change another user's backoff."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Backoff().tries = 3  # type: ignore[misc]
