"""The decisions of the retry policy on Airflow 3.3, and the error on older versions."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_360.exceptions import (
    AuthenticationError,
    FileRejectedError,
    NoReplyError,
    ProjectError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UploadStalledError,
)
from tests.airflow.conftest import context

policies = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies came with 3.3")

# After the line above, which an older Airflow does not pass.
from airflow_360.retry_policy import ThreeSixtyRetryPolicy  # noqa: E402


def decide(error: BaseException, given: Any = None) -> Any:
    return ThreeSixtyRetryPolicy().evaluate(error, 1, 3, given)


def caused_by(error: Exception) -> Exception:
    try:
        raise AirflowException("what an operator raises") from error
    except AirflowException as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("no", status=401),
        QuotaError("no", status=402),
        FileRejectedError("no", status=415),
        ProjectError("no"),
        ThreeSixtyError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_permanent_error_fails_immediately(error: ThreeSixtyError) -> None:
    """A permanent error fails immediately, raised directly or as the cause of another error."""
    for raised in (error, caused_by(error), caused_by(caused_by(error))):
        decision = decide(raised)
        assert decision.action is policies.RetryAction.FAIL
        assert decision.reason == "Trying again cannot help. no"


@pytest.mark.parametrize(
    "error",
    [
        NoReplyError("later"),
        ServerError("later", status=503),
        UploadStalledError("later"),
        RateLimitedError("later"),
        ValueError("not ours"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_left_to_airflow(error: BaseException) -> None:
    """Temporary errors, and errors of other packages, are left to Airflow's settings."""
    assert decide(error) == policies.RetryDecision.default()


def test_handled_errors_are_no_cause() -> None:
    """An error of this package that was handled when another one happened decides nothing."""

    def stumble() -> None:
        try:
            raise ProjectError("handled")
        except ProjectError:
            raise ValueError("another")  # noqa: B904 - that it is not the cause is the point

    with pytest.raises(ValueError) as raised:
        stumble()
    assert isinstance(raised.value.__context__, ProjectError)
    assert decide(raised.value) == policies.RetryDecision.default()


def test_circle_of_causes() -> None:
    """Errors that are each other's cause end in Airflow's own decision."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert decide(one) == policies.RetryDecision.default()


def test_a_rate_limit_is_retried_when_the_server_said() -> None:
    """After a rate limit the task waits as long as the server asked, and the reason contains the time."""
    decision = decide(RateLimitedError("Slow down.", retry_after=1234.0, window=3600.0), context())
    assert decision.action is policies.RetryAction.RETRY
    assert decision.retry_delay == timedelta(seconds=1234)
    assert decision.reason == "Slow down. Again in 1234 s."


def test_a_maintenance_is_waited_for_as_the_server_says() -> None:
    """A 503 that names a time is retried after it."""
    decision = decide(ServerError("Down.", status=503, retry_after=700.0), context())
    assert decision.action is policies.RetryAction.RETRY
    assert decision.retry_delay == timedelta(seconds=700)


def test_rate_limit_of_siblings() -> None:
    """A mapped task waits for the full window plus a random delay, as an operator does."""
    given = context()
    given["ti"].map_index = 0
    error = RateLimitedError("Slow down.", retry_after=10.0, window=3600.0)
    delays = {decide(error, given).retry_delay.total_seconds() for _ in range(20)}
    assert all(3600 <= delay <= 3600 * 1.05 for delay in delays)
    assert len(delays) > 1


def test_serialized() -> None:
    """The policy survives being written into a DAG's serialized form and read back."""
    policy = ThreeSixtyRetryPolicy.deserialize(ThreeSixtyRetryPolicy().serialize())
    assert isinstance(policy, ThreeSixtyRetryPolicy)


@pytest.mark.long
def test_older_airflow() -> None:
    """If Airflow has no retry policies, importing ours raises a helpful error; the rest can be imported."""
    program = (
        "import sys\n"
        "sys.modules['airflow.sdk.definitions.retry_policy'] = None\n"
        "import airflow_360.task_groups, airflow_360.operators.project, airflow_360.sensors.project\n"
        "try:\n"
        "    import airflow_360.retry_policy\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "ThreeSixtyRetryPolicy needs Airflow 3.3 or newer" in told.stdout
    assert "Remove retry_policy on this version" in " ".join(told.stdout.split())
