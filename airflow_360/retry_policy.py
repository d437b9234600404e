"""A retry policy for this package's errors; a separate module, because only Airflow 3.3 has policies."""

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

MAX_CAUSES = 10  # a chain of causes may be circular


class ThreeSixtyRetryPolicy(RetryPolicy):
    """A retry policy that retries only if this can help, and not before the server allows it (Airflow 3.3).

    Permanent errors (a wrong key, a full account, a file that is not allowed) fail immediately, even if
    ``retries`` are left. After a rate limit, or a 5xx with ``Retry-After``, the task waits as long as the
    server asked; a mapped task waits for the full window of the limit, as the operators do. For all other
    errors ``retries`` and ``retry_delay`` apply.

    Use it for a ``@task`` that calls ``ThreeSixtyHook().client``. It recognizes the errors of the client,
    also as the cause of another error. The operators do not need it, but you can use it with them, for
    example in ``default_args``. A policy cannot retry more often than ``retries`` allows, and each wait uses
    one retry.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide whether and when to retry.

        :param exception: the exception that the task raised.
        :param try_number: the number of the attempt, from 1.
        :param max_tries: the maximum number of attempts.
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
        """Return the arguments for a serialized DAG: none, because the policy has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ThreeSixtyRetryPolicy:
        """Return the policy.

        :param data: the result of :meth:`serialize`.
        """
        return cls()


def _ours(exception: BaseException) -> ThreeSixtyError | None:
    """Return the first error of this package in a chain of causes."""
    error: BaseException | None = exception
    for _ in range(MAX_CAUSES):
        if isinstance(error, ThreeSixtyError):
            return error
        error = error.__cause__ if error else None
    return None
