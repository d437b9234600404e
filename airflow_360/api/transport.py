"""Sends one request to the server and returns its JSON, or raises one error.

It retries in one case only: a GET or DELETE whose connection broke, for example because the server had closed
the keep-alive connection, is sent once more on a new connection.
"""

from __future__ import annotations

import http
import ipaddress
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from airflow_360.api.budget import Endpoint, RequestBudget
from airflow_360.api.certificates import certificate_problem
from airflow_360.api.connections import ReplyTimeout, new_session, root_cause
from airflow_360.api.redaction import Redactor
from airflow_360.api.replies import (
    Reply,
    UnusableReply,
    date_of,
    one_line,
    read_content,
    read_json_or_none,
    refusal,
)
from airflow_360.exceptions import (
    ConfigurationError,
    NoReplyError,
    RateLimitedError,
    UnexpectedReplyError,
)

__all__ = ["DEFAULT_SERVER", "Transport", "server_url"]

DEFAULT_SERVER = "https://360-for-you.com"
API_PATH = "/api/v1"


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
    :param send_timeout: seconds until the server must have taken one block of a body. Default 120: a block of
        1 MiB then needs 9 KB/s. Without a limit, a server that stops reading could block a thread forever.
    :param verify: True checks certificates against the environment's CAs, a path against that file, and
        False does not check them.
    :param connections: the number of keep-alive connections; at least the number of threads that use this.
    :param user_agent: text to add to the User-Agent, such as Airflow's version.
    :param budget: the rate limiter, shared with other clients of the server and key; None by default.
    :param no_reuse_seconds: how long each PUT opens a new connection after one broke on a reused connection.
        Default 60: a server that closes its connections often keeps doing so.
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
        send_timeout: float = 120.0,
        verify: bool | str = True,
        connections: int = 64,
        user_agent: str = "",
        budget: RequestBudget | None = None,
        no_reuse_seconds: float = 60.0,
    ) -> None:
        self.server = server_url(server)
        self.budget = budget or RequestBudget(None, shared=False)
        if not key:
            raise ConfigurationError(
                f"There is no API key for {self.server}: set the connection's password. "
                f"Keys are made at {self.server}/profile#api-keys."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError(
                "The API key contains spaces, line breaks or other characters that no key has."
            )
        self._timeout = (connect_timeout, read_timeout)
        self._verify = verify
        # A request to this machine, perhaps over plain http, must not leave it through a proxy.
        host = urlsplit(self.server).hostname or ""
        self._proxies = {"no_proxy": host} if _is_loopback(host) else {}
        self._key = key
        self._redactor = Redactor([key])
        self._clock_offset = 0.0  # seconds by which the server's clock is ahead
        self._no_reuse_seconds = no_reuse_seconds
        self._reuse_from = 0.0  # before this time, each PUT opens a new connection
        timeouts = {"reply_timeout": reply_timeout or 2 * read_timeout, "send_timeout": send_timeout}
        self._new_http = partial(new_session, key, user_agent, timeouts)
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
        except UnusableReply as error:
            raise NoReplyError(
                f"{what}: the reply of {self.server} was discarded, because {one_line(self._redact(error))}. "
                "Check that the connection's host is a 360 server and that no proxy stands between."
            ) from None
        # Not every error comes from requests: a missing certificate file is an OSError, an odd URL a
        # ValueError, and a body that ends early an error of urllib3.
        except (OSError, ValueError, HTTPError) as error:
            root = root_cause(error, outer)
            if problem := certificate_problem(root, self.server):
                raise ConfigurationError(f"{what}: {self._redact(problem)}") from None
            cause = self._redact(f"{type(root).__name__.lstrip('_')}: {root}")
            sent = not getattr(root, "unsent", False)
            if method == "PUT" and getattr(root, "reused", False):
                self._reuse_from = time.monotonic() + self._no_reuse_seconds
            raise NoReplyError(
                f"{what}: no answer from {self.server} ({one_line(cause)}). "
                "If this persists, check the connection's host and the network.",
                sent=sent,
                idle=getattr(root, "idle", False),
                timed_out=sent and isinstance(root, ReplyTimeout),
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
        """Return whether another transport uses the same key."""
        return self._key == other._key

    def redact_also(self, secrets: Iterable[str]) -> None:
        """Redact further secrets, in addition to the key, from all later replies.

        :param secrets: for example those of a presigned URL that is sent to the server.
        """
        self._redactor = self._redactor.also(secrets)

    def close(self) -> None:
        """Close the keep-alive connections."""
        self._kept.close()

    def _redact(self, text: object) -> str:
        return str(self._redactor.redact(str(text)))

    def _answer(self, reply: Reply, what: str) -> Any:
        if date := date_of(reply.headers):
            self._clock_offset = (date - datetime.now(UTC)).total_seconds()
        content = self._redactor.redact(read_json_or_none(reply.content.decode("utf-8", "replace")))
        if 200 <= reply.status < 300:
            if content is None:
                raise NoReplyError(f"{what}: {self.server} did not answer with JSON; is it a 360 server?")
            return content
        headers = self._redactor.redact(dict(reply.headers))
        detail = content if isinstance(content, dict) else {}
        raise refusal(reply.status, CaseInsensitiveDict(headers), what, detail)

    def _send(self, endpoint: Endpoint, url: str, options: Mapping[str, Any]) -> Reply:
        method = endpoint[0]
        outer = sys.exc_info()[1]
        try:
            # A POST never uses a keep-alive connection: if the server is just closing it, the result would be
            # unknown. After this happened to a PUT, the next PUTs avoid it too: it costs them a chunk.
            if method in ("GET", "DELETE") or (method == "PUT" and time.monotonic() >= self._reuse_from):
                with self.budget.turn(endpoint):
                    return self._exchange(self._kept, method, url, options)
        except requests.ConnectionError as error:
            if method not in ("GET", "DELETE") or not isinstance(root_cause(error, outer), ConnectionError):
                raise
        with self._new_http(1) as fresh, self.budget.turn(endpoint):
            return self._exchange(fresh, method, url, options)

    def _exchange(
        self, http_session: requests.Session, method: str, url: str, options: Mapping[str, Any]
    ) -> Reply:
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
            content = b"" if reply.status_code < 200 else read_content(reply)
            return Reply(reply.status_code, reply.headers, content)


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
        shown = one_line(address.rpartition("@")[2].partition("?")[0])  # the rest may be a secret
        raise ConfigurationError(f"{shown!r} is not a server URL; write it like {DEFAULT_SERVER}.")
    if "@" in parts.netloc:
        raise ConfigurationError(
            "The server URL must not contain a user or password; the key is the password field."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(
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
        raise ConfigurationError(
            f"{one_line(text)!r} cannot be part of a URL: it is neither an ID nor a file name.",
            parameter="upload_id",
        )
    return quote(text, safe="")
