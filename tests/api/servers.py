"""Servers that are no 360 server: one that keeps its connections, and one that drips."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

JSON_REPLY = (
    b'HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{"upload_id": "AAAAAAAA", "expires_in_seconds": 1}'
)


class KeepingServer:
    """A server that never closes a connection by itself, after any request, and counts the connections.

    :param reply: its answer, byte by byte.
    """

    def __init__(self, reply: bytes = JSON_REPLY) -> None:
        self.connections = 0
        self.reply = reply
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # A thread in accept() does not notice that its socket is closed; it notices a shutdown.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in (self._socket, *self._open):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                self.answer(connection)

    def answer(self, connection: socket.socket) -> None:
        """Answer one request."""
        connection.sendall(self.reply)


class DrippingServer(KeepingServer):
    """A server that sends the start of a reply, and then the same byte again and again.

    :param beginning: the start, sent immediately.
    :param drop: the byte that follows for ever.
    """

    def __init__(self, beginning: bytes, drop: bytes = b"x") -> None:
        self._closing = threading.Event()
        self._drop = drop
        super().__init__(beginning)

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        super().__exit__(*error)

    def answer(self, connection: socket.socket) -> None:
        """Drip until the client hangs up."""
        super().answer(connection)
        while not self._closing.wait(0.03):
            connection.sendall(self._drop)
