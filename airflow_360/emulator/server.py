"""The HTTP layer of the emulator: routes, headers, status codes, JSON, and the faults on a socket.

Separate so that it contains no rules: ``store.py`` decides which requests are allowed, and ``faults.py``
which faults happen. This module only reads requests and writes replies.
"""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airflow_360.emulator.faults import Fault
from airflow_360.emulator.site import Exchange, Site
from airflow_360.emulator.store import Refusal

__all__ = ["Handler"]

PREFIX = "/api/v1"
BUFFER_BYTES = 1 << 20
DRAIN_BYTES = 256 << 20
LINGER_SECONDS = 2.0

STATUS = {
    "chunk_length_mismatch": 400,
    "invalid_content_range": 400,
    "invalid_filename": 400,
    "invalid_upload_id": 400,
    "project_creation_failed": 400,
    "provide_either_upload_id_or_download_link": 400,
    "upload_id_or_download_link_required": 400,
    "invalid_api_key": 401,
    "missing_bearer_token": 401,
    "storage_quota_exceeded": 402,
    "insufficient_scope": 403,
    "file_not_found": 404,
    "not_found": 404,
    "project_not_found": 404,
    "upload_session_not_found": 404,
    "non_contiguous_chunk": 409,
    "length_required": 411,
    "file_too_large": 413,
    "session_too_large": 413,
    "extension_not_allowed": 415,
    "rate_limited": 429,
}

READ, WRITE = "projects:read", "projects:write"
#: The scope that a key needs for an endpoint; all other endpoints need the scope for writing.
SCOPES = {"get_project": READ, "list_projects": READ}

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PAGE = Path(__file__).with_name("page.html")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'",
    "Cache-Control": "no-store",
}
_WELCOME = "<!doctype html><title>Welcome</title><p>Please log in to this network.</p>"
_TOO_LARGE = "<html><head><title>413 Request Entity Too Large</title></head></html>"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


@dataclass(frozen=True)
class _Reply:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    cut: bool = False
    drip_seconds: float | None = None

    def encoded(self) -> tuple[bytes, str]:
        if self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return b"", "application/json"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html; charset=utf-8"
        return json.dumps(self.body if self.body is not None else {}).encode(), "application/json"


