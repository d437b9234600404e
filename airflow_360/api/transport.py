"""One request to the server becomes one JSON reply or one error.

The only module that knows ``requests``: authentication, time-outs, certificates, redirects and the
meaning of status codes end here. It repeats a request in one case only: a GET or DELETE whose kept-alive
connection the server had closed meanwhile goes out once more on a fresh one.
"""

from __future__ import annotations

import ipaddress
import json as json_module
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_360 import __version__
from airflow_360.api.budget import Endpoint, RequestBudget
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
    UploadSessionNotFoundError,
)

__all__ = ["DEFAULT_SERVER", "Transport", "server_url"]

DEFAULT_SERVER = "https://360-for-you.com"
API_PATH = "/api/v1"
TEXT_LIMIT = 300  # characters of the server's text that may enter a message
SEND_TIMEOUT = 120.0  # seconds for one block of a body: 9 KB/s
IDLE = 1.0  # seconds after which a server may be closing a connection that it keeps
LONGEST_WAIT = 86400.0  # seconds of a Retry-After that are believed
USER_AGENT = f"airflow-provider-360/{__version__}"

ADVICE = {
    "file_not_found": "Run the upload task again.",
    "invalid_filename": "Rename the file, or give another `filename`.",
    "invalid_upload_id": "Check the task that creates the session.",
    "project_not_found": "Check the name, and that the key is of the account that the project belongs to.",
    "email_not_verified": "Verify the e-mail address of the account.",
    "extension_not_allowed": "Leave such files out with `pattern`, or send them in an archive.",
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
    """Set the key on each request; an ``auth`` object, so that a netrc file cannot replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Transport:
    """Send requests to one server with one key, over one pool of connections.

    :param server: the server's URL, with or without ``/api/v1``.
    :param key: the API key; sent in a header to this server only.
    :param connect_timeout: seconds to wait for a connection. Default 10: a server that is up answers in one.
    :param read_timeout: seconds to wait for the next byte of a reply. Default 120: a server may hash or move
        a large file before it answers its last chunk.
    :param verify: True checks certificates against the environment's authorities, a path against that
        file, False not at all.
    :param connections: how many connections are kept alive; at least as many as threads that use this.
    :param user_agent: what is added to the User-Agent, such as Airflow's version.
    :param budget: what paces the requests; nothing does by default.
    :raises ThreeSixtyError: when the server's URL is unusable, see :func:`server_url`, or there is no key.
    """

    def __init__(
        self,
        server: str,
        key: str,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 120.0,
        verify: bool | str = True,
        connections: int = 64,
        user_agent: str = "",
        budget: RequestBudget | None = None,
    ) -> None:
        self.server = server_url(server)
        self.budget = budget or RequestBudget(None)
        if not key:
            raise ThreeSixtyError(
                f"There is no API key for {self.server}: set the connection's password. "
                f"Keys are made at {self.server}/profile#api-keys."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ThreeSixtyError("The API key holds spaces, line breaks or other characters no key has.")
        self._timeout = (connect_timeout, read_timeout)
        self._verify = verify
        # What is meant for this machine, perhaps over plain http, must not leave it through a proxy.
        host = urlsplit(self.server).hostname or ""
        self._proxies = {"no_proxy": host} if _is_loopback(host) else {}
        self._key = key
        self._new_http = partial(_http, key, user_agent)
        self._kept = self._new_http(connections)

    def request(
        self,
        method: str,
        *segments: str,
        json: Mapping[str, Any] | None = None,
        body: Iterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
    ) -> Any:
        """Send one request, once.

        :param method: the HTTP method.
        :param segments: the address below ``/api/v1``; each is percent-encoded as one path segment.
        :param json: an object to send as JSON.
        :param body: bytes to send, or something sized that yields them.
        :param headers: further headers.
        :param secrets: what is not to come back out of a reply, beside the key.
        :returns: the reply's JSON.
        :raises ThreeSixtyError: when a segment would change the address.
        :raises ApiError: when the server answered no.
        :raises RateLimitedError: also without asking, while a 429 to any client of the same budget holds.
        :raises NoReplyError: when no usable answer came; the request may have had its effect.
        """
        endpoint = (method, segments[0], len(segments))
        url = self.server + API_PATH + "".join(f"/{_segment(segment)}" for segment in segments)
        what = f"{method} {url.removeprefix(self.server)}"
        options: dict[str, Any] = {"json": json, "data": body, "headers": headers}
        outer = sys.exc_info()[1]
        try:
            reply = self._send(endpoint, url, options)
        # Not all that requests raises is its own: a missing certificate file is an OSError, an odd redirect a
        # ValueError.
        except (OSError, ValueError) as error:
            root = _root(error, outer)
            cause = _without(f"{type(root).__name__}: {root}", (self._key, *secrets))
            raise NoReplyError(
                f"{what}: no answer from {self.server} ({_clean(cause)}). "
                "If this goes on, check the connection's host and the network.",
                sent=_may_have_been_sent(error, root),
                idle=getattr(root, "idle", False),
            ) from None
        try:
            return self._answer(reply, what, (self._key, *secrets))
        except RateLimitedError as error:
            self.budget.refused(endpoint, error.retry_after)
            error.window = self.budget.window(endpoint)
            raise

    def has_key_of(self, other: Transport) -> bool:
        """Tell whether another transport sends the same key."""
        return self._key == other._key

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._kept.close()

    def _answer(self, reply: requests.Response, what: str, secrets: Sequence[str]) -> Any:
        content = _json(reply.content.decode("utf-8", "replace"), secrets)
        if 200 <= reply.status_code < 300:
            if content is None:
                raise NoReplyError(f"{what}: {self.server} did not answer with JSON; is it a 360 server?")
            return content
        headers = _without(dict(reply.headers), secrets)
        detail = content if isinstance(content, dict) else {}
        raise _refusal(reply.status_code, CaseInsensitiveDict(headers), what, detail)

    def _send(self, endpoint: Endpoint, url: str, options: Mapping[str, Any]) -> requests.Response:
        method = endpoint[0]
        always: dict[str, Any] = {
            "timeout": self._timeout,
            "verify": self._verify,  # with each request: the environment overrides a session's
            "proxies": self._proxies,
            "allow_redirects": False,
        }
        outer = sys.exc_info()[1]
        try:
            # A POST must not meet a connection that the server is just closing: its fate could not be told.
            if method != "POST":
                with self.budget.turn(endpoint):
                    return self._kept.request(method, url, **options, **always)
        except requests.ConnectionError as error:
            if method not in ("GET", "DELETE") or not isinstance(_root(error, outer), ConnectionError):
                raise
        with self._new_http(1) as fresh, self.budget.turn(endpoint):
            return fresh.request(method, url, **options, **always)


class _PatientConnection(HTTPConnection):
    """Send without the connect time-out, under which a slow line could not carry one block of a body.

    Where it breaks after it has stood idle, the error says so.
    """

    _asked = 0.0
    _answered: float | None = None  # when it did last; None for a connection that has not yet

    def connect(self) -> None:
        self._answered = None
        super().connect()
        self.sock.settimeout(SEND_TIMEOUT)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._asked = time.monotonic()
        if self.sock is not None:  # urllib3 puts the connect time-out on a kept connection again
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
        except ConnectionError as error:
            idle = self._answered is not None and self._asked - self._answered > IDLE
            error.idle = idle  # type: ignore[attr-defined]
            raise


class _PatientTLSConnection(_PatientConnection, HTTPSConnection):
    """The same over TLS."""


class _PatientPool(HTTPConnectionPool):
    ConnectionCls = _PatientConnection


class _PatientTLSPool(HTTPSConnectionPool):
    ConnectionCls = _PatientTLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager


POOLS = {"http": _PatientPool, "https": _PatientTLSPool}


def _http(key: str, user_agent: str, connections: int) -> requests.Session:
    http = requests.Session()
    http.auth = _BearerAuth(key)
    http.headers["User-Agent"] = f"{USER_AGENT} {user_agent}".strip()
    http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
    http.mount("https://", adapter)
    http.mount("http://", adapter)
    return http


def server_url(address: str) -> str:
    """Return a server's URL without a trailing slash and without ``/api/v1``.

    :param address: the URL as a user wrote it; https where it names no scheme.
    :raises ThreeSixtyError: when it is no http(s) URL, holds a user or password, or is plain http to a
        host that is not this machine, since the key travels in a header.
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
        shown = _clean(address.rpartition("@")[2].partition("?")[0])  # what is cut off may be a secret
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


def _json(text: str, secrets: Sequence[str]) -> Any:
    try:
        return _without(json_module.loads(text), secrets)
    except (ValueError, RecursionError):
        return None


def _without(value: Any, secrets: Sequence[str]) -> Any:
    """Return a text, or JSON that was read (unread it may spell any character otherwise), less secrets."""
    match value:
        case str():
            for secret in secrets:
                value = value.replace(secret, "***")
        case dict():
            return {_without(name, secrets): _without(item, secrets) for name, item in value.items()}
        case list():
            return [_without(item, secrets) for item in value]
    return value


def _refusal(status: int, headers: Mapping[str, str], what: str, detail: dict[str, Any]) -> ThreeSixtyError:
    error = detail.pop("error", None)
    code = _clean(error) if isinstance(error, str) and error else None
    kind = _kind(status, code)
    data: dict[str, Any] = {"status": status, "code": code, "detail": detail}
    if kind is RateLimitedError:
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
    if status == 401 or (status == 403 and code in (None, "insufficient_scope")):
        return AuthenticationError
    if status in (402, 403):
        return QuotaError
    if code == "upload_session_not_found":
        return UploadSessionNotFoundError
    if status == 404:
        return NotFoundError if code else ApiError  # a 404 without the contract's JSON says nothing of a file
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
    said = f"{status} {code}" if code else f"{status} without the JSON of a 360 server"
    more = _clean(
        "".join(f", {_clean(key)}: {_clean(value)}" for key, value in detail.items()), 3 * TEXT_LIMIT
    )
    advice = ADVICE.get(code or "", "")
    if status == 429 and (wait := _retry_after(headers)) is not None:
        advice = f"It asks to wait {wait:.0f} s."
    if 300 <= status < 400:
        advice = f"It points to {_clean(headers.get('Location', '?'))}: set the connection's host to it."
    elif not code and status < 500:
        advice = "Check that the connection's host is a 360 server and that no proxy stands between."
    return f"{what}: the server answered {said}{more}. {advice}".rstrip()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return min(float(value), LONGEST_WAIT)
    moment = _moment(value)
    if moment is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)  # this machine's clock may be wrong
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT)


def _moment(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _root(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return where an error came from, but not the one that was being handled before the request."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not outer:
        error = inner
    return error


def _may_have_been_sent(error: Exception, root: BaseException) -> bool:
    """Tell whether the server may have seen the request; only what never had a connection is sure."""
    never = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
    return not isinstance(error, requests.ConnectTimeout) and not isinstance(root, never)


def _clean(text: object, limit: int = TEXT_LIMIT) -> str:
    """Return the server's text fit for a log: one line, no control characters, bounded."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: limit + 1])
    return line if len(line) <= limit else f"{line[:limit]}…"
