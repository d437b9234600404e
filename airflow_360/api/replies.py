"""What a reply of the server means: its JSON, or one error with advice for the person who reads it.

Separate from the transport because each error that a user sees gets its words here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from airflow_360.api.plain import read_json
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    FileRejectedError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    OffsetMismatchError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadSessionNotFoundError,
)
from airflow_360.values import MIB

__all__ = [
    "ADVICE",
    "MAX_REPLY_BYTES",
    "Reply",
    "UnusableReply",
    "date_of",
    "one_line",
    "read_content",
    "read_json_or_none",
    "refusal",
]

MAX_TEXT_CHARACTERS = 300  # of the server's text in a message
MAX_CLOCK_ERROR_SECONDS = 366 * 86400.0  # a Date further from this machine's clock is ignored
MAX_REPLY_BYTES = 32 * MIB  # decoded; the list of a session with 100,000 files has about 10 MiB
READ_BYTES = 64 * 1024  # how much of a reply is read, or unzipped, in one step
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS  # tells zlib that its input has a gzip header
MAX_RETRY_AFTER_SECONDS = 86400.0  # a longer Retry-After counts as this

ADVICE = {
    "file_not_found": "Run the upload task again.",
    "invalid_filename": "Rename the file, or give another `filename`.",
    "invalid_upload_id": "Check the task that creates the session.",
    "project_not_found": "Check the name, and that the key is of the account that the project belongs to.",
    "email_not_verified": "Verify the e-mail address of the account.",
    "extension_not_allowed": "Leave such files out with `exclude`, or send them in an archive.",
    "file_too_large": "Split the file, or ask the server's operator for a higher limit.",
    "insufficient_scope": "The key needs the scopes projects:write and projects:read.",
    "invalid_api_key": "Check the API key (the password) of the Airflow connection.",
    "missing_bearer_token": "Set the API key (the password) of the Airflow connection.",
    "project_creation_failed": "Most often a file is not complete: run the upload tasks again.",
    "project_limit_reached": "Delete projects that are no longer needed, or change the tariff.",
    "session_too_large": "Spread the files over several sessions.",
    "storage_quota_exceeded": "Free storage on the account, or change the tariff.",
    "tariff_does_not_allow_api": "The account's tariff does not include the API.",
    "tariff_forbids_upload": "The account's tariff does not allow uploads.",
    "upload_session_not_found": "It expired or was discarded: clear the session task to start over.",
}


@dataclass(frozen=True)
class Reply:
    """A reply that has arrived in full."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class UnusableReply(Exception):  # noqa: N818 - becomes a NoReplyError, and its text a part of that sentence
    """Raised when a reply is too large, or has an encoding that was not requested."""


def read_content(reply: requests.Response) -> bytes:
    """Read a reply's body to its end, so that its connection can be reused.

    :raises UnusableReply: if it has more than :data:`MAX_REPLY_BYTES`, or cannot be decoded.
    """
    encoding = reply.headers.get("Content-Encoding", "").strip()
    received = _limited(iter(lambda: reply.raw.read(READ_BYTES, decode_content=False), b""))
    if encoding.lower() in ("gzip", "x-gzip"):
        return b"".join(_limited(_unzipped(received)))
    if encoding.lower() not in ("", "identity"):
        raise UnusableReply(f"its Content-Encoding is {encoding!r} and only gzip was requested")
    return b"".join(received)


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            raise UnusableReply(f"it has more than {MAX_REPLY_BYTES // MIB} MiB")
        yield piece


