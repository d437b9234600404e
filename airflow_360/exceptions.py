"""The errors that this package raises on purpose, as one tree.

A class exists only if a caller would catch it; all finer distinctions are in its ``code``. Every layer may
import this module, and it imports nothing from the package.

::

    ThreeSixtyError                      base class of all errors; .retryable
    ├─ ApiError                          the server refused the request: .status .code .detail
    │  ├─ AuthenticationError            401, 403 insufficient_scope
    │  ├─ QuotaError                     402; 403 because of the tariff or a limit
    │  ├─ InvalidRequestError            400, 411
    │  ├─ NotFoundError                  404 file, project
    │  │  └─ UploadSessionNotFoundError  expired, discarded or consumed
    │  ├─ FileRejectedError              413 (.limit), 415 (.extension .allowed)
    │  ├─ OffsetMismatchError            409 (.received)
    │  ├─ RateLimitedError               429 (.retry_after)                        retryable
    │  ├─ ServerError                    5xx (.retry_after)                        retryable
    │  └─ UnexpectedReplyError           408, 421, 425; 403, 404 without JSON       retryable
    ├─ NoReplyError                      no usable reply (.sent .timed_out)        retryable
    ├─ ConfigurationError                the connection or a .parameter is wrong
    ├─ SourceError                       the bytes cannot be read: .path           retryable or not
    ├─ InspectionError                   files are damaged, and inspect is "fail" (.files)
    ├─ ProjectError                      the session or project is not as requested
    │  └─ ProjectStatusError             the status is not within 0 to 100 (.status)
    └─ UploadError                       the upload has failed: .filename .received .total
       ├─ SourceChangedError             the source changed after the upload started
       └─ UploadStalledError             the high-water mark stopped growing       retryable

Every error can be pickled: its message is its only positional argument, and its data are plain attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

__all__ = [
    "ApiError",
    "AuthenticationError",
    "ConfigurationError",
    "FileRejectedError",
    "InspectionError",
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
]


class ThreeSixtyError(Exception):
    """The base class of all errors that this package raises on purpose.

    :param message: the event, the file or project, and the next step for the user.
    """

    #: Whether the same task may succeed if it runs again later.
    retryable: bool = False
    #: Seconds that the server asked to wait, or None if it named no time.
    retry_after: float | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later if it changes nothing, such as a poll."""
        return self.retryable

    def given_up(self) -> Self:
        """Return this error after it was tolerated for its full time."""
        return self

    @property
    def error_id(self) -> str:
        """Return the last word of the message in Airflow; the documentation lists the error under it."""
        return type(self).__name__


class ApiError(ThreeSixtyError):
    """Raised when the server refuses a request for a reason without a more specific class.

    :param message: see :class:`ThreeSixtyError`.
    :param status: the HTTP status.
    :param code: the contract's error code, or None if the reply contained none.
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

    @property
    def may_pass(self) -> bool:
        """A refusal without the API's JSON comes from a proxy or a portal; it says nothing of a project."""
        return self.retryable or self.code is None

    def given_up(self) -> Self:
        """Return this error so that Airflow retries the task if it may pass."""
        self.retryable = self.may_pass
        return self

    @property
    def error_id(self) -> str:
        """Return the contract's error code, or the name of the class if the reply contained none."""
        return self.code or super().error_id


class AuthenticationError(ApiError):
    """Raised when the key is missing, wrong, or lacks a scope (401, 403): correct the connection."""


class QuotaError(ApiError):
    """Raised when storage, tariff or a project limit forbids the call (402, 403)."""


class InvalidRequestError(ApiError):
    """Raised when the server did not understand the request (400, 411)."""


class NotFoundError(ApiError):
    """Raised when the server has no such file or project (404)."""


class UploadSessionNotFoundError(NotFoundError):
    """Raised when the upload session expired, was discarded or was consumed: clear the session task."""


