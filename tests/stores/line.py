"""A proxy in front of a store: it counts requests, cuts connections, and refuses requests on demand."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from harness.processes import LOOPBACK

__all__ = ["Line", "http_requests", "no_requests", "smb_requests"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_BLOCK = 1 << 18
_HTTP_REQUEST = re.compile(rb"^(GET|HEAD|PUT|POST|DELETE|PATCH) (\S+) HTTP/1\.[01]\r$", re.MULTILINE)
_SMB_HEADER = re.compile(rb"\xfeSMB.{8}(..)", re.DOTALL)
_SMB_READ = 8


def http_requests(data: bytes) -> list[str]:
    """Return the HTTP requests that begin in a block of bytes: their method, a space, their target."""
    return [b" ".join(found).decode("latin-1") for found in _HTTP_REQUEST.findall(data)]


def smb_requests(data: bytes) -> list[str]:
    """Return the SMB2 requests that begin in a block, apart from reads: a read asks for a part of a file."""
    commands = [int.from_bytes(found, "little") for found in _SMB_HEADER.findall(data)]
    return [f"command {command}" for command in commands if command != _SMB_READ]


def no_requests(data: bytes) -> list[str]:
    """Return nothing: for a line that is encrypted."""
    return []


@dataclass
class _Refusal:
    part: str
    reply: bytes


class Line:
    """A proxy that passes bytes between clients and a server on loopback during the ``with`` block.

    :param port: the server's port.
    :param count: returns the requests that start in a block of bytes from a client.

    ``requests`` contains them in order, ``cuts`` counts the times that the line was cut.
    """

    def __init__(self, port: int, count: Callable[[bytes], list[str]]) -> None:
        self._target = (LOOPBACK, port)
        self._count = count
        self._lock = threading.Lock()
        self._refusals: list[_Refusal] = []
        self._closing = threading.Event()
        self._due: list[tuple[int, Callable[[], None]]] = []
        self._cut_number = 0
        self.requests: list[str] = []
        self.cuts = 0
        self._socket = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            # A thread in accept() does not notice that its socket is closed; it notices a shutdown.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def reset(self) -> None:
        """Reset the counts, and the calls, cuts and refusals that are still due."""
        with self._lock:
            self.requests.clear()
            self._refusals.clear()
            self._due.clear()
            self.cuts = 0

    def kinds(self) -> Counter[str]:
        """Return how many requests there were of each method."""
        return Counter(request.partition(" ")[0] for request in self.requests)

    def refuse(self, part: str, reply: bytes) -> None:
        """Answer each HTTP request whose target contains a text with another reply."""
        self._refusals.append(_Refusal(part, reply))

    def cut_after(self, *counts: int) -> None:
        """Reset every connection after this number of further bytes from the server, then after the next."""
        with self._lock:
            self._due = [(count, self.cut) for count in counts]

    def call_after(self, count: int, action: Callable[[], None]) -> None:
        """Call a function after this number of further bytes from the server; the last ones wait for it."""
        with self._lock:
            self._due = [(count, action)]

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            self.cuts += 1
            self._cut_number += 1

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._carry(client, server):
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _carry(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry bytes until one side is done; return whether the line was cut."""
        born = self._cut_number
        while not self._closing.is_set():
            readable, _, _ = select.select([client, server], [], [], 0.05)
            if self._cut_number != born:
                return True
            if server in readable:
                if not (data := server.recv(_BLOCK)):
                    return False
                self._pass(len(data))
                if self._cut_number != born:
                    return True
                client.sendall(data)
            if client in readable:
                if not (data := client.recv(_BLOCK)):
                    return False
                if reply := self._note(data):
                    client.sendall(reply)
                    time.sleep(0.05)
                    return False
                server.sendall(data)
        return False

    def _note(self, data: bytes) -> bytes:
        """Count the requests of a block; return the reply if one of them is refused."""
        requests = self._count(data)
        with self._lock:
            self.requests.extend(requests)
        for refusal in self._refusals:
            if any(refusal.part in request for request in requests):
                return refusal.reply
        return b""

    def _pass(self, count: int) -> None:
        """Count bytes from the server, and make the call that is due."""
        with self._lock:
            if not self._due:
                return
            left, action = self._due.pop(0)
            if left > count:
                self._due.insert(0, (left - count, action))
                return
        action()
