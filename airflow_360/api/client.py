"""The contract's endpoints as methods, in its order; the synchronous client of this package.

Idempotent requests are retried with :class:`~airflow_360.api.backoff.Backoff`. A PUT is not retried: if its
result is unknown, the server may expect other bytes next, so the engine resyncs. The POST that creates a
project is not retried either. The POST that creates a session is retried, but at most twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_360.api.backoff import Backoff
from airflow_360.api.bandwidth import Bandwidth
from airflow_360.api.budget import RequestBudget
from airflow_360.api.records import FileProgress, Project, UploadSession
from airflow_360.api.redaction import secrets_of_link
from airflow_360.api.transport import Transport
from airflow_360.exceptions import (
    NoReplyError,
    NotFoundError,
    RateLimitedError,
    ThreeSixtyError,
    UploadSessionNotFoundError,
)

__all__ = ["ThreeSixtyClient"]

T = TypeVar("T")
#: The longest wait after which a POST is retried in place although its limit is per hour.
SHORT_WAIT_SECONDS = 5.0
#: How often the POST for a session is retried if it is unknown whether the server created one.
MAX_MORE_SESSIONS = 2
OCTETS = {"Content-Type": "application/octet-stream"}


class ThreeSixtyClient:
    """A client for the API of one server; safe to share between threads.

    :param transport: sends the requests.
    :param backoff: the rule for retries of idempotent requests.
    :param bandwidth: the limiter for the uploads of this client and others; None for no limit.

    Every method raises :class:`~airflow_360.exceptions.ApiError` if the server refuses the request and
    :class:`~airflow_360.exceptions.NoReplyError` if no usable reply comes.
    """

    def __init__(
        self, transport: Transport, backoff: Backoff | None = None, bandwidth: Bandwidth | None = None
    ) -> None:
        self._transport = transport
        self.backoff = backoff or Backoff()
        self.bandwidth = bandwidth

    @property
    def server(self) -> str:
        """Return the server's URL, without ``/api/v1``."""
        return self._transport.server

    @property
    def budget(self) -> RequestBudget:
        """Return the rate limiter of the requests."""
        return self._transport.budget

    def has_key_of(self, other: ThreeSixtyClient) -> bool:
        """Return whether another client uses the same key."""
        return self._transport.has_key_of(other._transport)

    def project_url(self, project_name: str) -> str:
        """Return the URL of a project's web page."""
        return f"{self.server}/projects/{quote(project_name, safe='')}"

    def session_url(self, upload_id: str) -> str:
        """Return the URL of an upload session, which identifies it in lineage."""
        return f"{self.server}/api/v1/uploads/{quote(upload_id, safe='')}"

    def create_upload_session(self) -> UploadSession:
        """Create an upload session: ``POST /uploads``; 30 an hour.

        Not idempotent. Retried at most :data:`MAX_MORE_SESSIONS` times if the result is unknown (no usable
        reply, a 5xx), because an unused session expires by itself. Retried like other requests if there was
        no connection, and after a 429. If the limit is per hour, it is only retried after a 429 that names no
        time or at most :data:`SHORT_WAIT_SECONDS`. A longer wait is left to the task, which gives its slot
        back.

        :raises QuotaError: if storage or the tariff forbids it.
        """
        more = MAX_MORE_SESSIONS

        def safe(error: ThreeSixtyError) -> bool:
            nonlocal more
            if _surely_not_done(error) or isinstance(error, RateLimitedError):
                return _surely_not_done(error)
            more -= 1
            return more >= 0

        return self.backoff.call(
            lambda: UploadSession.from_reply(_object(self._transport.request("POST", "uploads"))), safe=safe
        )

    def put_file(self, upload_id: str, filename: str, body: Iterable[bytes] | bytes) -> FileProgress:
        """Upload a whole file: ``PUT /uploads/{upload_id}/{filename}``; 1200 a minute.

        Sent once. The server accepts a second PUT of a complete file with any content and ignores it, so call
        :meth:`get_file_progress` first if an earlier attempt may have sent the file.

        :param body: the bytes, or a sized iterable (not a list) of them; Content-Length must be known.
        :raises FileRejectedError: if the size or extension is refused.
        :raises UploadSessionNotFoundError: if the session no longer exists.
        """
        return self._put(upload_id, filename, body, OCTETS)

    def put_chunk(
        self, upload_id: str, filename: str, body: Iterable[bytes] | bytes, content_range: str
    ) -> FileProgress:
        """Upload one chunk: ``PUT`` with ``Content-Range``; 1200 a minute.

        Sent once. If the result is unknown, call :meth:`get_file_progress` and continue from its number.

        :param body: the chunk's bytes, as in :meth:`put_file`.
        :param content_range: ``bytes <start>-<end>/<total>``, end inclusive.
        :raises OffsetMismatchError: if the chunk does not start at the end of the server's bytes.
        :raises FileRejectedError: if the size or extension is refused.
        :raises UploadSessionNotFoundError: if the session no longer exists.
        """
        return self._put(upload_id, filename, body, {**OCTETS, "Content-Range": content_range})

    def get_file_progress(self, upload_id: str, filename: str) -> FileProgress | None:
        """Return a file's progress, or None if the server does not know the file: ``GET``; 600 a minute.

        Idempotent, so retried with backoff.

        :raises UploadSessionNotFoundError: if the session no longer exists.
        """
        try:
            return self._get(FileProgress.from_reply, "uploads", upload_id, filename)
        except UploadSessionNotFoundError:
            raise
        except NotFoundError:
            return None

    def list_files(self, upload_id: str) -> list[FileProgress]:
        """Return the progress of every file in a session: ``GET /uploads/{upload_id}``; 120 a minute.

        Idempotent, so retried with backoff.

        :raises UploadSessionNotFoundError: if the session no longer exists.
        """
        return self._get(_files, "uploads", upload_id)

    def delete_upload_session(self, upload_id: str) -> None:
        """Discard a session and everything in it: ``DELETE /uploads/{upload_id}``; 60 a minute.

        Idempotent, so retried with backoff.
        """

        def delete() -> None:
            reply = _object(self._transport.request("DELETE", "uploads", upload_id))
            if reply.get("deleted") is not True:
                raise NoReplyError(f"The server did not confirm that session {upload_id} is deleted.")

        self.backoff.call(delete)

    def create_project(self, fields: Mapping[str, Any]) -> Project:
        """Create one project: ``POST /projects``; 10 an hour.

        Not idempotent, and the server takes no idempotency key. So it is retried only if there was no
        connection, and after a 429 by the same rule as :meth:`create_upload_session`.

        :param fields: the JSON body: ``upload_id`` or ``download_link``, and any other field.
        :raises InvalidRequestError: if a file is not complete, or a field is wrong.
        :raises UploadSessionNotFoundError: if the session no longer exists.
        :raises QuotaError: if storage or the tariff forbids it.
        """
        # A presigned URL gives access to the file, and later replies may repeat it too.
        self._transport.redact_also(secrets_of_link(str(fields.get("download_link") or "")))
        return Project.created(
            self.backoff.call(
                lambda: _object(self._transport.request("POST", "projects", json=fields)),
                safe=_surely_not_done,
            )
        )

    def get_project(self, project_name: str) -> Project:
        """Return a project's state: ``GET /projects/{name}``; 60 a minute.

        Idempotent, so retried with backoff.

        :raises NotFoundError: if there is no such project.
        """
        return self._get(Project.from_reply, "projects", project_name)

    def list_projects(self) -> Any:
        """Return the account's projects, in the server's own shape: ``GET /projects``.

        The vendor's cheapest authenticated call; its shape is not documented. Retried with backoff.
        """
        return self.backoff.call(lambda: self._transport.request("GET", "projects"))

    def without_retries(self) -> ThreeSixtyClient:
        """Return a client that sends each request once, over the same connections.

        For polls and searches: their callers send them again anyway, at longer intervals.
        """
        return ThreeSixtyClient(self._transport, replace(self.backoff, tries=0), self.bandwidth)

    def server_now(self) -> float:
        """Return the server's time in seconds since 1970, estimated from the Date of its last reply."""
        return self._transport.server_now()

    def close(self) -> None:
        """Close the keep-alive connections."""
        self._transport.close()

    def _put(
        self, upload_id: str, filename: str, body: Iterable[bytes] | bytes, headers: Mapping[str, str]
    ) -> FileProgress:
        reply = self._transport.request("PUT", "uploads", upload_id, filename, body=body, headers=headers)
        return FileProgress.from_reply(_object(reply))

    def _get(self, read: Callable[[Mapping[str, Any]], T], *segments: str) -> T:
        # If a reply cannot be read, the request is retried too.
        return self.backoff.call(lambda: read(_object(self._transport.request("GET", *segments))))


def _files(reply: Mapping[str, Any]) -> list[FileProgress]:
    files = reply.get("files")
    if not isinstance(files, list):
        raise NoReplyError("The server's list of a session lacks 'files'; is this a 360 server?")
    progress = [FileProgress.from_reply(_object(entry)) for entry in files]
    if not all(file.name for file in progress):
        raise NoReplyError("The server's list of a session contains files without a name.")
    return progress


def _surely_not_done(error: ThreeSixtyError) -> bool:
    """Return whether a POST can be retried in place: it surely had no effect, and the wait is short.

    A limit with a known window is a limit per hour here. If its 429 names a time that is minutes away, the
    server gives all mapped tasks the same time, but only one request is possible then. So the tasks wait
    without a slot and spread their requests (decision 0015). If it names no time or a few seconds, backoff is
    enough.
    """
    if isinstance(error, RateLimitedError):
        return error.window is None or (error.retry_after or 0.0) <= SHORT_WAIT_SECONDS
    return isinstance(error, NoReplyError) and not error.sent


def _object(reply: Any) -> Mapping[str, Any]:
    if not isinstance(reply, dict):
        raise NoReplyError("The server answered with JSON that is not an object; is this a 360 server?")
    return reply
