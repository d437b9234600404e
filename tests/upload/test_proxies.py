"""Servers and proxies that end connections: an upload arrives, or ends with a clear error and few bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.emulator import Emulator
from airflow_360.exceptions import UploadStalledError
from airflow_360.upload.engine import upload
from airflow_360.upload.many import Job, upload_many
from airflow_360.upload.ranges import ChunkSizer
from tests.fakes import MemorySource, Waits, client_for, held, requests_of, some_bytes
from tests.upload.proxies import CuttingProxy

KIB = 1 << 10
MIB = 1 << 20


class SlowSource(MemorySource):
    """A source whose first block takes longer than a server keeps its connections."""

    def open(self, offset: int) -> Any:
        time.sleep(0.03)
        return super().open(offset)


def client_of(proxy: CuttingProxy, **options: Any) -> Any:
    # The server needs a moment to notice that a connection behind the proxy is gone.
    return client_for(proxy.url, sleep=Waits(really=0.05), **options)


def test_a_server_that_closes_every_connection_after_an_answer() -> None:
    """After a PUT broke on a reused connection, the next ones open their own, in all threads."""
    sources = {f"{number}.e57": SlowSource(some_bytes(300 * KIB + number)) for number in range(12)}
    with Emulator() as emulator, CuttingProxy(emulator, seconds_after_answer=0.02) as proxy:
        client = client_of(proxy)
        upload_id = client.create_upload_session().upload_id
        jobs = [Job(name, source.size, lambda s=source: s) for name, source in sources.items()]  # type: ignore[misc]
        upload_many(client, upload_id, jobs, parallel=4, chunks=ChunkSizer(100 * KIB))
        for name, source in sources.items():
            assert held(emulator, upload_id, name) == source.data
        puts = len(requests_of(emulator, "PUT"))
    assert puts <= 4 * len(sources) + 3 * 4  # four chunks of each file, and broken requests at the start


def test_connections_are_reused_again_after_a_minute() -> None:
    """PUTs open their own connections for a while only."""
    with Emulator() as emulator, CuttingProxy(emulator) as proxy:
        client = client_of(proxy, no_reuse_seconds=3)
        upload_id = client.create_upload_session().upload_id
        emulator.faults.add({"on": "PUT /uploads/*/*", "do": "hang_up", "skip": 1})

        def connections(seconds: float) -> int:
            """Return how many connections an upload of four chunks opens."""
            time.sleep(seconds)
            before = proxy.connections
            name = f"{before}.e57"
            upload(client, upload_id, MemorySource(some_bytes(40)), name, chunks=ChunkSizer(10), ask=False)
            return proxy.connections - before

        connections(0)
        assert connections(0) >= 4
        assert connections(3.1) <= 1


def outcome(proxy: CuttingProxy, emulator: Emulator, source: MemorySource, chunk: int | None) -> str:
    client = client_of(proxy)
    upload_id = client.create_upload_session().upload_id
    try:
        upload(client, upload_id, source, "a.e57", chunks=ChunkSizer(chunk))
    except UploadStalledError:
        return "given up"
    assert held(emulator, upload_id, "a.e57") == source.data
    return "complete"


CUTS: dict[str, Callable[[Emulator], CuttingProxy]] = {
    "after 3 MiB": lambda emulator: CuttingProxy(emulator, request_bytes=3 * MIB),
    "after 300 KiB": lambda emulator: CuttingProxy(emulator, request_bytes=300 * KIB),
    "after 100 KiB": lambda emulator: CuttingProxy(emulator, request_bytes=100 * KIB),
    "after a moment": lambda emulator: CuttingProxy(emulator, request_seconds=0.1, bytes_a_second=30 * MIB),
}


@pytest.mark.parametrize("chunk", [None, 4 * MIB, 16 * MIB], ids=["adaptive", "4 MiB", "16 MiB"])
@pytest.mark.parametrize("keep", [True, False], ids=["cut bytes kept", "cut bytes lost"])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_proxy_that_ends_long_requests(
    cut: Callable[[Emulator], CuttingProxy], keep: bool, chunk: int | None
) -> None:
    """Chunks become small enough to pass, and the upload sends at most three times the file's bytes."""
    source = MemorySource(some_bytes(10 * MIB))
    with Emulator(keep_cut_bytes=keep) as emulator, cut(emulator) as proxy:
        assert outcome(proxy, emulator, source, chunk) == "complete"
        headers = 1000 * len(emulator.exchanges)
    assert proxy.cut
    assert proxy.sent - headers <= 3 * source.size


@pytest.mark.parametrize("chunk", [None, 4 * MIB], ids=["adaptive", "given"])
def test_a_proxy_that_lets_nothing_but_small_requests_through(chunk: int | None) -> None:
    """If only the small chunk after a break passes, the upload is given up after few bytes and waits."""
    source = MemorySource(some_bytes(20 * MIB))
    with Emulator(keep_cut_bytes=False) as emulator:
        with CuttingProxy(emulator, request_bytes=20 * KIB) as proxy:
            assert outcome(proxy, emulator, source, chunk) == "given up"
            assert proxy.sent <= 3 * source.size
        assert len(requests_of(emulator, "PUT")) <= 20


def test_a_size_that_passes_is_kept_for_other_files() -> None:
    """The task's other files use the limit of a proxy that one file has found."""
    source = MemorySource(some_bytes(20 * MIB))
    with Emulator(keep_cut_bytes=False) as emulator:
        with CuttingProxy(emulator, request_bytes=3 * MIB) as proxy:
            client = client_of(proxy)
            upload_id = client.create_upload_session().upload_id
            chunks = ChunkSizer(8 * MIB)
            upload(client, upload_id, source, "a.e57", chunks=chunks)
            learned = proxy.cut
            upload(client, upload_id, source, "b.e57", chunks=chunks)
            assert proxy.cut - learned <= 1
    assert learned >= 2


def test_what_is_sent_in_vain_is_bounded() -> None:
    """If a server loses the bytes, it gets three times the file's bytes, and then there is a clear error."""
    source = MemorySource(some_bytes(12 * MIB))
    with Emulator() as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id
        emulator.faults.add(
            {"on": "PUT /uploads/*/*", "do": "lose", "keep_bytes": 2 * MIB + 1, "skip": 1, "times": 50}
        )
        with pytest.raises(UploadStalledError, match="chunk_size") as raised:
            upload(client, upload_id, source, "a.e57", chunks=ChunkSizer(3 * MIB))
        assert sum(put.body_bytes for put in requests_of(emulator, "PUT")) <= 3 * source.size
    assert raised.value.retryable
    assert f"of {source.size:,} bytes" in str(raised.value)
