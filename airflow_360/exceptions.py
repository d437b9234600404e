"""Everything that this package raises on purpose, as one tree.

A class exists where a caller would catch it; everything finer is its ``code``. This module stands on the
ground floor: every layer may import it, and it imports nothing of the package.

::

    ThreeSixtyError                      everything raised on purpose; .retryable
    ├─ ApiError                          the server answered no: .status .code .detail
    │  ├─ AuthenticationError            401, 403 insufficient_scope
    │  ├─ QuotaError                     402, 403 of the tariff and of limits
    │  ├─ InvalidRequestError            400, 411
    │  ├─ NotFoundError                  404 file, project
    │  │  └─ UploadSessionNotFoundError  expired, discarded or consumed
    │  ├─ FileRejectedError              413 (.limit), 415 (.extension .allowed)
    │  ├─ OffsetMismatchError            409 (.received)
    │  ├─ RateLimitedError               429 (.retry_after)                        retryable
    │  ├─ ServerError                    5xx (.retry_after)                        retryable
    │  └─ UnexpectedReplyError           408, 421, 425; 403, 404 of another server  retryable
    ├─ NoReplyError                      no usable answer (.sent .timed_out)       retryable
    ├─ ConfigurationError                the connection or a parameter is wrong
    ├─ SourceError                       the bytes cannot be read: .path           retryable or not
    ├─ ProjectError                      the project is not what was asked for
    │  └─ ProjectStatusError             the status is not within 0 to 100 (.status)
    └─ UploadError                       the engine gives up: .filename .received .total
       ├─ SourceChangedError             the bytes are not those that the upload began with
       └─ UploadStalledError             the high-water mark stopped growing       retryable

Every error pickles: its message is its only positional argument, and its data are plain attributes.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ApiError",
    "AuthenticationError",
    "ConfigurationError",
    "FileRejectedError",
    "InvalidRequestError",
    "NoReplyError",
    "NotFoundError",
    "OffsetMismatchError",
    "ProjectError",
    "ProjectStatusError",
    "QuotaError",
    "RateLimitedError",
    "ServerError",
    "SourceChangedError",
    "SourceError",
    "ThreeSixtyError",
    "UnexpectedReplyError",
    "UploadError",
    "UploadSessionNotFoundError",
    "UploadStalledError",
    "some",
]

#: How many faults one message names.
NAMED = 20


class ThreeSixtyError(Exception):
    """Say that something went wrong which this package foresaw; raised as itself for wrong settings.

    :param message: what happened, to which file or project, and what to do next.
    """

    #: Whether the same task may succeed when it is simply run again later.
    retryable: bool = False
    #: Seconds that the server asked to wait, or None if it named no time.
    retry_after: float | None = None


class ApiError(ThreeSixtyError):
    """Say that the server answered no, in a way that has no class of its own.

    :param message: see :class:`ThreeSixtyError`.
    :param status: the HTTP status.
    :param code: the contract's error code, or None where the reply held none.
    :param detail: the other fields of the server's error reply.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail or {}


class AuthenticationError(ApiError):
    """Say that the key is missing, wrong, or lacks a scope (401, 403): mend the connection."""


class QuotaError(ApiError):
    """Say that storage, the tariff or a project limit forbids the call (402, 403): free some, or upgrade."""


class InvalidRequestError(ApiError):
    """Say that the server did not understand the request (400, 411)."""


class NotFoundError(ApiError):
    """Say that the server knows no such file or project (404)."""


class UploadSessionNotFoundError(NotFoundError):
    """Say that the upload session expired, was discarded or was consumed: clear the session task."""


class FileRejectedError(ApiError):
    """Say that the server takes no file of this size (413) or of this extension (415)."""

    @property
    def limit(self) -> int | None:
        """Return the size limit in bytes that a 413 named, if it did."""
        limit = self.detail.get("limit")
        return limit if isinstance(limit, int) else None

    @property
    def extension(self) -> str | None:
        """Return the extension that a 415 refused, if it named it."""
        extension = self.detail.get("extension")
        return _plain(extension) if isinstance(extension, str) else None

    @property
    def allowed(self) -> Sequence[str]:
        """Return the extensions that a 415 listed as allowed, in lower case and without a dot."""
        allowed = self.detail.get("allowed")
        return (
            [_plain(item).lower().lstrip(".") for item in allowed[:200]] if isinstance(allowed, list) else []
        )