class _Hangup(Exception):  # noqa: N818 - a kind of answer, not a failure
    """Raised to end the connection without a reply, with a reset or a normal close."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


def _refused(refusal: Refusal) -> _Reply:
    detail = dict(refusal.detail)
    retry_after = detail.pop("retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return _Reply(STATUS[refusal.code], {"error": refusal.code, **detail}, headers)


def _content_range(header: str) -> tuple[int, int, int]:
    match = _CONTENT_RANGE.fullmatch(header.strip())
    start, end, total = map(int, match.groups()) if match else (0, 0, 0)
    if not start <= end < total:
        raise Refusal("invalid_content_range")
    return start, end - start + 1, total


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection.

    :param site: the objects that all connections share
    :param arguments: the arguments that ``socketserver`` passes to every handler
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, site: Site, *arguments: Any) -> None:
        self._site = site
        self._buffer: memoryview | None = None
        self._reused = False
        super().__init__(*arguments)

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        self._length = self._content_length()
        self._unread = self._length or 0
        self._fault: Fault | None = None
        self._exchange = Exchange(self.command, unquote(path.removeprefix(PREFIX)), self._site.clock())
        try:
            if path.startswith(PREFIX + "/"):
                self._serve_api(path.removeprefix(PREFIX))
            else:
                self._send(self._page(path))
        except _Hangup as hangup:
            self._hang_up(hangup.reset)
        finally:
            self._reused = True

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815 - http.server's names

    # -- the request

    def _content_length(self) -> int | None:
        header = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,18}", header):
            return None
        return int(header)

    def _serve_api(self, path: str) -> None:
        began = time.perf_counter()
        parts = [unquote(part) for part in path.removeprefix("/").split("/", 2)]
        endpoint, work = self._route(parts)
        if endpoint == "put_file":
            self._note_put(*parts[1:])
        self._site.record(self._exchange)
        self._fault, loss = self._site.faults.take(
            self.command, self._exchange.path, self._unread, self._reused
        )
        self._exchange.fault = "+".join(fault.do for fault in (self._fault, loss) if fault) or None
        try:
            try:
                reply = self._hit_by_fault(partial(self._obey, endpoint, work))
            finally:
                # Before the reply is sent, so that the next request finds the loss; this reply hides it.
                if loss and endpoint in ("put_file", "get_file_progress"):
                    self._lose(loss, *parts[1:])
            self._send(reply)
        finally:
            self._site.log(self._log_line(time.perf_counter() - began))

    def _route(self, parts: list[str]) -> tuple[str, Callable[[], _Reply]]:
        store = self._site.store
        match self.command, parts:
            case "POST", ["uploads"]:
                return "create_upload_session", lambda: _Reply(201, store.create_session())
            case "PUT", ["uploads", upload_id, filename]:
                return "put_file", lambda: self._put_file(upload_id, filename)
            case "GET", ["uploads", upload_id, filename]:
                return "get_file_progress", lambda: _Reply(200, store.get_file(upload_id, filename))
            case "GET", ["uploads", upload_id]:
                return "list_files", lambda: _Reply(200, store.list_files(upload_id))
            case "DELETE", ["uploads", upload_id]:
                return "delete_upload_session", lambda: _Reply(200, store.delete_session(upload_id))
            case "POST", ["projects"]:
                return "create_project", self._create_project
            case "GET", ["projects"]:
                return "list_projects", lambda: _Reply(200, store.list_projects())
            case "GET", ["projects", name]:
                return "get_project", lambda: _Reply(200, store.get_project(name))
        return "", lambda: _refused(Refusal("not_found"))

    def _obey(self, endpoint: str, work: Callable[[], _Reply]) -> _Reply:
        if self._site.max_body_bytes is not None and self._unread > self._site.max_body_bytes:
            return _Reply(413, _TOO_LARGE, close=self._site.proxy_closes)
        try:
            wait = self._site.limiter.spend(self._key(SCOPES.get(endpoint, WRITE)), endpoint)
            if wait:
                raise Refusal("rate_limited", retry_after=wait)
            return work()
        except Refusal as refusal:
            return _refused(refusal)

    def _key(self, scope: str) -> str:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal("missing_bearer_token")
        keys = self._site.keys
        if not key.startswith("sk_") or (keys is not None and key not in keys):
            raise Refusal("invalid_api_key")
        if keys is not None and scope not in keys[key]:
            raise Refusal("insufficient_scope")
        self._exchange.key_ok = True
        return key

    def _note_put(self, upload_id: str, filename: str) -> None:
        try:
            self._exchange.start = self._range()[0]
        except Refusal:
            pass
        self._exchange.received_before = self._site.store.received(upload_id, filename)
        if self.headers.get("Content-Type") != "application/octet-stream":
            self._site.store.violations.append(
                f"a PUT of {upload_id}/{filename} without Content-Type: application/octet-stream"
            )

    def _range(self) -> tuple[int, int, int]:
        if self._length is None:
            raise Refusal("length_required")
        header = self.headers.get("Content-Range")
        return (0, self._length, self._length) if header is None else _content_range(header)

    def _put_file(self, upload_id: str, filename: str) -> _Reply:
        start, length, total = self._range()
        if length != self._length:
            raise Refusal("chunk_length_mismatch")
        writing = self._site.store.begin_put(
            upload_id, filename, start=start, total=total, abandoned=self._abandoned
        )
        try:
            for data in self._body():
                writing.write(data)
        except BaseException:
            writing.end(keep=self._keep_cut_bytes())
            raise
        return _Reply(200, writing.end())

    def _create_project(self) -> _Reply:
        try:
            fields = json.loads(b"".join(map(bytes, self._body())))
        except (ValueError, RecursionError):
            fields = None
        return _Reply(201, self._site.store.create_project(fields if isinstance(fields, dict) else {}))

    def _body(self) -> Iterator[memoryview]:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        while self._bytes_until_reset() and self._unread:
            count = self._read_into(self._buffer[: min(self._unread, self._bytes_until_reset())])
            self._unread -= count
            self._exchange.body_bytes += count
            yield self._buffer[:count]

    def _read_into(self, room: memoryview) -> int:
        try:
            count = self.rfile.readinto1(room)
        except OSError:
            count = 0
        if not count:
            raise _Hangup
        return int(count)

    def _drain(self) -> None:
        for _ in self._body():
            pass

    def _abandoned(self) -> bool:
        poll = select.poll()
        poll.register(self.connection, _PEER_CLOSED)
        return bool(poll.poll(0))

    # -- the faults

    def _hit_by_fault(self, work: Callable[[], _Reply]) -> _Reply:
        match self._fault:
            case None:
                return work()
            case Fault(do="status") as fault:
                if fault.when == "after_body":
                    self._in_full(work)
                self._site.faults.happened(fault)
                return _Reply(fault.status, fault.body, fault.headers, fault.close)
            case Fault(do="rate_limit") as fault:
                self._site.faults.happened(fault)
                return _refused(Refusal("rate_limited", retry_after=fault.retry_after))
            case Fault(do="stall", when="before_body") as fault:
                self._stall(fault)
                return work()
            case Fault(do="stall") as fault:
                reply = self._in_full(work)
                self._stall(fault)
                return reply
            case Fault(do="lost_reply") as fault:
                self._in_full(work)
                self._site.faults.happened(fault)
                raise _Hangup
            case Fault(do="hang_up") as fault:
                self._site.faults.happened(fault)
                raise _Hangup(reset=fault.rst)
            case Fault(do="truncate") as fault:
                reply = self._in_full(work)
                self._site.faults.happened(fault)
                return replace(reply, cut=True)
            case Fault(do="drip") as fault:
                reply = self._in_full(work)
                self._site.faults.happened(fault)
                return replace(reply, drip_seconds=fault.seconds)
            case Fault(do="garbage") as fault:
                self._in_full(work)
                self._site.faults.happened(fault)
                return _Reply(200, _WELCOME if fault.body is None else fault.body)
            case Fault(do="alter") as fault:
                reply = self._in_full(work)
                if reply.status >= 400:
                    return reply
                self._site.faults.happened(fault)
                return replace(reply, body={**reply.body, **fault.fields})
            case Fault() as fault:
                # A reset happens while the body is read, or right now if no byte of it should be read.
                if fault.after_bytes == 0:
                    self._bytes_until_reset()
                return self._in_full(work)

    def _in_full(self, work: Callable[[], _Reply]) -> _Reply:
        reply = work()
        self._drain()
        return reply

    def _lose(self, fault: Fault, upload_id: str, filename: str) -> None:
        lost = self._site.store.lose(
            upload_id,
            filename,
            keep_bytes=fault.keep_bytes,
            forget=fault.forget,
            spare_complete=fault.spare_complete,
        )
        if lost is not None:
            self._exchange.lost_bytes = lost
            self._site.faults.happened(fault)

    def _stall(self, fault: Fault) -> None:
        self._site.faults.happened(fault)
        # If the client no longer waits for this request, it must not be carried out beside the next one.
        if self._site.closing.wait(fault.seconds) or self._abandoned():
            raise _Hangup

    def _bytes_until_reset(self) -> int:
        fault = self._fault
        if fault is None or fault.do != "reset":
            return BUFFER_BYTES
        if self._exchange.body_bytes == fault.after_bytes:
            self._site.faults.happened(fault)
            raise _Hangup(reset=True)
        return fault.after_bytes - self._exchange.body_bytes

    def _keep_cut_bytes(self) -> bool:
        if self._fault is None or self._fault.keep is None:
            return self._site.store.keep_cut_bytes
        return self._fault.keep

    # -- the reply

    def _send(self, reply: _Reply) -> None:
        endless = "Transfer-Encoding" in self.headers or self._unread > DRAIN_BYTES
        if not (endless or reply.close):
            self._drain()
        if endless or reply.close:
            self.close_connection = True
        self._exchange.status = reply.status
        body, content_type = reply.encoded()
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Date": formatdate(self._site.clock(), usegmt=True),
            **reply.headers,
        }
        if self.close_connection:
            headers["Connection"] = "close"
        status_line = f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}"
        head = [status_line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        if reply.cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        try:
            self._write("\r\n".join(head).encode("latin-1", "replace") + body, reply.drip_seconds)
            if endless and not reply.close:
                self._linger()
        except OSError:
            self.close_connection = True

    def _write(self, data: bytes, drip_seconds: float | None) -> None:
        if drip_seconds is None:
            self.wfile.write(data)
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self._site.closing.wait(drip_seconds) or self._abandoned():
                self.close_connection = True
                return

    def _linger(self) -> None:
        # Closing while the client still sends would reset the connection, and the reply would be lost.
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER_SECONDS)
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until and self.connection.recv(BUFFER_BYTES):
            pass

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Immediately: the normal shutdown that socketserver does later would send a FIN first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.rfile.close()
            self.connection.close()

    def _page(self, path: str) -> _Reply:
        if path == "/state.json":
            return _Reply(200, self._site.store.state(), {"Cache-Control": "no-store"})
        name = unquote(path).removeprefix("/projects/")
        if path == "/" or name in self._site.store.projects:
            return _Reply(200, _PAGE.read_text("utf-8"), _PAGE_HEADERS)
        return _Reply(404, "<!doctype html><title>Not found</title><p>There is no such page here.</p>")

    def _log_line(self, seconds: float) -> str:
        exchange = self._exchange
        words = [self.command, self.path.partition("?")[0], self.headers.get("Content-Range", "")]
        words += [str(exchange.status or "no reply"), f"{exchange.body_bytes} bytes"]
        words += [f"{1000 * seconds:.1f} ms", f"({exchange.fault})" if exchange.fault else ""]
        return " ".join(word for word in words if word)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Print nothing: the emulator's own log has one line per request."""
