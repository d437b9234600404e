"""The servers that benchmarks measure against: they answer as the contract, and lose no byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    InvalidRequestError,
    OffsetMismatchError,
    UploadSessionNotFoundError,
)
from airflow_360.sources import Reader
from airflow_360.sources.s3 import S3Location
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from benchmarks.peers import guide, ours, raw
from benchmarks.serving import listener, started
from tests.fakes import MemorySource, certificate, client_for, outcome_of, some_bytes

SIZE = 300_000


@pytest.fixture(scope="module")
def sink() -> Iterator[str]:
    with started("benchmarks.sink") as port:
        yield f"http://127.0.0.1:{port}"


def test_the_sink_takes_a_file_in_chunks(sink: str) -> None:
    """The engine's chunks end in a complete file, which the sink lists, and drops on request."""
    client = client_for(sink)
    upload_id = client.create_upload_session().upload_id
    assert client.get_file_progress(upload_id, "scan.e57") is None
    progress = upload(
        client, upload_id, MemorySource(some_bytes(SIZE)), "scan.e57", chunks=ChunkSizer(65_536)
    )
    assert (progress.received, progress.total, progress.complete) == (SIZE, SIZE, True)
    assert [(file.name, file.received) for file in client.list_files(upload_id)] == [("scan.e57", SIZE)]
    client.delete_upload_session(upload_id)
    assert isinstance(outcome_of(lambda: client.list_files(upload_id)), UploadSessionNotFoundError)


def test_the_sink_takes_chunks_only_in_order(sink: str) -> None:
    """A gap is answered with the received bytes, an overlap is accepted, and the file ends complete."""
    client = client_for(sink)
    upload_id = client.create_upload_session().upload_id
    assert client.put_chunk(upload_id, "a.e57", bytes(100), "bytes 0-99/300").received == 100
    gap = outcome_of(lambda: client.put_chunk(upload_id, "a.e57", bytes(100), "bytes 150-249/300"))
    assert isinstance(gap, OffsetMismatchError)
    assert gap.received == 100
    assert client.put_chunk(upload_id, "a.e57", bytes(100), "bytes 50-149/300").received == 150
    assert client.put_chunk(upload_id, "a.e57", bytes(150), "bytes 150-299/300").complete


@pytest.mark.parametrize(
    ("content_range", "code"),
    [("bytes 0-98/300", "chunk_length_mismatch"), ("bytes 0-99/50", "invalid_content_range")],
)
def test_the_sink_refuses_wrong_ranges(sink: str, content_range: str, code: str) -> None:
    """A range that does not fit its body or its file is refused."""
    client = client_for(sink)
    upload_id = client.create_upload_session().upload_id
    refused = outcome_of(lambda: client.put_chunk(upload_id, "a.e57", bytes(100), content_range))
    assert isinstance(refused, InvalidRequestError)
    assert refused.code == code


def test_the_sink_wants_a_key(sink: str) -> None:
    """A key of another form is refused, and so is an unknown session."""
    refused = outcome_of(lambda: client_for(sink, key="other").create_upload_session())
    assert isinstance(refused, AuthenticationError)
    unknown = outcome_of(lambda: client_for(sink).put_file("none", "a.e57", b"x"))
    assert isinstance(unknown, ApiError)
    assert unknown.status == 404


@pytest.mark.parametrize("peer", [ours, guide, raw], ids=lambda peer: peer.__name__)
def test_a_peer_uploads_over_tls(tmp_path: Path, peer: Callable[[str, str, str, str], None]) -> None:
    """Each measured program ends with a complete file, also over TLS with its own certificate."""
    authority, key = certificate(tmp_path)
    path = tmp_path / "scan.e57"
    path.write_bytes(some_bytes(SIZE))
    with started("benchmarks.sink", authority, key) as port:
        server = f"https://127.0.0.1:{port}"
        client = client_for(server, verify=str(authority))
        upload_id = client.create_upload_session().upload_id
        peer(server, str(authority), upload_id, str(path))
        (held,) = client.list_files(upload_id)
    assert (held.received, held.complete) == (SIZE, True)


def test_the_objects_are_read_from_any_offset(tmp_path: Path) -> None:
    """An object has its file's bytes, from the offset that a GetObject names."""
    import boto3  # type: ignore[import-untyped]

    (tmp_path / "scan.e57").write_bytes(data := some_bytes(SIZE))
    with started("benchmarks.objects", tmp_path) as port:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        location = S3Location(client, "scans", "scan.e57")
        source = location.source(location.info())
        assert source.size == SIZE
        for offset in (0, 1, SIZE - 1):
            assert _all_of(source.open(offset)) == data[offset:]


def _all_of(reader: Reader) -> bytes:
    blocks = []
    while block := reader.read(100_000):
        blocks.append(block)
    reader.close()
    return b"".join(blocks)


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that reads each connection to its end, then sends everything back."""
    server = listener()
    threading.Thread(target=_echo, args=(server,), daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def test_the_line_is_never_faster_than_its_rate(echo: int) -> None:
    """Several connections share one rate, and each gets its own bytes back."""
    rate = 2_000_000
    sent = [some_bytes(SIZE + number) for number in range(3)]
    got: dict[int, bytes] = {}
    with started("benchmarks.link", echo, rate, 0) as port:
        threads = [
            threading.Thread(target=lambda n=n: got.update({n: _exchange(port, sent[n])})) for n in range(3)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        seconds = time.monotonic() - began
    assert [got[number] for number in range(3)] == sent
    assert seconds >= sum(map(len, sent)) / rate


def test_the_line_takes_its_round_trips(echo: int) -> None:
    """One byte to an echo takes a round trip to connect, and one there and back."""
    with started("benchmarks.link", echo, 1e9, 0.3) as port:
        began = time.monotonic()
        assert _exchange(port, b"x") == b"x"
        assert time.monotonic() - began >= 0.6


def test_the_line_waits_for_a_slow_reader(echo: int) -> None:
    """Bytes that a reader does not read yet are kept for it, in order."""
    data = some_bytes(16_000_000)
    with started("benchmarks.link", echo, 1e9, 0) as port:
        assert _exchange(port, data, pause=0.3) == data


def _exchange(port: int, data: bytes, pause: float = 0.0) -> bytes:
    """Send bytes, end the sending side, and return the bytes that come back until the other side ends.

    :param pause: seconds between the end of sending and the first byte that is read.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:

        def send() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        if pause:
            sender.join(30)
            time.sleep(pause)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        sender.join(30)
    return received


def _echo(server: socket.socket) -> None:
    def answer(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"".join(iter(lambda: connection.recv(65536), b"")))

    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()