class OffsetMismatchError(ApiError):
    """Say that a chunk does not start where the server's bytes end (409); the engine resyncs on it.

    :param received: bytes that the server holds.
    """

    def __init__(
        self,
        message: str = "",
        *,
        received: int = 0,
        status: int = 409,
        code: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, detail=detail)
        self.received = received


class RateLimitedError(ApiError):
    """Say that a rate limit of the server was hit (429).

    :param retry_after: seconds that the server asked to wait, or None where it named none.
    :param window: seconds in which the limit is counted, or None where that is not known.
    """

    retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        window: float | None = None,
        status: int = 429,
        code: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, detail=detail)
        self.retry_after = retry_after
        self.window = window


class ServerError(ApiError):
    """Say that the server failed (5xx); the request may or may not have had its effect.

    :param retry_after: seconds that the server asked to wait, or None if it named no time.
    """

    retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        status: int = 0,
        code: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, detail=detail)
        self.retry_after = retry_after


class UnexpectedReplyError(ApiError):
    """Raised when a refusal cannot be the API's own: 408, 421 and 425, and 403 and 404 without its JSON.

    It comes from a proxy, a firewall or another web server, and says nothing about the file, the session or
    the key. If it stays, check that the connection's host is a 360 server.
    """

    retryable = True


class NoReplyError(ThreeSixtyError):
    """Say that no usable answer came: DNS, TLS, time-out, reset, or a reply that is not the contract's.

    :param message: see :class:`ThreeSixtyError`.
    :param sent: whether the server may have seen the request; False where there never was a connection.
    :param idle: whether what broke is a connection that had stood idle, which servers close: no failure.
    :param timed_out: whether the request was sent over a working connection and the reply did not arrive in
        time. The server may still be working on it.
    """

    retryable = True

    def __init__(
        self, message: str = "", *, sent: bool = True, idle: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.idle = idle
        self.timed_out = timed_out


class ConfigurationError(ThreeSixtyError):
    """Raised when the connection or a parameter is wrong. Correct it: retries do not help."""


class SourceError(ThreeSixtyError):
    """Say that the bytes at a path cannot be found or read.

    :param message: see :class:`ThreeSixtyError`.
    :param path: the path as it was given.
    :param retryable: whether it may pass by itself (a time-out of the store) or not (no permission).
    """

    def __init__(self, message: str = "", *, path: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.retryable = retryable


class ProjectError(ThreeSixtyError):
    """Say that a session may not become a project, or that a project is not what was asked for."""


class ProjectStatusError(ProjectError):
    """Raised when the server gives a project a status that is a whole number but not within 0 to 100.

    A wait can tolerate it for a while, as it tolerates a failed poll, and must end if it stays.

    :param message: see :class:`ThreeSixtyError`.
    :param status: the status as the server gave it.
    """

    def __init__(self, message: str = "", *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UploadError(ThreeSixtyError):
    """Say that an upload cannot be completed.

    :param message: see :class:`ThreeSixtyError`.
    :param filename: the file's name on the server, empty where several files are concerned.
    :param received: bytes that the server held last.
    :param total: bytes in all.
    :param failed: the names of the files that failed, where several are concerned.
    """

    def __init__(
        self,
        message: str = "",
        *,
        filename: str = "",
        received: int = 0,
        total: int = 0,
        failed: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.failed = failed
        self.filename = filename
        self.received = received
        self.total = total


class SourceChangedError(UploadError):
    """Say that the source's bytes are not those that the upload began with: clear the session task."""


class UploadStalledError(UploadError):
    """Say that the server's high-water mark stopped growing; a later try resumes from it."""

    retryable = True


def _plain(extension: object) -> str:
    """Return what a server calls an extension fit for a message."""
    return "".join(c for c in str(extension)[:20] if c.isprintable())


def some(faults: Sequence[str], separator: str = "; ") -> str:
    """Return the first twenty of several faults as text, and how many more there are.

    :param faults: what is wrong, each a part of a sentence.
    :param separator: what stands between two.
    """
    more = [f"and {len(faults) - NAMED:,} more"] if len(faults) > NAMED else []
    return separator.join([*faults[:NAMED], *more])
