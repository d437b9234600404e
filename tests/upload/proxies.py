"""A proxy before the emulator that ends connections while they are used."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Self
from urllib.parse import urlsplit

from airflow_360.emulator import Emulator

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CuttingProxy:
    """A proxy between clients and an emulator that resets both connections at a limit.

    :param emulator: the server behind it.
    :param request_bytes: resets once a request has more bytes, headers included.
    :param request_seconds: resets once a request has taken longer; at the rate of the line, on any machine.
    :param seconds_after_answer: resets so long after the first bytes of an answer, with any further bytes.
    :param bytes_a_second: the rate of the line to the server; None for no limit.

    ``sent`` counts the bytes that clients sent, ``cut`` the connections that were reset.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        request_bytes: float = float("inf"),
        request_seconds: float = float("inf"),
        seconds_after_answer: float = float("inf"),
        bytes_a_second: float | None = None,
    ) -> None:
        self.sent = self.cut = self.connections = 0
        self._limits = (request_bytes, request_seconds, seconds_after_answer)
        self._rate = bytes_a_second
        address = urlsplit(emulator.url)
        self._server = (address.hostname or "", address.port or 0)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        # A thread in accept() does not notice that its socket is closed; it notices a shutdown.
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._carry(client, server):
                with self._lock:
                    self.cut += 1
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _carry(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry bytes until one side is done; return whether a limit was reached before."""
        most_bytes, most_seconds, after_answer = self._limits
        carried, answered = 0, float("inf")
        while not self._closing.is_set():
            seconds = carried / self._rate if self._rate else 0.0
            if carried > most_bytes or seconds > most_seconds or time.monotonic() > answered:
                return True
            readable, _, _ = select.select([client, server], [], [], 0.005)
            if server in readable:
                if not (data := server.recv(65536)):
                    return False
                client.sendall(data)
                carried, answered = 0, min(answered, time.monotonic() + after_answer)
            elif client in readable:
                if not (data := client.recv(65536)):
                    return False
                carried += len(data)
                with self._lock:
                    self.sent += len(data)
                if carried <= most_bytes:
                    server.sendall(data)
                if self._rate:
                    time.sleep(len(data) / self._rate)
        return False
