"""Sends one request to the server and returns its JSON, or raises one error.

The only module that uses ``requests``: it handles authentication, time-outs, certificates, redirects and
status codes. It retries in one case only: a GET or DELETE whose connection broke, for example because the
server had closed the kept-alive connection, is sent once more on a new connection.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import logging
import re
import socket
import ssl
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from airflow_360 import __version__
from airflow_360.api.budget import Endpoint, RequestBudget
from airflow_360.api.certificates import certificate_problem
from airflow_360.api.plain import read_json
from airflow_360.api.redaction import Redactor
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
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

__all__ = ["DEFAULT_SERVER", "Transport", "server_url"]

log = logging.getLogger(__name__)

DEFAULT_SERVER = "https://360-for-you.com"
API_PATH = "/api/v1"
TEXT_LIMIT = 300  # characters of the server's text in a message
MAX_INTERIM_REPLIES = 20  # 1xx before one final reply
MAX_CLOCK_ERROR_SECONDS = 366 * 86400.0  # a Date further from this machine's clock is ignored
MAX_REPLY_BYTES = 32 * 1024 * 1024  # decoded; the list of a session with 100,000 files has about 10 MiB
READ_BYTES = 64 * 1024  # how much of a reply is read, or unzipped, in one step
BROKEN = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the errors of a closed connection
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS  # tells zlib that its input has a gzip header
NO_REUSE_SECONDS = 60.0  # how long each PUT opens a new connection after one broke on a reused connection
SEND_TIMEOUT = 120.0  # seconds for one block of a body: 9 KB/s
IDLE = 1.0  # seconds after which a server may be closing a kept-alive connection
LONGEST_WAIT = 86400.0  # seconds; a longer Retry-After counts as this
USER_AGENT = f"airflow-provider-360/{__version__}"

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


class _BearerAuth(AuthBase):
    """Sets the key on each request; an ``auth`` object, so that a netrc file cannot replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Transport:
    """The HTTP transport to one server with one key, over one pool of connections.

    :param server: the server's URL, with or without ``/api/v1``.
    :param key: the API key; sent in a header to this server only.
    :param connect_timeout: seconds to wait for a connection. Default 10: a running server answers in one.
    :param read_timeout: seconds to wait for the next byte of a reply. Default 120: a server may hash or move
        a large file before it replies to the last chunk.
    :param reply_timeout: seconds from the end of the request until the whole reply has arrived. Default twice
        `read_timeout`: a reply is small, so the time for all its bytes need not be longer than the time for
        the first one. Without a limit, a server that sends a byte now and then could block a thread forever.
    :param verify: True checks certificates against the environment's CAs, a path against that file, and
        False does not check them.
    :param connections: the number of kept-alive connections; at least the number of threads that use this.
    :param user_agent: text to add to the User-Agent, such as Airflow's version.
    :param budget: the rate limiter, shared with other clients of the server and key; None by default.
    :raises ThreeSixtyError: if the server's URL is unusable, see :func:`server_url`, or there is no key.
    """

    def __init__(
        self,
        server: str,
        key: str,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 120.0,
        reply_timeout: float | None = None,
        verify: bool | str = True,
        connections: int = 64,
        user_agent: str = "",
        budget: RequestBudget | None = None,
    ) -> None:
        self.server = server_url(server)
        self.budget = budget or RequestBudget(None, shared=False)
        if not key:
            raise ThreeSixtyError(
                f"There is no API key for {self.server}: set the connection's password. "
                f"Keys are made at {self.server}/profile#api-keys."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ThreeSixtyError("The API key holds spaces, line breaks or other characters no key has.")
        self._timeout = (connect_timeout, read_timeout)
        self._verify = verify
        # A request to this machine, perhaps over plain http, must not leave it through a proxy.
        host = urlsplit(self.server).hostname or ""
        self._proxies = {"no_proxy": host} if _is_loopback(host) else {}
        self._key = key
        self._redactor = Redactor([key])
        self._clock_offset = 0.0  # seconds by which the server's clock is ahead
        self._reuse_from = 0.0  # before this time, each PUT opens a new connection
        self._new_http = partial(_http, key, user_agent, reply_timeout or 2 * read_timeout)
        self._kept = self._new_http(connections)

    def request(
        self,
        method: str,
        *segments: str,
        json: Mapping[str, Any] | None = None,
        body: Iterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request, once.

        :param method: the HTTP method.
        :param segments: the path below ``/api/v1``; each is percent-encoded as one path segment.
        :param json: an object to send as JSON.
        :param body: the bytes to send, or a sized iterable of them.
        :param headers: further headers.
        :returns: the reply's JSON.
        :raises ThreeSixtyError: if a segment would change the path.
        :raises ApiError: if the server refused the request.
        :raises RateLimitedError: also without a request, as long as a 429 to any client of the same rate
            limiter applies.
        :raises ConfigurationError: if the server's certificate is refused.
        :raises NoReplyError: if no usable reply came; the request may have had its effect.
        """
        endpoint = (method, segments[0], len(segments))
        url = self.server + API_PATH + "".join(f"/{_segment(segment)}" for segment in segments)
        what = f"{method} {url.removeprefix(self.server)}"
        options: dict[str, Any] = {"json": json, "data": body, "headers": headers}
        outer = sys.exc_info()[1]
        try:
            reply = self._send(endpoint, url, options)
        except _UnusableReply as error:
            raise NoReplyError(
                f"{what}: the reply of {self.server} was discarded, because {_clean(self._redact(error))}. "
                "Check that the connection's host is a 360 server and that no proxy stands between."
            ) from None
        # Not every error comes from requests: a missing certificate file is an OSError, an odd URL a
        # ValueError, and a body that ends early an error of urllib3.
        except (OSError, ValueError, HTTPError) as error:
            root = _root(error, outer)
            if problem := certificate_problem(root, self.server):
                raise ConfigurationError(f"{what}: {self._redact(problem)}") from None
            cause = self._redact(f"{type(root).__name__.lstrip('_')}: {root}")
            sent = not getattr(root, "unsent", False)
            if method == "PUT" and getattr(root, "reused", False):
                self._reuse_from = time.monotonic() + NO_REUSE_SECONDS
            raise NoReplyError(
                f"{what}: no answer from {self.server} ({_clean(cause)}). "
                "If this persists, check the connection's host and the network.",
                sent=sent,
                idle=getattr(root, "idle", False),
                timed_out=sent and isinstance(root, _ReplyTimeout),
            ) from None
        try:
            return self._answer(reply, what)
        except RateLimitedError as error:
            self.budget.refused(endpoint, error.retry_after)
            error.window = self.budget.window(endpoint)
            raise
        except UnexpectedReplyError as error:
            if error.status == http.HTTPStatus.MISDIRECTED_REQUEST:
                self._kept.close()  # a new connection may reach the right server
            raise

    def server_now(self) -> float:
        """Return the server's time by the Date of its last reply, or this machine's time if there is none."""
        return time.time() + self._clock_offset

    def has_key_of(self, other: Transport) -> bool:
        """Tell whether another transport uses the same key."""
        return self._key == other._key

    def redact_also(self, secrets: Iterable[str]) -> None:
        """Redact further secrets, in addition to the key, from all later replies.

        :param secrets: for example those of a presigned URL that is sent to the server.
        """
        self._redactor = self._redactor.also(secrets)

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._kept.close()

    def _redact(self, text: object) -> str:
        return str(self._redactor.redact(str(text)))

    def _answer(self, reply: _Reply, what: str) -> Any:
        if date := _date(reply.headers):
            self._clock_offset = (date - datetime.now(UTC)).total_seconds()
        content = self._redactor.redact(_json(reply.content.decode("utf-8", "replace")))
        if 200 <= reply.status < 300:
            if content is None:
                raise NoReplyError(f"{what}: {self.server} did not answer with JSON; is it a 360 server?")
            return content
        headers = self._redactor.redact(dict(reply.headers))
        detail = content if isinstance(content, dict) else {}
        raise _refusal(reply.status, CaseInsensitiveDict(headers), what, detail)

    def _send(self, endpoint: Endpoint, url: str, options: Mapping[str, Any]) -> _Reply:
        method = endpoint[0]
        outer = sys.exc_info()[1]
        try:
            # A POST never uses a kept-alive connection: if the server is just closing it, the result would be
            # unknown. After this happened to a PUT, the next PUTs avoid it too: it costs them a chunk.
            if method in ("GET", "DELETE") or (method == "PUT" and time.monotonic() >= self._reuse_from):
                with self.budget.turn(endpoint):
                    return self._exchange(self._kept, method, url, options)
        except requests.ConnectionError as error:
            if method not in ("GET", "DELETE") or not isinstance(_root(error, outer), ConnectionError):
                raise
        with self._new_http(1) as fresh, self.budget.turn(endpoint):
            return self._exchange(fresh, method, url, options)

    def _exchange(
        self, http_session: requests.Session, method: str, url: str, options: Mapping[str, Any]
    ) -> _Reply:
        with http_session.request(
            method,
            url,
            **options,
            timeout=self._timeout,
            verify=self._verify,  # with each request, because the environment overrides a session's value
            proxies=self._proxies,
            allow_redirects=False,
            stream=True,
        ) as reply:
            # The bytes after an interim reply (1xx) are not read. Its connection is closed here.
            content = b"" if reply.status_code < 200 else _content(reply)
            return _Reply(reply.status_code, reply.headers, content)


@dataclass(frozen=True)
class _Reply:
    """A reply that has arrived in full."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _UnusableReply(Exception):  # noqa: N818 - becomes a NoReplyError, and its text a part of that sentence
    """Raised when a reply is too large, or has an encoding that was not requested."""


def _content(reply: requests.Response) -> bytes:
    """Read a reply's body to its end, so that its connection can be reused.

    :raises _UnusableReply: if it has more than :data:`MAX_REPLY_BYTES`, or cannot be decoded.
    """
    encoding = reply.headers.get("Content-Encoding", "").strip()
    received = _limited(iter(lambda: reply.raw.read(READ_BYTES, decode_content=False), b""))
    if encoding.lower() in ("gzip", "x-gzip"):
        return b"".join(_limited(_unzipped(received)))
    if encoding.lower() not in ("", "identity"):
        raise _UnusableReply(f"its Content-Encoding is {encoding!r} and only gzip was asked for")
    return b"".join(received)


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            raise _UnusableReply(f"it has more than {MAX_REPLY_BYTES // 1024**2} MiB")
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
        raise _UnusableReply(f"its gzip data is damaged ({error})") from None
    if not (unzip.eof or empty):
        raise _UnusableReply("its gzip data ends early")


class _ReplyTimeout(TimeoutError):  # noqa: N818 - a TimeoutError by another name
    """Raised when a request was sent, but its reply does not arrive in time."""


class _TimedReader(io.RawIOBase):
    """The bytes that arrive on a socket, until a deadline.

    A socket's own time-out restarts with each byte, so a server that sends one now and then could block a
    thread forever.

    :param sock: the socket.
    :param raw: the raw reader of the socket.
    :param silence: the longest time in seconds without a byte.
    :param total: seconds from now until the deadline.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, silence: float, total: float) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._silence = silence
        self._total = total
        self._deadline = time.monotonic() + total

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left > 0:
            self._sock.settimeout(min(left, self._silence))
            try:
                return self._raw.readinto(buffer)
            except TimeoutError:
                pass
        if left > self._silence:
            raise _ReplyTimeout(f"timed out: nothing arrived for {self._silence:g} s")
        raise _ReplyTimeout(f"timed out: the reply was not complete after {self._total:g} s")

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _Response(http.client.HTTPResponse):
    """A response that skips interim replies (1xx) and keeps its headers out of urllib3's log.

    ``http.client`` skips only 100. If headers are malformed, urllib3 logs their lines as they are, and a
    server may repeat the key in them.
    """

    def begin(self) -> None:
        super().begin()
        for _ in range(MAX_INTERIM_REPLIES):
            if self.status >= 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                break
            self.headers = None  # type: ignore[assignment] # so that the next reply is read
            super().begin()
        del self.headers["Set-Cookie"]  # cookies are not kept, and http.cookiejar fails with huge numbers
        if self.headers.defects or self.headers.get_payload():
            log.debug("The reply has malformed headers; only those before the first defect are read.")
            self.headers.defects.clear()
            self.headers.set_payload("")


class _SlowSendConnection(HTTPConnection):
    """A connection with a separate time-out for sending, and a deadline for each reply.

    The connect time-out would be too short to send one block of a body over a slow line. If the connection
    breaks after it was idle, after it served another request, or before a request was sent over it, the error
    says so.

    :param reply_timeout: see :class:`Transport`.
    """

    _connecting = False
    _asked = 0.0
    _answered: float | None = None  # time of its last reply; None if there was none

    def __init__(self, *args: Any, reply_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reply_timeout = reply_timeout

    def response_class(  # type: ignore[override] # as a class it could not know the connection's time-outs
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        reply = _Response(sock, *args, **kwargs)
        silence = cast(float, self.timeout)
        # A reply while connecting is a proxy's reply to CONNECT.
        total = silence if self._connecting else self._reply_timeout
        reply.fp = io.BufferedReader(_TimedReader(sock, reply.fp.detach(), silence, total))
        return reply

    def connect(self) -> None:
        outer = sys.exc_info()[1]
        self._answered, self._connecting = None, True
        try:
            super().connect()
        except Exception as error:
            _root(error, outer).unsent = True  # type: ignore[attr-defined]
            raise
        finally:
            self._connecting = False
        self.sock.settimeout(SEND_TIMEOUT)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._asked = time.monotonic()
        if self.sock is not None:  # urllib3 resets a kept-alive connection to the connect time-out
            self.sock.settimeout(SEND_TIMEOUT)
        super().putrequest(*args, **kwargs)

    def send(self, data: Any) -> None:
        with self._telling():
            super().send(data)

    def getresponse(self) -> Any:
        with self._telling():
            reply = super().getresponse()
        self._answered = time.monotonic()
        return reply

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            reused = self._answered is not None
            idle = self._answered is not None and self._asked - self._answered > IDLE
            error.reused, error.idle = reused, idle  # type: ignore[union-attr]
            raise


class _SlowSendTLSConnection(_SlowSendConnection, HTTPSConnection):
    """The same connection over TLS."""


class _SlowSendPool(HTTPConnectionPool):
    ConnectionCls = _SlowSendConnection


class _SlowSendTLSPool(HTTPSConnectionPool):
    ConnectionCls = _SlowSendTLSConnection


class _Adapter(HTTPAdapter):
    def __init__(self, reply_timeout: float, **kwargs: Any) -> None:
        pools = {"http": _SlowSendPool, "https": _SlowSendTLSPool}
        self._pools = {scheme: partial(pool, reply_timeout=reply_timeout) for scheme, pool in pools.items()}
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return no redirect target: for a redirect, requests would read the reply's body in one piece."""


def _http(key: str, user_agent: str, reply_timeout: float, connections: int) -> requests.Session:
    session = _Session()
    session.auth = _BearerAuth(key)
    session.headers["User-Agent"] = f"{USER_AGENT} {user_agent}".strip()
    session.headers["Accept-Encoding"] = "gzip"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(reply_timeout, pool_connections=1, pool_maxsize=connections, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def server_url(address: str) -> str:
    """Return a server's URL without a trailing slash and without ``/api/v1``.

    :param address: the URL as a user wrote it; https if it names no scheme.
    :raises ThreeSixtyError: if it is no http(s) URL, contains a user or password, or is plain http to a
        host other than this machine, because the key is sent in a header.
    """
    url = address.strip()
    url = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    odd = not url.isprintable() or " " in url
    if not host or odd or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        shown = _clean(address.rpartition("@")[2].partition("?")[0])  # the rest may be a secret
        raise ThreeSixtyError(f"{shown!r} is no server URL; write it like {DEFAULT_SERVER}.")
    if "@" in parts.netloc:
        raise ThreeSixtyError(
            "The server URL must not hold a user or password; the key is the password field."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise ThreeSixtyError(
            f"Plain http to {host} is refused, because the API key would travel unencrypted: use https."
        )
    path = parts.path.rstrip("/").removesuffix(API_PATH).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _segment(text: str) -> str:
    if text in ("", ".", "..") or not text.isprintable():
        raise ThreeSixtyError(f"{_clean(text)!r} cannot be part of an address: it is no id and no file name.")
    return quote(text, safe="")


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None


def _refusal(status: int, headers: Mapping[str, str], what: str, detail: dict[str, Any]) -> ThreeSixtyError:
    error = detail.pop("error", None)
    code = _clean(error) if isinstance(error, str) and error else None
    kind = _kind(status, code)
    data: dict[str, Any] = {"status": status, "code": code, "detail": detail}
    if kind in (RateLimitedError, ServerError):
        data["retry_after"] = _retry_after(headers)
    if kind is OffsetMismatchError:
        received = detail.get("received")
        if not isinstance(received, int) or isinstance(received, bool) or received < 0:
            return NoReplyError(f"{what}: the server answered 409 without saying how much it holds.")
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
    more = _clean(
        "".join(f", {_clean(key)}: {_clean(value)}" for key, value in detail.items()), 3 * TEXT_LIMIT
    )
    advice = ADVICE.get(code or "", "")
    if (status == 429 or status >= 500) and (wait := _retry_after(headers)) is not None:
        advice = f"It asks to wait {wait:.0f} s."
    if 300 <= status < 400:
        advice = f"It points to {_clean(headers.get('Location', '?'))}: set the connection's host to it."
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
        now = _date(headers) or datetime.now(UTC)  # this machine's clock may be wrong
        seconds = (moment - now).total_seconds()
    else:
        return None
    return min(seconds, LONGEST_WAIT) if seconds > 0 else None


def _date(headers: Mapping[str, str]) -> datetime | None:
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


def _root(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return the root cause of an error, but not an error that was already handled before the request."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not outer:
        error = inner
    return error


def _clean(text: object, limit: int = TEXT_LIMIT) -> str:
    """Return the server's text made safe for a log: one line, no control characters, bounded."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: limit + 1])
    return line if len(line) <= limit else f"{line[:limit]}…"
