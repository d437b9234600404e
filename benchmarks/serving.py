"""Servers as child processes that end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from harness.processes import LOOPBACK, clean_environment

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100,PTH120 - light to start


def listener() -> socket.socket:
    """Return a socket that listens on a free loopback port."""
    return socket.create_server((LOOPBACK, 0), backlog=128)


def serve(server: socket.socket, loop: Callable[[socket.socket], None]) -> None:
    """Print the port, and serve until the parent process closes our standard input or ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.getsockname()[1], flush=True)
    loop(server)


def talk_to_each(server: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    """Serve every connection in its own thread; ignore connections that the client breaks off."""
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(talk, connection), daemon=True).start()


def _talk(talk: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        talk(connection)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


@contextlib.contextmanager
def started(module: str, *arguments: object) -> Iterator[int]:
    """Run ``python -m module`` while the block runs, and yield the port that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env=clean_environment({}),
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"{module} did not start: it said {line!r}.")
        yield int(line)
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
