"""The sockets of the emulator: one that listens, and one per connection, each with a thread of its own.

This file is separate because ``socketserver`` alone cannot end connections that are open, which
tests depend on.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Listener"]


class Listener(socketserver.TCPServer):
    """Accept connections, serve each in a thread of its own, and end all of them when asked.

    :param address: host and port
    :param handler: makes the handler of one connection
    :param tls: serves https, where given
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[..., socketserver.BaseRequestHandler],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._tls = tls
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; a TLS handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a new thread."""
        thread = threading.Thread(
            target=self._serve_connection,
            args=(request, client_address),
            name="emulator-connection",
            daemon=True,
        )
        # A thread cannot take itself off the list: whoever closes has to wait for its very end.
        self._connections = {s: t for s, t in self._connections.items() if t.is_alive()}
        self._connections[request] = thread
        thread.start()

    def _serve_connection(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # The client has gone, which is its right.
        finally:
            self.shutdown_request(request)

    def end_connections(self) -> None:
        """End every connection and wait for its thread."""
        for connection, thread in self._connections.items():
            try:
                # Not SSLSocket.shutdown, which takes the TLS state away under the thread that is reading.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass
            thread.join(timeout=5)