class FileRejectedError(ApiError):
    """Raised when the server accepts no file of this size (413) or with this extension (415)."""

    @property
    def limit(self) -> int | None:
        """Return the size limit in bytes from a 413, or None if the reply contained none."""
        limit = self.detail.get("limit")
        return limit if isinstance(limit, int) else None

    @property
    def extension(self) -> str | None:
        """Return the extension that a 415 refused, or None if the reply contained none."""
        extension = self.detail.get("extension")
        return _plain(extension) if isinstance(extension, str) else None

    @property
    def allowed(self) -> Sequence[str]:
        """Return the extensions that a 415 lists as allowed, in lower case and without a dot."""
        allowed = self.detail.get("allowed")
        return (
            [_plain(item).lower().lstrip(".") for item in allowed[:200]] if isinstance(allowed, list) else []
        )


class OffsetMismatchError(ApiError):
    """Raised when a chunk does not start at the end of the server's bytes (409); the engine then resyncs.

    :param received: bytes that the server has.
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
    """Raised when a request exceeds a rate limit of the server (429).

    :param retry_after: seconds that the server asked to wait, or None if it named no time.
    :param window: the limit's window in seconds, or None if it is not known.
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
    """Raised when the server failed (5xx); the request may have had its effect or not.

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
    """Raised when a refusal cannot come from the API itself: 408, 421, 425, or a 403 or 404 without its JSON.

    It comes from a proxy, a firewall or another web server, and says nothing about the file, the session or
    the key. If it persists, check that the connection's host is a 360 server.
    """

    retryable = True


class NoReplyError(ThreeSixtyError):
    """Raised when no usable reply came: DNS, TLS, timeout, reset, or a reply that violates the contract.

    :param message: see :class:`ThreeSixtyError`.
    :param sent: whether the server may have received the request; False if there was no connection.
    :param idle: whether an idle connection broke. Servers close those, so this does not count as a failure.
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
    """Raised when the connection or a parameter is wrong. Correct it; retries do not help.

    :param message: see :class:`ThreeSixtyError`.
    :param parameter: the wrong parameter of a task; empty if the connection is wrong.
    """

    def __init__(self, message: str = "", *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class SourceError(ThreeSixtyError):
    """Raised when the bytes at a path cannot be found or read.

    :param message: see :class:`ThreeSixtyError`.
    :param path: the path as it was given.
    :param retryable: whether a retry may succeed (after a timeout of the store) or not (no permission).
    """

    def __init__(self, message: str = "", *, path: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.retryable = retryable


class InspectionError(ThreeSixtyError):
    """Raised when files are damaged and ``inspect`` is ``"fail"``: replace them, or leave them out.

    :param message: see :class:`ThreeSixtyError`; it lists the files and what is wrong with each.
    :param files: the paths of the damaged files, at most 1,000.
    """

    def __init__(self, message: str = "", *, files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.files = list(files)


class ProjectError(ThreeSixtyError):
    """Raised when no project may be created from a session, or when a project is not as requested."""


class ProjectStatusError(ProjectError):
    """Raised when the server gives a project a status that is a whole number but not within 0 to 100.

    A wait can tolerate this for a while, like a failed poll, but must end if it persists.

    :param message: see :class:`ThreeSixtyError`.
    :param status: the status from the server.
    """

    def __init__(self, message: str = "", *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """True: the next reply may be right."""
        return True


class UploadError(ThreeSixtyError):
    """Raised when an upload cannot be completed.

    :param message: see :class:`ThreeSixtyError`.
    :param filename: the file's name on the server, empty if the error is about several files.
    :param received: the last known number of bytes on the server.
    :param total: the file's size in bytes.
    :param failed: the names of the files that failed, if the error is about several.
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
    """Raised when the source changed after the upload started: clear the session task."""


class UploadStalledError(UploadError):
    """Raised when the server's high-water mark stopped growing; a later attempt resumes from it."""

    retryable = True


def _plain(extension: object) -> str:
    """Return an extension that the server sent, made safe for a message."""
    return "".join(c for c in str(extension)[:20] if c.isprintable())