def _unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decode gzip in small pieces, because a few kilobytes can expand to gigabytes.

    urllib3 before 2.6 decodes all that it has read at once.
    """
    unzip, empty = zlib.decompressobj(GZIP_WINDOW_BITS), True
    try:
        for piece in pieces:
            empty = False
            while piece and not unzip.eof:
                yield unzip.decompress(piece, READ_BYTES)
                piece = unzip.unconsumed_tail
    except zlib.error as error:
        raise UnusableReply(f"its gzip data is damaged ({error})") from None
    if not (unzip.eof or empty):
        raise UnusableReply("its gzip data ends early")


def read_json_or_none(text: str) -> Any:
    """Return the JSON in a string, or None if it is not JSON."""
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None


def refusal(status: int, headers: Mapping[str, str], what: str, detail: dict[str, Any]) -> ThreeSixtyError:
    """Return the error for a reply that is not a success.

    :param status: its HTTP status.
    :param headers: its headers, without secrets.
    :param what: the request, in words.
    :param detail: its JSON object, without secrets; empty if it has none.
    """
    error = detail.pop("error", None)
    code = one_line(error) if isinstance(error, str) and error else None
    kind = _kind(status, code)
    data: dict[str, Any] = {"status": status, "code": code, "detail": detail}
    if kind in (RateLimitedError, ServerError):
        data["retry_after"] = _retry_after(headers)
    if kind is OffsetMismatchError:
        received = detail.get("received")
        if not isinstance(received, int) or isinstance(received, bool) or received < 0:
            return NoReplyError(f"{what}: the server answered 409 without the number of bytes that it has.")
        data["received"] = received
    return kind(_sentence(what, status, code, detail, headers), **data)


def _kind(status: int, code: str | None) -> type[ApiError]:
    if status >= 500:
        return ServerError
    if status < 200 or status in (408, 421, 425) or (status in (403, 404) and not code):
        return UnexpectedReplyError
    if status == 401 or (status == 403 and code == "insufficient_scope"):
        return AuthenticationError
    if status in (402, 403):
        return QuotaError
    if code == "upload_session_not_found":
        return UploadSessionNotFoundError
    if status == 404:
        return NotFoundError
    kinds: dict[int, type[ApiError]] = {
        400: InvalidRequestError,
        409: OffsetMismatchError,
        411: InvalidRequestError,
        413: FileRejectedError,
        415: FileRejectedError,
        429: RateLimitedError,
    }
    return kinds.get(status, ApiError)


def _sentence(
    what: str, status: int, code: str | None, detail: Mapping[str, Any], headers: Mapping[str, str]
) -> str:
    said = f"{status} {code}" if code else f"{status} (not a reply of the 360 API)"
    more = one_line(
        "".join(f", {one_line(key)}: {one_line(value)}" for key, value in detail.items()),
        3 * MAX_TEXT_CHARACTERS,
    )
    advice = ADVICE.get(code or "", "")
    if (status == 429 or status >= 500) and (wait := _retry_after(headers)) is not None:
        advice = f"It asks to wait {wait:.0f} s."
    if 300 <= status < 400:
        advice = f"It points to {one_line(headers.get('Location', '?'))}: set the connection's host to it."
    elif not code:
        advice = advice or _advice_for_a_proxy(status)
    return f"{what}: the server answered {said}{more}. {advice}".rstrip()


def _advice_for_a_proxy(status: int) -> str:
    """Return advice for an error that probably comes from a proxy, because it has no JSON."""
    if status >= 500:
        return "It is probably a proxy or maintenance: try again later."
    if status == 413:
        return (
            "It is probably a proxy that limits the size of a request: set a smaller chunk_size, or raise "
            "its limit (client_max_body_size in nginx)."
        )
    return "Check that the connection's host is a 360 server and that no proxy stands between."


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait; None if it names no time.

    0, a date in the past, and an unreadable value name no time: the server has just refused, so a retry at
    once is useless, and the growing delays of :class:`~airflow_360.api.backoff.Backoff` apply.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        seconds = float(value)
    elif moment := _moment(value):
        now = date_of(headers) or datetime.now(UTC)  # this machine's clock may be wrong
        seconds = (moment - now).total_seconds()
    else:
        return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """Return a reply's Date; None if there is none, or if it is more than a year off."""
    date = _moment(headers.get("Date", ""))
    if date and abs((date - datetime.now(UTC)).total_seconds()) <= MAX_CLOCK_ERROR_SECONDS:
        return date
    return None


def _moment(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):  # the last for a year with many digits
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def one_line(text: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return the server's text made safe for a log: one line, no control characters, bounded."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: limit + 1])
    return line if len(line) <= limit else f"{line[:limit]}…"
