"""Replies are bounded in size and time, and the errors tell whether the request was sent."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_360.api.backoff import Backoff
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.replies import MAX_REPLY_BYTES
from airflow_360.api.transport import Transport
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    ApiError,
    NoReplyError,
    OffsetMismatchError,
    ThreeSixtyError,
    UnexpectedReplyError,
)
from tests.api.servers import JSON_REPLY, DrippingServer, KeepingServer
from tests.fakes import KEY, Recorder, Waits, certificate, client_for, http_reply, outcome_of, strict_emulator

MIB = 1024 * 1024
DEADLINE = 0.4
#: A deadline for replies that must arrive in time, on a busy machine too.
LONG_DEADLINE = 3.0
#: Seconds after a deadline within which a busy machine notices it; without a deadline it takes longer.
LATE = 8.0


def impatient(
    server: str, reply_timeout: float | None = DEADLINE, read_timeout: float = 10, **settings: Any
) -> ThreeSixtyClient:
    """Return a client that waits for a whole reply for a short time, and sends once."""
    transport = Transport(server, KEY, reply_timeout=reply_timeout, read_timeout=read_timeout, **settings)
    return ThreeSixtyClient(transport, Backoff(tries=0, sleep=Waits()))


def no_reply(client: ThreeSixtyClient) -> NoReplyError:
    """Return the error of a request for the account's projects."""
    error = outcome_of(client.list_projects)
    assert isinstance(error, NoReplyError), repr(error)
    return error


# -- time

BEGINNINGS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"HTTP/1.1 200 O", b"K"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X"),
    "interim replies": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", b" "),
    "body without an end": (b"HTTP/1.1 200 OK\r\n\r\n{", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "one chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n", b" "),
    "gzip": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"{")[:10], b"\0"),
    "refusal": (b"HTTP/1.1 503 Later\r\nContent-Length: 1000\r\n\r\n<p>", b" "),
    "redirect": (b"HTTP/1.1 302 There\r\nLocation: /\r\nContent-Length: 1000\r\n\r\n", b" "),
}


