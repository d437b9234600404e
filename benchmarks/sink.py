"""A server that answers as in the contract, and discards the bytes as fast as this machine can.

Separate from the emulator, which stores the bytes and enforces every rule: this server must cost so little
that the figures are those of the clients.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from benchmarks.serving import listener, serve, talk_to_each

BLOCK_BYTES = 1024 * 1024
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
Reply = tuple[int, dict[str, Any]]


@dataclass
class File:
    received: int
    total: int

    @property
    def progress(self) -> dict[str, Any]:
        return {"received": self.received, "total": self.total, "complete": self.received == self.total}


@dataclass
class Request:
    method: str
    path: list[str]
    headers: dict[str, str]

    @property
    def length(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isdigit() else None


@dataclass
class Sink:
    """The rules that an upload needs; without limits, names or expiry."""

    sessions: dict[str, dict[str, File]] = field(default_factory=dict)

    def before_body(self, request: Request) -> Reply | None:
        """Return a refusal that does not depend on the body, or None."""
        if not request.headers.get("authorization", "").startswith("Bearer sk_"):
            return 401, {"error": "missing_bearer_token"}
        if request.method != "PUT":
            return None
        if request.path[1] not in self.sessions:
            return 404, {"error": "upload_session_not_found"}
        if request.length is None:
            return 411, {"error": "length_required"}
        return self._refused_range(request)

    def _refused_range(self, request: Request) -> Reply | None:
        text = request.headers.get("content-range")
        if text is None:
            return None
        match = RANGE.fullmatch(text)
        if not match:
            return 400, {"error": "invalid_content_range"}
        start, end, total = map(int, match.groups())
        if not start <= end < total:
            return 400, {"error": "invalid_content_range"}
        if end - start + 1 != request.length:
            return 400, {"error": "chunk_length_mismatch"}
        known = self.sessions[request.path[1]].get(request.path[2])
        received = known.received if known else 0
        if start > received:
            return 409, {"error": "non_contiguous_chunk", "received": received}
        return None

    def answer(self, request: Request) -> Reply:
        """Answer a request whose body has been read."""
        match request.method, request.path:
            case "POST", ["uploads"]:
                upload_id = secrets.token_urlsafe(6)
                self.sessions[upload_id] = {}
                return 201, {"upload_id": upload_id, "expires_in_seconds": 259200}
            case "POST", ["projects"]:
                return 201, {"name": secrets.token_urlsafe(6), "status": 0, "message": "processing_started"}
            case "DELETE", ["uploads", upload_id]:
                self.sessions.pop(upload_id, None)
                return 200, {"deleted": True}
            case "PUT" | "GET", ["uploads", upload_id, *_] if upload_id not in self.sessions:
                return 404, {"error": "upload_session_not_found"}
            case "PUT", ["uploads", upload_id, name]:
                return self._take(self.sessions[upload_id], name, request)
            case "GET", ["uploads", upload_id, name]:
                known = self.sessions[upload_id].get(name)
                return (200, known.progress) if known else (404, {"error": "file_not_found"})
            case "GET", ["uploads", upload_id]:
                files = self.sessions[upload_id]
                listed = [{"name": name, **file.progress} for name, file in files.items()]
                return 200, {"upload_id": upload_id, "files": listed}
        return 404, {"error": "not_found"}

    def _take(self, files: dict[str, File], name: str, request: Request) -> Reply:
        match = RANGE.fullmatch(request.headers.get("content-range", ""))
        length = request.length or 0
        file = files.setdefault(name, File(0, int(match.group(3)) if match else length))
        end = int(match.group(2)) + 1 if match else length
        file.received = max(file.received, min(end, file.total))
        return 200, file.progress


def talk(sink: Sink, connection: socket.socket) -> None:
    """Serve one connection until the client closes it."""
    scratch = memoryview(bytearray(BLOCK_BYTES))
    rest = b""
    while True:
        while b"\r\n\r\n" not in rest:
            more = connection.recv(65536)
            if not more:
                return
            rest += more
        head, _, rest = rest.partition(b"\r\n\r\n")
        request = parse(head)
        refusal = sink.before_body(request)
        if refusal and request.method == "PUT":
            send(connection, refusal, close=True)
            return
        if request.headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not discard(connection, (request.length or 0) - len(rest), scratch):
            return
        rest = b""  # no client here sends a request before the last reply
        send(connection, refusal or sink.answer(request))


def parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path = target.partition("?")[0].removeprefix("/api/v1").strip("/").split("/")
    return Request(method, path, headers)


def discard(connection: socket.socket, count: int, scratch: memoryview) -> bool:
    """Discard this number of bytes; return False if the client closes the connection first."""
    # With this flag Linux drops the bytes of a TCP socket in the kernel, without a copy. With TLS they must
    # still be decrypted.
    flags = 0 if isinstance(connection, ssl.SSLSocket) or sys.platform != "linux" else socket.MSG_TRUNC
    while count > 0:
        got = connection.recv_into(scratch, min(count, len(scratch)), flags)
        if not got:
            return False
        count -= got
    return True


def send(connection: socket.socket, reply: Reply, *, close: bool = False) -> None:
    status, content = reply
    body = json.dumps(content).encode()
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(["Connection: close"] if close else []),
    ]
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def main(arguments: Sequence[str]) -> None:
    sink = Sink()

    def plain(connection: socket.socket) -> None:
        talk(sink, connection)

    def over_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            talk(sink, inner)

    if arguments:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments)
    serve(listener(), lambda server: talk_to_each(server, over_tls if arguments else plain))


if __name__ == "__main__":
    main(sys.argv[1:])
