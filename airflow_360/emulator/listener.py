"""The sockets of the emulator: one that listens, and one per connection, each with its own thread.

Separate because tests must be able to end open connections, which ``socketserver`` alone cannot do.
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
    """A server that serves each connection in its own thread and can end all connections.

    :param address: host and port
    :param handler: creates the handler of one connection
    :param tls: the settings for https; None serves http
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
        """Accept a connection; the connection's own thread does the TLS handshake."""
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
        # A thread cannot remove itself from the list, because end_connections must wait until it has ended.
        self._connections = {s: t for s, t in self._connections.items() if t.is_alive()}
        self._connections[request] = thread
        thread.start()

    def _serve_connection(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # The client has closed the connection, as it may.
        finally:
            self.shutdown_request(request)

    def end_connections(self) -> None:
        """End every connection and wait for its thread."""
        for connection, thread in self._connections.items():
            try:
                # Not SSLSocket.shutdown, which removes the TLS state while the connection's thread reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass
            thread.join(timeout=5)
