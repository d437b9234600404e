"""A retry policy that reads this package's errors; a file of its own, since only Airflow 3.3 has policies."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        "ThreeSixtyRetryPolicy needs Airflow 3.3 or newer, which brought retry policies. Remove "
        "retry_policy on this version: the operators handle permanent errors and rate limits without it."
    ) from error

from airflow_360.exceptions import RateLimitedError, ServerError, ThreeSixtyError
from airflow_360.operators.base import is_mapped, seconds_to_wait

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ThreeSixtyRetryPolicy"]

CAUSES = 10  # how many errors behind an error are looked at; a chain may be a circle


class ThreeSixtyRetryPolicy(RetryPolicy):
    """Retry a task only where that can help, and not before the server will listen (Airflow 3.3).

    What trying again cannot mend (a wrong key, a full account, a file that is not allowed) fails at once,
    whatever ``retries`` says. A rate limit, or a 5xx with ``Retry-After``, is waited for as long as the
    server said; a mapped task waits for the whole window of the limit, as the operators do. All else is left
    to ``retries`` and ``retry_delay``.

    Made for a ``@task`` that calls ``ThreeSixtyHook().client``, whose errors it understands, also as the
    cause of another error. The operators need it not, and may have it: in ``default_args``, for example.
    A policy cannot retry more often than ``retries`` says, and a retry is spent for each wait.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide about a failure.

        :param exception: what the task raised.
        :param try_number: which attempt it was, from 1.
        :param max_tries: how many there may be.
        :param context: the task's context.
        """
        error = _ours(exception)
        if error is None:
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(f"Trying again cannot help. {error}")
        if isinstance(error, (RateLimitedError, ServerError)) and error.retry_after is not None:
            seconds = seconds_to_wait(error, is_mapped(context))
            return RetryDecision.retry(timedelta(seconds=seconds), f"{error} Again in {seconds:.0f} s.")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return what a serialized DAG may hold: the policy has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ThreeSixtyRetryPolicy:
        """Return the policy.

        :param data: what :meth:`serialize` returned.
        """
        return cls()


def _ours(exception: BaseException) -> ThreeSixtyError | None:
    """Return the first error of this package in a chain of causes."""
    error: BaseException | None = exception
    for _ in range(CAUSES):
        if isinstance(error, ThreeSixtyError):
            return error
        error = error.__cause__ if error else None
    return None
