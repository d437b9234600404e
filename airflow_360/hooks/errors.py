"""Errors of this package as errors of Airflow, and checks of parameters, before and after rendering.

Separate because operators, sensors and the hook share these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

from airflow_360.exceptions import (
    AuthenticationError,
    ConfigurationError,
    NoReplyError,
    QuotaError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
)
from airflow_360.values import is_unset

__all__ = [
    "airflow_errors",
    "check_literal",
    "is_literal",
    "require_choice",
    "require_rendered",
    "settings_of",
]

Method = TypeVar("Method", bound=Callable[..., Any])

#: Errors that the connection's settings, the server or the key, can cause.
CONNECTION_ERRORS = (
    AuthenticationError,
    ConfigurationError,
    NoReplyError,
    QuotaError,
    ServerError,
    UnexpectedReplyError,
)


class airflow_errors(ContextDecorator):  # noqa: N801 - used like a function, as contextlib's own are
    """A context manager that turns this package's errors into Airflow's; also a decorator for methods.

    :param conn_id: the connection; errors that it can cause name it. A decorated method uses the connection
        of its object.
    :raises AirflowFailException: for permanent errors, so that no retry is spent.
    :raises AirflowException: for errors that a retry may fix, so that Airflow retries the task.
    """

    def __init__(self, conn_id: str | None = None) -> None:
        self._conn_id = conn_id

    def __call__(self, method: Method) -> Method:
        """Decorate a method."""

        @wraps(method)
        def translating(own: Any, *args: Any, **more: Any) -> Any:
            with airflow_errors(getattr(own, "three_sixty_conn_id", self._conn_id)):
                return method(own, *args, **more)

        return cast("Method", translating)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ThreeSixtyError):
            airflow_kind = AirflowException if error.retryable else AirflowFailException
            raise airflow_kind(f"{error}{_connection_of(error, self._conn_id)}") from error


def _connection_of(error: ThreeSixtyError, conn_id: str | None) -> str:
    """Return a sentence that names the connection if it can be the cause of an error, else nothing."""
    about_connection = isinstance(error, CONNECTION_ERRORS) or isinstance(error.__cause__, CONNECTION_ERRORS)
    if (
        getattr(error, "parameter", "")
        or conn_id is None
        or not about_connection
        or repr(conn_id) in str(error)
    ):
        return ""
    return f" The connection is {conn_id!r}."


@contextmanager
def settings_of(conn_id: str) -> Iterator[None]:
    """Add the connection's ID to errors in its settings."""
    try:
        yield
    except AirflowNotFoundException:
        raise ConfigurationError(
            f'There is no connection {conn_id!r}: create it in Airflow with the type "360 for you".'
        ) from None
    except ThreeSixtyError as error:
        raise ConfigurationError(f"Connection {conn_id!r}: {error}") from None


def require_rendered(**values: Any) -> None:
    """Require that templates were rendered to a value.

    :raises ThreeSixtyError: if one is empty; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, str) or is_unset(value):
            raise ConfigurationError(
                f"{name} came out as {value!r}: check its template, and that the task it comes from has run. "
                "If you marked that task as success, it returned nothing: clear it instead.",
                parameter=name,
            )


def check_literal(name: str, value: Any, *allowed: str) -> None:
    """Refuse a wrong value while the DAG is parsed, unless the value is known only when the task runs.

    :param name: the parameter.
    :param value: the value in the DAG file; templates and outputs of tasks are accepted.
    :param allowed: the allowed values.
    :raises ValueError: if the value is not allowed; the message names the parameter and the allowed values.
    """
    if is_literal(value) and value not in allowed:
        raise ValueError(_choice_text(name, value, allowed))


def is_literal(value: Any) -> bool:
    """Tell whether a value is known while the DAG is parsed: neither a template nor the output of a task."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    return value is None or isinstance(value, (int, float))


def require_choice(name: str, value: Any, *allowed: str) -> None:
    """Require that a value, which may come from a template, is one of the allowed values.

    :raises ThreeSixtyError: if not; the message names the parameter and the allowed values.
    """
    if value not in allowed:
        raise ConfigurationError(_choice_text(name, value, allowed), parameter=name)


def _choice_text(name: str, value: Any, allowed: Sequence[str]) -> str:
    return f"{name} must be {' or '.join(repr(choice) for choice in allowed)}, not {value!r}."
