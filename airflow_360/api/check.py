"""A check whether a server and a key work for uploads, without creating anything.

This file is separate because the check is not an endpoint but combines two of them; only this file knows
which, and the meaning of each reply.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    NoReplyError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
)

__all__ = ["check"]

#: A well-formed id that no session has. It is only read, so that a session with this id would not change.
NO_SESSION = "NotThere"
#: A key that gets one of these codes may also create sessions, because the server checks the key first.
SESSION_ERROR_CODES = ("upload_session_not_found", "invalid_upload_id")


def check(client: ThreeSixtyClient) -> tuple[bool, str]:
    """List the projects (scope projects:read), and the files of a missing session (projects:write).

    :param client: a client without retries, because a person waits for the result.
    :returns: whether the key has both scopes, and a message for the user, which never contains the key.
    """
    asked: tuple[tuple[str, Callable[[], object]], ...] = (
        ("projects:read", client.list_projects),
        ("projects:write", lambda: client.list_files(NO_SESSION)),
    )
    for scope, ask in asked:
        try:
            ask()
        except ThreeSixtyError as error:
            if not (isinstance(error, ApiError) and error.code in SESSION_ERROR_CODES):
                return False, f"{_meaning(error, client.server, scope)} {error}".strip()
    return True, (
        f"{client.server} answers, and accepts the key for reading (projects:read) and for uploads "
        "(projects:write). Nothing was created; whether storage is left shows with the first upload."
    )


def _meaning(error: ThreeSixtyError, server: str, scope: str) -> str:
    """Return the meaning of a refusal for the connection, to put before the server's own text."""
    match error:
        case NoReplyError() | ConfigurationError():
            return ""  # the error itself describes the problem
        case RateLimitedError() | ServerError():
            return f"{server} answers, but cannot say now whether the key is good: try again later."
        case AuthenticationError(code="insufficient_scope"):
            there = f"make one that has it at {server}/profile#api-keys."
            return f"{server} knows the API key, but it lacks the scope {scope}: {there}"
        case AuthenticationError(status=401, code=str()):
            return f"{server} does not know this API key."
        case QuotaError(code=str()):
            return f"{server} knows the API key, but does not let its account in."
    return f"{server} does not answer as a 360 server does."
