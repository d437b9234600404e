"""The limit on bytes a second: its arithmetic on a virtual clock, and once for real."""

from __future__ import annotations

import time

import pytest

from airflow_360.api.bandwidth import Bandwidth, shared_bandwidth
from airflow_360.emulator import Emulator
from airflow_360.upload.engine import upload
from tests.fakes import MemorySource, client_for, held, some_bytes

MIB = 1 << 20


class VirtualTime:
    """A clock that only waits, and the test itself, move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def limited(limit: float) -> tuple[Bandwidth, VirtualTime]:
    time = VirtualTime()
    return Bandwidth(limit, clock=time.clock, sleep=time.sleep), time


@pytest.mark.parametrize("limit", [10_000, MIB, 500 * MIB], ids=["10 kB/s", "1 MiB/s", "500 MiB/s"])
@pytest.mark.parametrize("pause", [0.0, 0.1], ids=["no pauses", "a round trip every 5 s"])
def test_as_much_is_sent_as_the_limit_allows(limit: float, pause: float) -> None:
    """Over a minute as much is sent as the limit allows, within 5 %, also with pauses between chunks."""
    bandwidth, time = limited(limit)
    began, sent, paused = time.now, 0, time.now
    while time.now < began + 60:
        bandwidth.wait(bandwidth.block)
        sent += bandwidth.block
        if time.now - paused > 5:
            paused = time.now = time.now + pause
    assert 0.95 * limit <= sent / (time.now - began) <= 1.05 * limit


def test_no_burst_after_idling() -> None:
    """After an hour without anything to send no more than a quarter of a second is caught up with."""
    bandwidth, time = limited(1000)
    time.now += 3600
    began, sent = time.now, 0
    while time.now == began:
        bandwidth.wait(10)
        sent += 10
    assert sent <= 260 + 10


def test_a_slow_line_is_not_made_slower() -> None:
    """A sender below the limit never waits."""
    bandwidth, time = limited(1000)
    for _ in range(100):
        before = time.now
        bandwidth.wait(50)
        assert time.now == before
        time.now += 0.1


def test_turns_are_short() -> None:
    """A block takes a tenth of a second of the line, so that no connection seems dead to the server."""
    bandwidth, time = limited(MIB)
    began = time.now
    for _ in range(11):
        bandwidth.wait(bandwidth.block)
    assert time.now - began == pytest.approx(1.0, rel=0.01)


def test_clients_of_one_server_share_a_limit() -> None:
    """All clients of a server share one limit in a process, and those of another server have their own."""
    one = shared_bandwidth("http://127.0.0.1:1", 1000.0)
    assert shared_bandwidth("http://127.0.0.1:1", 1000.0) is one
    assert shared_bandwidth("http://127.0.0.1:2", 1000.0) is not one


def test_an_upload_is_held_back(emulator: Emulator) -> None:
    """An upload arrives whole and takes the time that its limit asks for, in blocks no larger than a turn."""
    client = client_for(emulator)
    client.bandwidth = Bandwidth(2 * MIB)
    upload_id = client.create_upload_session().upload_id
    source = MemorySource(some_bytes(2 * MIB))
    began = time.monotonic()
    upload(client, upload_id, source, "scan.e57")
    assert time.monotonic() - began >= 0.95 * (1 - 0.1 - 0.25)  # the first turn and the credit take no time
    assert source.largest_read == client.bandwidth.block
    assert held(emulator, upload_id, "scan.e57") == source.data
