"""How each kind of fault looks to a client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

import pytest

from airflow_360.emulator import Emulator
from tests.emulator.raw import OCTETS, Raw

ON = "PUT /uploads/*/a.e57"


@pytest.fixture
def upload_id(raw: Raw, emulator: Emulator) -> Iterator[str]:
    yield raw.session()
    assert emulator.faults.unused() == []
    assert emulator.violations == []


def test_status_before_body(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A status before the body stores nothing, and the connection can be used again."""
    emulator.faults.add({"on": ON, "do": "status", "status": 503, "times": 2})
    assert [raw.whole(upload_id, "a.e57", b"abc").status for _ in range(3)] == [503, 503, 200]
    assert [e.received_before for e in emulator.exchanges[-3:]] == [0, 0, 0]


def test_status_after_body(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A status after the body comes although the bytes were stored."""
    emulator.faults.add({"on": ON, "do": "status", "status": 502, "when": "after_body"})
    assert raw.whole(upload_id, "a.e57", b"abc").status == 502
    assert raw.received(upload_id, "a.e57") == 3


def test_other_bodies(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reply can have any status, headers, and a body that is JSON or not."""
    emulator.faults.add(
        {"on": ON, "do": "status", "status": 200, "body": "<h1>Welcome</h1>"},
        {"on": ON, "do": "status", "status": 302, "headers": {"Location": "/login"}, "body": {"a": 1}},
        {"on": ON, "do": "status", "status": 204},
        {"on": ON, "do": "status", "status": 599, "body": [1]},
    )
    html, moved, empty, odd = [raw.whole(upload_id, "a.e57", b"abc") for _ in range(4)]
    assert (html.status, html.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert html.text == "<h1>Welcome</h1>"
    assert (moved.status, moved.headers["Location"], moved.json) == (302, "/login", {"a": 1})
    assert (empty.status, empty.text) == (204, "")
    assert (odd.status, odd.json) == (599, [1])


def test_truncated_reply(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reply that is shorter than it says can be scripted with a header and ``close``."""
    fault = {"on": ON, "do": "status", "status": 200, "when": "after_body", "close": True}
    emulator.faults.add({**fault, "headers": {"Content-Length": "999"}, "body": {"received": 3}})
    with pytest.raises(http.client.IncompleteRead):
        raw.whole(upload_id, "a.e57", b"abc")


def test_early_close(emulator: Emulator, raw: Raw, upload_id: str) -> None:
    """A refusal that closes at once does not wait for the body."""
    emulator.faults.add({"on": ON, "do": "status", "status": 413, "close": True})
    with Raw(emulator) as other:
        other.http.putrequest("PUT", f"/api/v1/uploads/{upload_id}/a.e57")
        for name, value in {**other.authorization, **OCTETS, "Content-Length": "100000000"}.items():
            other.http.putheader(name, value)
        other.http.endheaders()
        connection = other.http.sock
        assert other.http.getresponse().status == 413
        with pytest.raises(OSError):
            connection.sendall(bytes(100_000_000))


@pytest.mark.parametrize(("keep", "received"), [(None, 1000), (True, 1000), (False, 0)])
def test_reset(raw: Raw, emulator: Emulator, upload_id: str, keep: bool | None, received: int) -> None:
    """A reset in the middle of the body is a real one, and keeps exactly as many bytes as it says."""
    fault = {"on": ON, "do": "reset", "after_bytes": 1000}
    emulator.faults.add(fault if keep is None else {**fault, "keep": keep})
    with pytest.raises(ConnectionResetError):
        raw.whole(upload_id, "a.e57", bytes(5000))
    raw.http.close()
    assert raw.received(upload_id, "a.e57") == received
    assert [e.status for e in emulator.exchanges if e.fault] == [None]


def test_reset_at_once(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reset after no bytes carries nothing out, whatever the method."""
    emulator.faults.add({"on": "POST /uploads", "do": "reset"}, {"on": ON, "do": "reset"})
    for call in (lambda: raw.session(), lambda: raw.whole(upload_id, "a.e57", b"abc")):
        with pytest.raises(ConnectionError):
            call()
        raw.http.close()
    assert len(emulator.store.sessions) == 1
    assert emulator.store.sessions[upload_id].files == {}


def test_reset_after_all(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reset after the last byte leaves a complete file and no reply."""
    emulator.faults.add({"on": ON, "do": "reset", "after_bytes": 3})
    with pytest.raises(ConnectionError):
        raw.whole(upload_id, "a.e57", b"abc")
    raw.http.close()
    assert raw.received(upload_id, "a.e57") == 3


def test_lost_reply(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A lost reply is lost after everything was carried out."""
    emulator.faults.add({"on": ON, "do": "lost_reply"}, {"on": "POST /projects", "do": "lost_reply"})
    with pytest.raises(http.client.RemoteDisconnected):
        raw.whole(upload_id, "a.e57", b"abc")
    with pytest.raises(http.client.RemoteDisconnected):
        raw.call("POST", "/projects", {"upload_id": upload_id})
    assert list(emulator.store.projects) == [upload_id]


@pytest.mark.parametrize("when", ["before_body", "after_body"])
def test_stall(raw: Raw, emulator: Emulator, upload_id: str, when: str) -> None:
    """A stall delays the reply, which then comes as if nothing had happened."""
    emulator.faults.add({"on": ON, "do": "stall", "seconds": 0.2, "when": when})
    began = time.monotonic()
    assert raw.whole(upload_id, "a.e57", b"abc").json["complete"]
    assert time.monotonic() - began >= 0.2


def test_stalled_request_does_not_come_back(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A request that its sender gave up during a stall is not carried out afterwards."""
    emulator.faults.add({"on": ON, "do": "stall", "seconds": 0.2, "when": "before_body"})
    with Raw(emulator) as impatient:
        impatient.http.timeout = 0.05
        with pytest.raises(TimeoutError):
            impatient.whole(upload_id, "a.e57", b"abc")
    time.sleep(0.3)
    assert emulator.store.sessions[upload_id].files == {}


def test_stall_ends_with_the_emulator() -> None:
    """A stall does not hold the emulator up when it is closed."""
    with Emulator(faults=[{"on": "GET /projects", "do": "stall", "seconds": 60}]) as emulator:
        raw = Raw(emulator)
        raw.http.request("GET", "/api/v1/projects", headers=raw.authorization)
        while not emulator.exchanges:
            time.sleep(0.001)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    raw.http.close()


def test_rate_limit(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A scripted rate limit looks like a real one."""
    emulator.faults.add({"on": ON, "do": "rate_limit", "retry_after": 7})
    answer = raw.whole(upload_id, "a.e57", b"abc")
    assert answer.refusal == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "7"


def test_fault_on_a_refused_request(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reset also hits a request that the rules refuse."""
    emulator.faults.add({"on": "PUT /uploads/*/a.exe", "do": "reset", "after_bytes": 2})
    with pytest.raises(ConnectionError):
        raw.whole(upload_id, "a.exe", b"abc")
