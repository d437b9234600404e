"""Servers as child processes that end with the process that started them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from demo.processes import LOOPBACK, clean_environment

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100,PTH120 - light to start


def listener() -> socket.socket:
    """Return a socket that listens on a free loopback port."""
    return socket.create_server((LOOPBACK, 0), backlog=128)


def serve(server: socket.socket, loop: Callable[[socket.socket], None]) -> None:
    """Say on which port, and serve until the starting process closes our standard input, or ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.getsockname()[1], flush=True)
    loop(server)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


@contextmanager
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
