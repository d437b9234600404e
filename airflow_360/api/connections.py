"""Connections to one server: timeouts, kept or new connections, authentication.

Separate from the transport because these classes change how ``requests`` and ``urllib3`` send and read.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_360 import __version__

__all__ = ["ReplyTimeout", "new_session", "root_cause"]

log = logging.getLogger(__name__)

MAX_INTERIM_REPLIES = 20  # 1xx before one final reply
CLOSED_CONNECTION_ERRORS = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
IDLE_SECONDS = 1.0  # after this, a server may be closing a keep-alive connection
USER_AGENT = f"airflow-provider-360/{__version__}"


class _BearerAuth(AuthBase):
    """Sets the key on each request; an ``auth`` object, so that a netrc file cannot replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class ReplyTimeout(TimeoutError):  # noqa: N818 - a TimeoutError by another name
    """Raised when a request was sent, but its reply does not arrive in time."""


class _TimedReader(io.RawIOBase):
    """The bytes that arrive on a socket, until a deadline.

    A socket's own timeout restarts with each byte, so a server that sends one now and then could block a
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
            raise ReplyTimeout(f"timed out: nothing arrived for {self._silence:g} s")
        raise ReplyTimeout(f"timed out: the reply was not complete after {self._total:g} s")

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
    """A connection with a separate timeout for sending, and a deadline for each reply.

    The connect timeout would be too short to send one block of a body over a slow line. If the connection
    breaks after it was idle, after it served another request, or before a request was sent over it, the error
    says so.

    :param reply_timeout: see :class:`~airflow_360.api.transport.Transport`.
    :param send_timeout: see there.
    """

    _connecting = False
    _asked = 0.0
    _answered: float | None = None  # time of its last reply; None if there was none

    def __init__(self, *args: Any, reply_timeout: float, send_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reply_timeout = reply_timeout
        self._send_timeout = send_timeout

    def response_class(  # type: ignore[override] # as a class it could not know the connection's timeouts
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
            root_cause(error, outer).unsent = True  # type: ignore[attr-defined]
            raise
        finally:
            self._connecting = False
        self.sock.settimeout(self._send_timeout)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._asked = time.monotonic()
        if self.sock is not None:  # urllib3 resets a keep-alive connection to the connect timeout
            self.sock.settimeout(self._send_timeout)
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
        except CLOSED_CONNECTION_ERRORS as error:
            reused = self._answered is not None
            idle = self._answered is not None and self._asked - self._answered > IDLE_SECONDS
            error.reused, error.idle = reused, idle  # type: ignore[union-attr]
            raise


class _SlowSendTLSConnection(_SlowSendConnection, HTTPSConnection):
    """The same connection over TLS."""


class _SlowSendPool(HTTPConnectionPool):
    ConnectionCls = _SlowSendConnection


class _SlowSendTLSPool(HTTPSConnectionPool):
    ConnectionCls = _SlowSendTLSConnection


class _Adapter(HTTPAdapter):
    def __init__(self, timeouts: Mapping[str, float], **kwargs: Any) -> None:
        pools = {"http": _SlowSendPool, "https": _SlowSendTLSPool}
        self._pools = {scheme: partial(pool, **timeouts) for scheme, pool in pools.items()}
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


def new_session(
    key: str, user_agent: str, timeouts: Mapping[str, float], connections: int
) -> requests.Session:
    """Return an HTTP session that adds the key to each request, keeps no cookies and retries nothing.

    :param key: the API key.
    :param user_agent: text to add to the User-Agent.
    :param timeouts: ``reply_timeout`` and ``send_timeout`` of :class:`~airflow_360.api.transport.Transport`.
    :param connections: the number of connections that it keeps.
    """
    session = _Session()
    session.auth = _BearerAuth(key)
    session.headers["User-Agent"] = f"{USER_AGENT} {user_agent}".strip()
    session.headers["Accept-Encoding"] = "gzip"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(timeouts, pool_connections=1, pool_maxsize=connections, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def root_cause(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return the root cause of an error, but not an error that was already handled before the request."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not outer:
        error = inner
    return error