@pytest.mark.parametrize(("beginning", "drop"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_dripping_reply_ends_at_the_deadline(beginning: bytes, drop: bytes) -> None:
    """A reply that arrives byte by byte ends at the deadline, wherever it drips, and is retryable."""
    with DrippingServer(beginning, drop) as server:
        began = time.monotonic()
        error = no_reply(impatient(server.url))
        assert DEADLINE <= time.monotonic() - began < DEADLINE + LATE
    assert (error.timed_out, error.sent, error.retryable) == (True, True, True)
    assert "timed out: the reply was not complete after 0.4 s" in str(error)


def test_a_reply_that_stops_ends_at_the_deadline() -> None:
    """A reply that begins and then stops ends at the deadline, not after another whole read timeout."""
    with DrippingServer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"") as server:
        began = time.monotonic()
        error = no_reply(impatient(server.url))
        assert DEADLINE <= time.monotonic() - began < DEADLINE + LATE
    assert error.timed_out


def test_dripping_reply_over_tls(tmp_path: Path) -> None:
    """A reply that arrives byte by byte over TLS ends at the deadline too."""
    own, key = certificate(tmp_path)
    with strict_emulator(tls=(own, key)) as emulator:
        emulator.faults.add({"on": "GET /projects", "do": "drip", "seconds": 0.05})
        began = time.monotonic()
        error = no_reply(impatient(emulator.url, verify=str(own)))
        assert DEADLINE <= time.monotonic() - began < DEADLINE + LATE
    assert error.timed_out


def test_the_default_deadline_is_twice_the_read_timeout() -> None:
    """Without a separate deadline a whole reply may take twice as long as its first byte."""
    with DrippingServer(b"HTTP/1.1 200 OK\r\n") as server:
        error = no_reply(impatient(server.url, reply_timeout=None, read_timeout=1))
    assert "after 2 s" in str(error)


def test_the_deadline_starts_anew_with_each_request(emulator: Emulator) -> None:
    """The deadline concerns one reply, not the connection on which several arrive."""
    client = impatient(emulator.url, LONG_DEADLINE)
    client.list_projects()
    time.sleep(LONG_DEADLINE)
    client.list_projects()


def test_slow_uploads_have_no_deadline(emulator: Emulator) -> None:
    """The deadline begins at the end of the body: an upload takes as long as it takes."""
    client = impatient(emulator.url, LONG_DEADLINE)
    upload_id = client.create_upload_session().upload_id
    emulator.faults.add(
        {"on": "PUT /uploads/*/*", "do": "stall", "when": "before_body", "seconds": LONG_DEADLINE + 0.5}
    )
    assert client.put_file(upload_id, "a.e57", bytes(32 * MIB)).complete


def test_four_dripping_projects_hold_no_thread_beyond_the_deadline(emulator: Emulator) -> None:
    """Four projects that drip give their four threads back at the deadline, and others are polled."""
    name = emulator.store.create_project({"download_link": "https://x/y.e57"})["name"]
    emulator.faults.add({"on": "GET /projects/drip*", "do": "drip", "seconds": 0.5, "times": 4})
    client = impatient(emulator.url, LONG_DEADLINE)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        drips = [threads.submit(outcome_of, lambda: client.get_project("drip")) for _ in range(4)]
        other = threads.submit(client.get_project, name)
        assert other.result().name == name
        assert time.monotonic() - began < LONG_DEADLINE + LATE
        assert all(isinstance(drip.result(), NoReplyError) for drip in drips)


# -- size


def bomb(size: int) -> bytes:
    """Return gzip of this number of blanks, a thousandth as long."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(size // MIB)), packer.flush()])


def raw_reply(status: int, body: bytes, **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    head = [f"HTTP/1.1 {status} Whatever", *(f"{k.replace('_', '-')}: {v}" for k, v in lines.items()), "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.parametrize("status", [200, 302, 429, 503])
def test_a_gzip_bomb_is_not_unpacked(status: int) -> None:
    """A hundred kilobytes of gzip that stand for 100 MiB end at the limit, with any status."""
    packed = bomb(100 * MIB)
    assert len(packed) < 110_000
    reply = raw_reply(status, packed, Content_Encoding="gzip", Location="/elsewhere")
    with Recorder(reply) as server:
        tracemalloc.start()
        error = no_reply(client_for(server.url, tries=0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "more than 32 MiB" in str(error)
    assert (error.retryable, error.timed_out) == (True, False)
    assert peak < MAX_REPLY_BYTES + 8 * MIB


def test_a_reply_over_the_limit_is_refused() -> None:
    """A reply of more than 32 MiB is no reply; one of 32 MiB is."""
    for size, status in ((MAX_REPLY_BYTES, 503), (MAX_REPLY_BYTES + 1, 0)):
        with Recorder(raw_reply(503, b" " * size)) as server:
            error = outcome_of(client_for(server.url, tries=0).list_projects)
        assert getattr(error, "status", 0) == status, repr(error)


def test_endless_chunks_are_refused() -> None:
    """A reply in chunks without an end is given up at the limit."""
    chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
    with Recorder(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 40) as server:
        assert "more than 32 MiB" in str(no_reply(client_for(server.url, tries=0)))


# -- encodings


def test_only_gzip_is_asked_for() -> None:
    """Requests ask for one content encoding, and a reply in it is read."""
    packed = gzip.compress(b'{"projects": []}')
    for encoding in ("gzip", "x-gzip", " GZIP "):
        with Recorder(raw_reply(200, packed, Content_Encoding=encoding)) as server:
            assert client_for(server.url).list_projects() == {"projects": []}
        assert server.heard[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "gzip,gzip,gzip,gzip,gzip,gzip", "br", "deflate", "é\x01"]
)
def test_other_encodings_are_refused(encoding: str) -> None:
    """A reply in several encodings, or in one that was not requested, is not accepted."""
    packed = gzip.compress(gzip.compress(b"{}"))
    head = http_reply(200, "", {"Content-Encoding": encoding, "Content-Length": str(len(packed))})
    with Recorder(head + packed) as server:
        error = no_reply(client_for(server.url, tries=0))
    assert "Content-Encoding" in str(error) or "content encodings" in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "body",
    [b"{}", gzip.compress(b'{"a": 1}' * 100)[:-9], gzip.compress(b"{}")[:-8] + b"\0" * 8],
    ids=["no gzip", "cut off", "wrong checksum"],
)
def test_damaged_gzip_is_refused(body: bytes) -> None:
    """A reply whose gzip is damaged is no reply."""
    with Recorder(raw_reply(200, body, Content_Encoding="gzip")) as server:
        assert "gzip data" in str(no_reply(client_for(server.url, tries=0)))


def test_an_empty_body_is_not_unpacked() -> None:
    """A refusal without a body is read although its headers name an encoding."""
    with Recorder(raw_reply(503, b"", Content_Encoding="gzip")) as server:
        error = outcome_of(client_for(server.url, tries=0).list_projects)
    assert isinstance(error, ApiError)
    assert error.status == 503


# -- connections

PACKED = gzip.compress(b"{}")


@pytest.mark.parametrize(
    "reply",
    [
        JSON_REPLY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(PACKED), PACKED),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 There\r\nLocation: /x\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 429 Later\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["JSON", "chunks", "gzip", "no content", "empty", "redirect", "refusal"],
)
def test_a_connection_is_kept_after_its_reply_was_read(reply: bytes) -> None:
    """After any complete reply, the next request uses the same connection."""
    with KeepingServer(reply) as server:
        client = client_for(server.url, tries=0)
        for _ in range(3):
            outcome_of(client.list_projects)
        assert server.connections == 1


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 104 Upload Resumption Supported\r\nRetry-After: 99\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" * 9,
    ],
    ids=["103", "104", "several"],
)
def test_interim_replies_are_skipped(interim: bytes) -> None:
    """The real reply follows on the same connection, which is used again afterwards."""
    with KeepingServer(interim + JSON_REPLY) as server:
        client = client_for(server.url, tries=0)
        for _ in range(3):
            assert client.list_projects() == {"upload_id": "AAAAAAAA", "expires_in_seconds": 1}
        assert server.connections == 1


@pytest.mark.parametrize(
    ("interim", "status"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, 103),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", 101),
    ],
    ids=["without an end", "another protocol"],
)
def test_a_connection_is_closed_after_interim_replies_only(interim: bytes, status: int) -> None:
    """If interim replies do not end, no later one is used as the reply to the next request."""
    with KeepingServer(interim + JSON_REPLY) as server:
        client = client_for(server.url, tries=0)
        for connections in (1, 2):
            error = outcome_of(client.list_projects)
            assert isinstance(error, UnexpectedReplyError)
            assert (error.status, error.retryable, server.connections) == (status, True, connections)


# -- whether it was sent


def test_a_read_timeout_has_timed_out(emulator: Emulator) -> None:
    """A server that does not reply has timed out, and may have carried out the request."""
    emulator.faults.add({"on": "GET /projects", "do": "stall", "seconds": 5})
    error = no_reply(client_for(emulator, read_timeout=0.2, tries=0))
    assert (error.timed_out, error.sent) == (True, True)
    assert "timed out: nothing arrived for 0.2 s" in str(error)


@pytest.mark.parametrize("kind", ["lost_reply", "reset", "truncate"])
def test_a_broken_connection_has_not_timed_out(emulator: Emulator, kind: str) -> None:
    """A connection that breaks has not timed out, and the request may have been carried out."""
    emulator.faults.add({"on": "POST /uploads", "do": kind})
    error = outcome_of(client_for(emulator, tries=0).create_upload_session)
    assert isinstance(error, NoReplyError)
    assert (error.timed_out, error.sent) == (False, True)


def test_a_request_without_a_connection_was_not_sent() -> None:
    """No server, a handshake that takes too long, a proxy that drips: the request was never sent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        slow = no_reply(client_for(f"https://127.0.0.1:{port}", connect_timeout=0.2, tries=0))
    nobody = no_reply(client_for(f"https://127.0.0.1:{port}", tries=0))
    assert [(error.timed_out, error.sent) for error in (slow, nobody)] == [(False, False)] * 2


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 200 Connected\r\nX-", b"HTTP/1.1 403 Forbidden\r\n\r\n", b"nonsense\r\n\r\n"],
    ids=["drips", "refuses", "talks nonsense"],
)
def test_a_request_behind_a_broken_proxy_was_not_sent(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    """A proxy that makes no connection ends the request after the connect timeout, and nothing was sent."""
    with DrippingServer(reply) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = client_for("https://scans.example.org", connect_timeout=DEADLINE, tries=0)
        began = time.monotonic()
        error = no_reply(client)
        assert time.monotonic() - began < DEADLINE + LATE
    assert (error.timed_out, error.sent) == (False, False)


# -- the content of a reply


def test_what_cannot_be_stored_does_not_leave_the_transport(emulator: Emulator) -> None:
    """Replies and refusals contain nothing that a database or msgpack refuses, in keys and values."""
    odd = {"a": float("nan"), "b": 2**70, "c\0": "\ud800", "d": 1}
    plain = {"a": None, "b": None, "c\ufffd": "\ufffd", "d": 1}
    client = client_for(emulator, tries=0)
    emulator.faults.add(
        {"on": "GET /projects", "do": "status", "status": 200, "body": odd},
        {"on": "GET /projects", "do": "status", "status": 418, "body": {"error": "odd\ud800\0", **odd}},
    )
    assert client.list_projects() == plain
    error = outcome_of(client.list_projects)
    assert isinstance(error, ApiError)
    assert (error.code, error.detail) == ("odd\ufffd\ufffd", plain)
    assert str(error).isprintable()


@pytest.mark.parametrize("name", ["Location", "Retry-After", "Content-Type", "X-\u00e9"])
def test_headers_of_any_bytes_become_clean_messages(name: str) -> None:
    """For any bytes in a header, the message is one printable line that UTF-8 can encode."""
    line = f"{name}: a\x85b\x1b[31m\x00".encode("latin-1") + b"\xed\xa0\x80\xff"
    with Recorder(b"HTTP/1.1 302 \xff\xed\xa0\x80\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n") as server:
        error = outcome_of(client_for(server.url, tries=0).list_projects)
    assert isinstance(error, ThreeSixtyError), repr(error)
    assert str(error).isprintable()
    str(error).encode()


# -- messages

HERE = "GET /api/v1/projects: the server answered"
NO_JSON = "(not a reply of the 360 API)."
MAINTENANCE = "It is probably a proxy or maintenance: try again later."
TOO_LARGE = (
    "It is probably a proxy that limits the size of a request: set a smaller chunk_size, or raise its limit "
    "(client_max_body_size in nginx)."
)
PROXY = "Check that the connection's host is a 360 server and that no proxy stands between."


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 418, "body": {"error": "teapot", "a": 1, "b": "x\ny"}}, "418 teapot, a: 1, b: x y."),
        ({"status": 418, "body": "<p>"}, f"418 {NO_JSON} {PROXY}"),
        ({"status": 400, "body": "<p>"}, f"400 {NO_JSON} {PROXY}"),
        ({"status": 499, "body": "<p>"}, f"499 {NO_JSON} {PROXY}"),
        ({"status": 500, "body": "<p>"}, f"500 {NO_JSON} {MAINTENANCE}"),
        ({"status": 413, "body": "<p>"}, f"413 {NO_JSON} {TOO_LARGE}"),
        ({"status": 300, "body": "<p>"}, f"300 {NO_JSON} It points to ?: set the connection's host to it."),
        (
            {"status": 399, "body": "<p>", "headers": {"Location": "https://x/"}},
            f"399 {NO_JSON} It points to https://x/: set the connection's host to it.",
        ),
        (
            {"status": 429, "body": {"error": "rate_limited"}, "headers": {"Retry-After": "3000"}},
            "429 rate_limited. It asks to wait 3000 s.",
        ),
        (
            {"status": 418, "body": {"error": "teapot", "a": "", "b": "", "c": 300 * "c", "d": 888 * "d"}},
            f"418 teapot, a: , b: , c: {300 * 'c'}, d: {300 * 'd'}….",
        ),
        (
            {"status": 418, "body": {"error": "teapot", **{key: 999 * key for key in "abc"}}},
            f"418 teapot, a: {300 * 'a'}…, b: {300 * 'b'}…, c: {283 * 'c'}….",
        ),
    ],
    ids=[
        "detail",
        "page",
        "400",
        "499",
        "500",
        "413",
        "nowhere",
        "elsewhere",
        "limit",
        "long",
        "too long",
    ],
)
def test_message_of_a_refusal(emulator: Emulator, fault: dict[str, Any], said: str) -> None:
    """The message of a refusal is one sentence, with the server's text up to a length, and with advice."""
    emulator.faults.add({"on": "GET /projects", "do": "status", **fault})
    with pytest.raises(ThreeSixtyError) as raised:
        client_for(emulator, tries=0).list_projects()
    assert str(raised.value) == f"{HERE} {said}"


def test_a_409_may_say_zero_bytes_but_not_nothing(emulator: Emulator) -> None:
    """A 409 may say that the server has 0 bytes; a 409 without a number is reported as an invalid reply."""
    client = client_for(emulator, tries=0)
    for body in ({"error": "non_contiguous_chunk", "received": 0}, {"error": "non_contiguous_chunk"}):
        emulator.faults.add({"on": "GET /projects", "do": "status", "status": 409, "body": body})
    with pytest.raises(OffsetMismatchError) as raised:
        client.list_projects()
    assert raised.value.received == 0
    with pytest.raises(NoReplyError) as silent:
        client.list_projects()
    assert str(silent.value) == f"{HERE} 409 without the number of bytes that it has."
