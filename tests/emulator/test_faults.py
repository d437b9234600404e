"""The effect of each kind of fault on a client."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

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


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_truncate(raw: Raw, emulator: Emulator, upload_id: str, method: str) -> None:
    """A truncated reply is a part of the real one, after the request was carried out; then comes the end."""
    if method == "GET":
        raw.whole(upload_id, "a.e57", b"abc")
    emulator.faults.add({"on": f"{method} /uploads/*/a.e57", "do": "truncate"})
    with pytest.raises(http.client.IncompleteRead) as caught:
        raw.call(method, f"/uploads/{upload_id}/a.e57", b"abc", OCTETS)
    raw.http.close()
    assert (caught.value.partial, caught.value.expected) == (b'{"received": 3, "total', 23)
    assert raw.received(upload_id, "a.e57") == 3


def test_drip(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A dripping reply is the real one, some time after each byte of it, and the connection is kept."""
    emulator.faults.add({"on": ON, "do": "drip", "seconds": 0.001})
    began = time.monotonic()
    assert raw.whole(upload_id, "a.e57", b"abc").json["complete"]
    assert time.monotonic() - began > 0.1
    assert raw.received(upload_id, "a.e57") == 3


def test_drip_ends_with_the_client() -> None:
    """A dripping reply of some seconds ends immediately when its client closes the connection."""
    lines: list[str] = []
    fault = {"on": "GET /projects", "do": "drip", "seconds": 0.05}
    with Emulator(faults=[fault], log=lines.append) as emulator, Raw(emulator) as raw:
        raw.http.request("GET", "/api/v1/projects", headers=raw.authorization)
        raw.http.sock.recv(1)
        raw.http.close()
        began = time.monotonic()
        while not lines:
            time.sleep(0.01)
    assert time.monotonic() - began < 2


def test_drip_ends_with_the_emulator() -> None:
    """A dripping reply does not delay the end of the emulator."""
    with Emulator(faults=[{"on": "GET /projects", "do": "drip", "seconds": 60}]) as emulator:
        with Raw(emulator) as raw:
            raw.http.request("GET", "/api/v1/projects", headers=raw.authorization)
            while not emulator.faults.counts:
                time.sleep(0.01)
            began = time.monotonic()
    assert time.monotonic() - began < 5


