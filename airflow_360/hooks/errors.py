"""Errors of this package as errors of Airflow.

Separate because operators, sensors and the hook share this one translation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

__all__ = ["airflow_errors", "settings_of"]

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
            about = _connection_of(error, self._conn_id)
            raise airflow_kind(f"{error}{about} [error id: {error.error_id}]") from error


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
