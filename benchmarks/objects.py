"""The files of a folder as objects of an S3, as far as one streaming GetObject needs.

Separate from the local S3 of the demo, which keeps whole objects in memory and copies them for each request
with a range: the benchmark would measure these copies.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.serving import listener, serve, talk_to_each
from benchmarks.sink import Request, parse

ETAG = '"00000000000000000000000000000000"'


def talk(folder: Path, connection: socket.socket) -> None:
    """Serve one connection until the client closes it."""
    rest = b""
    while True:
        while b"\r\n\r\n" not in rest:
            more = connection.recv(65536)
            if not more:
                return
            rest += more
        head, _, rest = rest.partition(b"\r\n\r\n")
        answer(folder, connection, parse(head))


def answer(folder: Path, connection: socket.socket, request: Request) -> None:
    path = folder / request.path[-1]
    if not path.is_file():
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    size = path.stat().st_size
    first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or size - 1), size - 1) + 1
    lines = [
        "HTTP/1.1 206 Partial Content" if "range" in request.headers else "HTTP/1.1 200 OK",
        f"Content-Length: {end - start}",
        f"Content-Range: bytes {start}-{end - 1}/{size}",
        f"ETag: {ETAG}",
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
        "Content-Type: application/octet-stream",
    ]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    if request.method == "GET":
        with path.open("rb") as file:
            connection.sendfile(file, start, end - start)


def main(arguments: Sequence[str]) -> None:
    (folder,) = arguments
    serve(listener(), lambda server: talk_to_each(server, partial(talk, Path(folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