def test_odd_records(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """An altered reply can contain values that no database stores: NaN, huge integers, lone surrogates."""
    raw.whole(upload_id, "a.e57", b"abc")
    raw.call("POST", "/projects", {"upload_id": upload_id})
    deep = json.loads("[" * 200 + "]" * 200)
    odd = {"status": 100, "a": float("inf"), "b": 2**70, "c": "\ud800", "d\0": "\0", "e": deep}
    emulator.faults.add({"on": "GET /projects/*", "do": "alter", "fields": odd})
    assert raw.call("GET", f"/projects/{upload_id}").json == {"name": upload_id, **odd}


@pytest.mark.parametrize("body", [None, "<h1>Hello</h1>", {"ok": True}, []])
def test_garbage(raw: Raw, emulator: Emulator, upload_id: str, body: Any) -> None:
    """Garbage is a 200 with a meaningless body, HTML by default, after the request was carried out."""
    emulator.faults.add({"on": ON, "do": "garbage", **({} if body is None else {"body": body})})
    answer = raw.whole(upload_id, "a.e57", b"abc")
    is_html = body is None or isinstance(body, str)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html" if is_html else "application/json")
    assert answer.text.startswith("<") if is_html else answer.json == body
    assert raw.received(upload_id, "a.e57") == 3


@pytest.mark.parametrize("status", [30, 0, 101, -1, "x", None, True, 1.5, [], {"a": 1}])
def test_alter(raw: Raw, emulator: Emulator, upload_id: str, status: Any) -> None:
    """An altered reply is the real one with other values; a refusal is not altered."""
    raw.whole(upload_id, "a.e57", b"abc")
    raw.call("POST", "/projects", {"upload_id": upload_id})
    emulator.faults.add({"on": "GET /projects/*", "do": "alter", "fields": {"status": status}})
    assert raw.call("GET", f"/projects/{upload_id}").json == {"name": upload_id, "status": status}
    assert raw.call("GET", f"/projects/{upload_id}").json == {"name": upload_id, "status": 0}


def test_alter_does_not_touch_a_refusal() -> None:
    """A refusal passes as it is, and the fault has not happened."""
    fault = {"on": "GET /projects/*", "do": "alter", "fields": {"status": 101}}
    with Emulator(faults=[fault]) as emulator, Raw(emulator) as raw:
        assert raw.call("GET", "/projects/AAAAAAAA").json == {"error": "project_not_found"}
        assert len(emulator.faults.unused()) == 1


def test_a_project_that_is_gone(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A status fault can make a project disappear for a while."""
    raw.whole(upload_id, "a.e57", b"abc")
    raw.call("POST", "/projects", {"upload_id": upload_id})
    gone = {"do": "status", "status": 404, "body": {"error": "project_not_found"}}
    emulator.faults.add({"on": "GET /projects/*", **gone})
    assert [raw.call("GET", f"/projects/{upload_id}").status for _ in range(2)] == [404, 200]


@pytest.mark.parametrize("rst", [False, True])
def test_hang_up(emulator: Emulator, upload_id: str, rst: bool) -> None:
    """An idle connection is closed when its next request comes, and nothing is done; a fresh one is not."""
    emulator.faults.add({"on": "* /**", "do": "hang_up", "rst": rst})
    with Raw(emulator) as fresh:
        assert fresh.call("GET", "/projects").status == 200
        with pytest.raises(ConnectionResetError if rst else http.client.RemoteDisconnected) as caught:
            fresh.call("DELETE", f"/uploads/{upload_id}")
        assert isinstance(caught.value, http.client.RemoteDisconnected) is not rst
    assert list(emulator.store.sessions) == [upload_id]
    assert (emulator.exchanges[-1].status, emulator.exchanges[-1].fault) == (None, "hang_up")


def test_hang_up_on_a_body(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A PUT on an idle connection that was closed stores nothing."""
    emulator.faults.add({"on": ON, "do": "hang_up"})
    with pytest.raises(ConnectionError):
        raw.whole(upload_id, "a.e57", bytes(5_000_000))
    raw.http.close()
    assert emulator.store.sessions[upload_id].files == {}


@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize(("keep_bytes", "size"), [(0, 6), (2, 6), (2, 3)])
def test_lose(raw: Raw, emulator: Emulator, upload_id: str, method: str, keep_bytes: int, size: int) -> None:
    """A server that loses bytes does not report it, and continues from its new mark."""
    emulator.faults.add({"on": f"{method} /uploads/*/a.e57", "do": "lose", "keep_bytes": keep_bytes})
    data = b"points"
    assert raw.chunk(upload_id, "a.e57", data[:size], 0, 6).json["received"] == size
    if method == "GET":
        assert raw.received(upload_id, "a.e57") == size
    assert (emulator.exchanges[-1].fault, emulator.exchanges[-1].lost_bytes) == ("lose", size - keep_bytes)
    progress = {"received": keep_bytes, "total": 6, "complete": False}
    assert raw.call("GET", f"/uploads/{upload_id}/a.e57").json == progress
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == data[:keep_bytes]
    gap = raw.chunk(upload_id, "a.e57", data[3:], 3, 6)
    assert (gap.status, gap.json["received"]) == (409, keep_bytes)
    assert raw.chunk(upload_id, "a.e57", data[keep_bytes:], keep_bytes, 6).json["complete"]
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == data


@pytest.mark.parametrize("data", [b"abc", b""])
def test_lose_the_file(raw: Raw, emulator: Emulator, upload_id: str, data: bytes) -> None:
    """A lost file is unknown, and a new upload of it may have another size."""
    emulator.faults.add({"on": ON, "do": "lose", "forget": True})
    assert raw.whole(upload_id, "a.e57", data).json["complete"]
    assert raw.call("GET", f"/uploads/{upload_id}/a.e57").refusal == (404, "file_not_found")
    assert raw.call("GET", f"/uploads/{upload_id}").json["files"] == []
    assert not emulator.store.file_path(upload_id, "a.e57").exists()
    assert raw.whole(upload_id, "a.e57", b"abcd").json["complete"]


def test_lose_beside_another_fault(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """Bytes that arrived before a reset can be lost with it."""
    emulator.faults.add(
        {"on": ON, "do": "reset", "after_bytes": 1000, "keep": True},
        {"on": ON, "do": "lose", "keep_bytes": 400},
    )
    with pytest.raises(ConnectionResetError):
        raw.whole(upload_id, "a.e57", bytes(5000))
    raw.http.close()
    assert raw.received(upload_id, "a.e57") == 400
    assert [(e.fault, e.lost_bytes) for e in emulator.exchanges if e.fault] == [("reset+lose", 600)]


@pytest.mark.parametrize(
    "loss", [{"keep_bytes": 3}, {"spare_complete": True}, {"forget": True, "spare_complete": True}]
)
def test_nothing_to_lose(loss: dict[str, Any]) -> None:
    """A loss of missing bytes, or of spared ones, has not happened."""
    faults = [{"on": "* /uploads/**", "do": "lose", "times": 4, **loss}]
    with Emulator(faults=faults) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        assert raw.call("GET", f"/uploads/{upload_id}/a.e57").status == 404
        raw.whole(upload_id, "a.e57", b"abc")
        assert raw.received(upload_id, "a.e57") == 3
        assert raw.received(upload_id, "a.e57") == 3
        assert [fault.times for fault in emulator.faults.unused()] == [4]


def test_no_loss_under_a_put(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A file loses nothing while a PUT is writing to it, so that it has no hole afterwards."""
    raw.chunk(upload_id, "a.e57", b"abc", 0, 6)
    writing = emulator.store.begin_put(upload_id, "a.e57", start=3, total=6)
    assert emulator.store.lose(upload_id, "a.e57") is None
    writing.write(memoryview(b"def"))
    writing.end()
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == b"abcdef"
    assert emulator.store.lose(upload_id, "a.e57", keep_bytes=2) == 4
    assert emulator.store.lose("AAAAAAAA", "a.e57") is None


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        ({"do": "lost_reply"}, 1),
        ({"do": "truncate"}, 1),
        ({"do": "garbage"}, 1),
        ({"do": "status", "when": "after_body"}, 1),
        ({"do": "status", "when": "before_body"}, 0),
        ({"do": "status", "close": True}, 0),
        ({"do": "rate_limit"}, 0),
        ({"do": "reset"}, 0),
        ({"do": "reset", "after_bytes": 5}, 0),
        ({"do": "hang_up"}, 0),
        ({"do": "hang_up", "rst": True}, 0),
    ],
    ids=str,
)
def test_project_made_or_not(
    raw: Raw, emulator: Emulator, upload_id: str, fault: dict[str, Any], made: int
) -> None:
    """A POST with an unknown result was carried out or not, depending on its fault."""
    raw.whole(upload_id, "a.e57", b"abc")
    emulator.faults.add({"on": "POST /projects", **fault})
    try:
        raw.call("POST", "/projects", {"upload_id": upload_id})
    except (http.client.HTTPException, OSError):
        raw.http.close()
    assert len(emulator.store.projects) == made


def test_early_close(emulator: Emulator, raw: Raw, upload_id: str) -> None:
    """A refusal with `close` does not wait for the body."""
    emulator.faults.add({"on": ON, "do": "status", "status": 413, "close": True})
    with Raw(emulator) as other:
        other.begin(upload_id, "a.e57", 100_000_000)
        connection = other.http.sock
        assert other.http.getresponse().status == 413
        with pytest.raises(OSError):
            connection.sendall(bytes(100_000_000))


@pytest.mark.parametrize(("keep", "received"), [(None, 1000), (True, 1000), (False, 0)])
def test_reset(raw: Raw, emulator: Emulator, upload_id: str, keep: bool | None, received: int) -> None:
    """A reset in the middle of the body is a real one, and keeps exactly the given number of bytes."""
    fault = {"on": ON, "do": "reset", "after_bytes": 1000}
    emulator.faults.add(fault if keep is None else {**fault, "keep": keep})
    with pytest.raises(ConnectionResetError):
        raw.whole(upload_id, "a.e57", bytes(5000))
    raw.http.close()
    assert raw.received(upload_id, "a.e57") == received
    assert [e.status for e in emulator.exchanges if e.fault] == [None]


def test_reset_at_once(raw: Raw, emulator: Emulator, upload_id: str) -> None:
    """A reset after no bytes carries nothing out, for any method."""
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
    """A stall does not delay the end of the emulator, and ends with it."""
    before = set(threading.enumerate())
    with Emulator(faults=[{"on": "GET /projects", "do": "stall", "seconds": 60}]) as emulator:
        raw = Raw(emulator)
        raw.http.request("GET", "/api/v1/projects", headers=raw.authorization)
        while not emulator.exchanges:
            time.sleep(0.001)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert set(threading.enumerate()) <= before
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
