"""The shared helpers of the core's tests: recorders and fakes, never a mock.

The client's server is the emulator, on a real port. These helpers replace the rest: time, sources of bytes,
and other servers (a proxy, an unrelated web server).
"""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import random
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_360.api.backoff import Backoff
from airflow_360.api.budget import RequestBudget
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.emulator import Emulator, Exchange
from airflow_360.exceptions import SourceChangedError, SourceError

KEY = "sk_not_a_real_key"


class Waits(list[float]):
    """A replacement for ``time.sleep`` that records the length of each wait.

    :param really: seconds that each wait takes. Needed if a client closes the connection in the middle of
       megabytes: without a wait, the client would be back while its server still reads them.
    """

    def __init__(self, really: float = 0.0) -> None:
        super().__init__()
        self._really = really

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
        time.sleep(self._really)


class Steps:
    """A clock that advances with each reading.

    :param steps: seconds between two readings; the last one applies to all further ones.
    """

    def __init__(self, *steps: float) -> None:
        self._steps = list(steps)
        self.now = 0.0

    def __call__(self) -> float:
        now, self.now = self.now, self.now + self._steps[0]
        if len(self._steps) > 1:
            self._steps.pop(0)
        return now


def client_for(
    server: Emulator | str,
    *,
    key: str = KEY,
    verify: bool | str = True,
    connect_timeout: float = 5.0,
    read_timeout: float = 10.0,
    send_timeout: float = 120.0,
    user_agent: str = "",
    budget: RequestBudget | None = None,
    no_reuse_seconds: float = 60.0,
    **backoff: Any,
) -> ThreeSixtyClient:
    """Return a client of an emulator, or of any URL, that never really waits.

    :param backoff: fields of :class:`Backoff`; ``sleep`` is a recorder by default.
    """
    transport = Transport(
        server.url if isinstance(server, Emulator) else server,
        key,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        send_timeout=send_timeout,
        verify=verify,
        user_agent=user_agent,
        budget=budget,
        no_reuse_seconds=no_reuse_seconds,
    )
    return ThreeSixtyClient(transport, Backoff(**{"sleep": Waits(), **backoff}))


# -- the emulator and its requests


@contextmanager
def strict_emulator(**settings: Any) -> Iterator[Emulator]:
    """Run an emulator, and fail if a scripted fault did not happen or a client violated the contract."""
    with Emulator(**settings) as emulator:
        yield emulator
        assert emulator.faults.unused() == []
        assert emulator.violations == []


def held(emulator: Emulator, upload_id: str, filename: str) -> bytes:
    """Return the bytes of a file on the emulator."""
    return emulator.store.file_path(upload_id, filename).read_bytes()


def requests_of(emulator: Emulator, method: str, ending: str = "") -> list[Exchange]:
    """Return the requests of one method, perhaps only those whose path ends in some way."""
    return [e for e in emulator.exchanges if e.method == method and e.path.endswith(ending)]


def methods(emulator: Emulator) -> list[str]:
    """Return the method of each request, in order of arrival, without the one that opened the session."""
    return [e.method for e in emulator.exchanges if e.path != "/uploads"]


# -- sources


def some_bytes(size: int) -> bytes:
    """Return bytes without repetitions, the same ones each time."""
    return random.Random(size).randbytes(size)


class MemorySource:
    """Bytes in memory that record how they were read.

    :param data: the bytes.
    :param size: the size that the source reports; by default that of the bytes.

    A test sets ``changed`` to make the source report, when it is checked, that its bytes have changed.
    """

    fingerprint = "memory"

    def __init__(self, data: bytes, *, size: int | None = None, path: str = "scans/scan.e57") -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.path = path
        self.changed = False
        self.checked = 0
        self.opened: list[int] = []
        self.largest_read = 0
        self.open_readers = 0

    def open(self, offset: int) -> _MemoryReader:
        self.opened.append(offset)
        self.open_readers += 1
        return _MemoryReader(self, offset)

    def check(self) -> None:
        self.checked += 1
        if self.changed:
            raise SourceChangedError(f"{self.path} changed")


class _MemoryReader:
    def __init__(self, source: MemorySource, offset: int) -> None:
        self.source = source
        self.offset = offset

    def read(self, size: int, /) -> bytes:
        self.source.largest_read = max(self.source.largest_read, size)
        block = self.source.data[self.offset : self.offset + size]
        self.offset += len(block)
        return block

    def close(self) -> None:
        self.source.open_readers -= 1


class HiccupSource(MemorySource):
    """A source whose first readers break for good at an offset, as a connection to a store does.

    :param at: the offset; every further read of the same reader fails too.
    :param readers: how many readers break; later ones do not.
    """

    def __init__(self, data: bytes, *, at: int, readers: int = 1, retryable: bool = True) -> None:
        super().__init__(data)
        self.at = at
        self.readers = readers
        self.retryable = retryable

    def open(self, offset: int) -> _MemoryReader:
        reader = super().open(offset)
        return _BreakingReader(self, offset) if len(self.opened) <= self.readers else reader


class _BreakingReader(_MemoryReader):
    source: HiccupSource

    def read(self, size: int, /) -> bytes:
        if self.offset >= self.source.at:
            raise SourceError("the store hung up", path=self.source.path, retryable=self.source.retryable)
        return super().read(min(size, self.source.at - self.offset))


class Sized:
    """A body as the transport wants it: blocks, and the length of all of them together."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)


# -- servers that are no 360 server


def http_reply(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole HTTP reply as raw bytes; a body that is not a text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    lines = {"Content-Length": str(len(text.encode())), "Connection": "close", **(headers or {})}
    head = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in lines.items()), "", text]
    return "\r\n".join(head).encode()


@dataclass(frozen=True)
class Heard:
    """One request that a recorder received."""

    method: str
    target: str
    headers: Mapping[str, str]
    names: Sequence[str]  # of its headers, each as often as it came
    body: bytes


class Recorder:
    """A web server that records its requests and always gives the same reply; also a proxy that tunnels.

    :param reply: its reply, byte by byte.
    :param tunnel_to: the end of all tunnels, for any requested host.
    """

    def __init__(self, reply: bytes | None = None, *, tunnel_to: Emulator | None = None) -> None:
        self.heard: list[Heard] = []
        self._tunnel_to = tunnel_to
        self._reply = reply or http_reply(200, {})
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _serve(self) -> None:
                self._note()
                self.wfile.write(recorder._reply)
                self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

            def do_CONNECT(self) -> None:
                self._note()
                assert recorder._tunnel_to
                address = urlsplit(recorder._tunnel_to.url)
                with socket.create_connection((address.hostname, address.port)) as target:
                    self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                    _pump(self.connection, target)
                self.close_connection = True

            def _note(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = dict(self.headers.items())
                recorder.heard.append(Heard(self.command, self.path, headers, self.headers.keys(), body))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        return Handler


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side is done."""
    ways = {one: other, other: one}
    while True:
        readable, _, _ = select.select(list(ways), [], [])
        for end in readable:
            try:
                data = end.recv(65536)
            except OSError:
                data = b""
            if not data:
                return
            ways[end].sendall(data)


def certificate(folder: Path, host: str = "localhost") -> tuple[Path, Path]:
    """Write a certificate for loopback and a host that vouches for itself, and its key; return the paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(host)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def outcome_of(call: Callable[[], object]) -> object:
    """Return the result of a call, or the error that it raised."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error
