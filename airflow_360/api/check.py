"""Whether a server and a key are good for an upload, found out without creating anything.

This file is separate because it is no call of the contract but a question made of two of them; which, and
what each answer is taken to mean, stands here alone.
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

#: A well-formed id that no session has; only looked at, so that a session that did have it would not mind.
NO_SESSION = "NotThere"
#: Whoever hears this of a session may also make one: the key is looked at first.
SAID_OF_THE_SESSION = ("upload_session_not_found", "invalid_upload_id")


def check(client: ThreeSixtyClient) -> tuple[bool, str]:
    """Ask for the projects (scope projects:read), and for a session that is not there (projects:write).

    :param client: one that repeats nothing: a person waits for the answer.
    :returns: whether both scopes are there, and a text for people, which never holds the key.
    """
    asked: tuple[tuple[str, Callable[[], object]], ...] = (
        ("projects:read", client.list_projects),
        ("projects:write", lambda: client.list_files(NO_SESSION)),
    )
    for scope, ask in asked:
        try:
            ask()
        except ThreeSixtyError as error:
            if not (isinstance(error, ApiError) and error.code in SAID_OF_THE_SESSION):
                return False, f"{_meaning(error, client.server, scope)} {error}".strip()
    return True, (
        f"{client.server} answers, and accepts the key for reading (projects:read) and for uploads "
        "(projects:write). Nothing was created; whether storage is left shows with the first upload."
    )


def _meaning(error: ThreeSixtyError, server: str, scope: str) -> str:
    """Return what a refusal says about the connection, before the server's own words."""
    match error:
        case NoReplyError() | ConfigurationError():
            return ""  # says itself whether nothing came or something that is not the contract's
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
