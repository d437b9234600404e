"""One file into one session, despite all failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_360.api.bandwidth import Bandwidth
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    ApiError,
    FileRejectedError,
    NoReplyError,
    RateLimitedError,
    ServerError,
    SourceChangedError,
    SourceError,
    UnexpectedReplyError,
    UploadSessionNotFoundError,
    UploadStalledError,
)
from airflow_360.sources import Source
from airflow_360.upload import engine
from airflow_360.upload.engine import PROBE_BYTES, upload
from airflow_360.upload.ranges import FIRST_CHUNK_BYTES, ChunkSizer
from tests.fakes import (
    HiccupSource,
    MemorySource,
    Recorder,
    Sized,
    Steps,
    Waits,
    certificate,
    client_for,
    held,
    http_reply,
    methods,
    outcome_of,
    requests_of,
    some_bytes,
    strict_emulator,
)

MIB = 1 << 20
NAME = "scan.e57"
PUT = "PUT /uploads/*/scan.e57"
GET = "GET /uploads/*/scan.e57"


class Session:
    """A new session of an emulator, a client that does not wait, and a file to upload."""

    def __init__(
        self,
        emulator: Emulator,
        source: Source | bytes = b"0123456789",
        *,
        waits: Waits | None = None,
        **client: Any,
    ) -> None:
        self.emulator = emulator
        self.source = MemorySource(source) if isinstance(source, bytes) else source
        self.waits = Waits() if waits is None else waits
        self.client: ThreeSixtyClient = client_for(emulator, sleep=self.waits, **client)
        self.upload_id = self.client.create_upload_session().upload_id
        self.progress: list[FileProgress] = []

    def upload(self, chunk_size: int | None = 4, **options: Any) -> FileProgress:
        return upload(
            self.client,
            self.upload_id,
            self.source,
            NAME,
            **{"chunks": ChunkSizer(chunk_size), "on_progress": self.progress.append, **options},
        )

    def put(self, data: bytes, start: int, total: int) -> None:
        """Put some bytes of a file on the server, like an earlier attempt."""
        body = Sized(data)
        self.client.put_chunk(self.upload_id, NAME, body, f"bytes {start}-{start + len(data) - 1}/{total}")
        self.emulator.exchanges.clear()

    @property
    def bytes(self) -> bytes:
        return held(self.emulator, self.upload_id, NAME)

    @property
    def received(self) -> list[int]:
        return [progress.received for progress in self.progress]

    @property
    def starts(self) -> list[int | None]:
        """The first byte of each PUT."""
        return [exchange.start for exchange in requests_of(self.emulator, "PUT", NAME)]


# -- how bytes are sent


@pytest.mark.parametrize(
    ("size", "chunk_size"),
    [(0, None), (0, 4), (1, 4), (4, 4), (1, 1), (10, None), (FIRST_CHUNK_BYTES, None)],
    ids=[
        "empty",
        "empty with a size",
        "one byte",
        "exactly one chunk",
        "one of one",
        "default",
        "default, full",
    ],
)
@pytest.mark.parametrize("ask", [False, True], ids=["unasked", "asked"])
def test_a_small_file_is_one_put(emulator: Emulator, size: int, chunk_size: int | None, ask: bool) -> None:
    """An empty file, or one of at most one chunk, is one whole-file PUT, after a question if requested."""
    session = Session(emulator, some_bytes(size))
    assert session.upload(chunk_size, ask=ask) == FileProgress(size, size, True)
    assert session.bytes == some_bytes(size)
    assert methods(emulator) == (["GET", "PUT"] if ask else ["PUT"])
    assert (session.starts, session.received, session.waits) == ([0], [size], [])


@pytest.mark.parametrize(
    ("size", "starts"),
    [(5, [0, 4]), (8, [0, 4]), (9, [0, 4, 8]), (12, [0, 4, 8])],
    ids=["one byte over", "exact multiple", "multiple and a byte", "three"],
)
def test_a_larger_file_is_sent_in_chunks(emulator: Emulator, size: int, starts: list[int]) -> None:
    """A larger file is sent in chunks, in order, each from the server's mark."""
    session = Session(emulator, some_bytes(size))
    assert session.upload() == FileProgress(size, size, True)
    assert session.bytes == some_bytes(size)
    assert session.starts == starts
    assert methods(emulator) == ["GET"] + ["PUT"] * len(starts)
    assert session.received == [*starts[1:], size]


def test_one_byte_over_the_default(emulator: Emulator) -> None:
    """A file one byte larger than the default chunk is sent in two, in blocks of a mebibyte at most."""
    session = Session(emulator, some_bytes(FIRST_CHUNK_BYTES + 1))
    session.upload(None)
    assert session.starts == [0, FIRST_CHUNK_BYTES]
    assert session.bytes == some_bytes(FIRST_CHUNK_BYTES + 1)
    assert isinstance(session.source, MemorySource)
    assert session.source.largest_read == MIB


def test_the_server_is_asked_first_by_default(emulator: Emulator) -> None:
    """By default the server is asked first, because it may have other bytes of the same size."""
    Session(emulator).upload()
    assert methods(emulator)[0] == "GET"


def test_a_complete_file_costs_one_request(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is complete costs one request and no byte, and its source is not opened."""
    session = Session(emulator)
    session.upload()
    emulator.exchanges.clear()
    again = MemorySource(b"9876543210")
    with caplog.at_level(logging.INFO):
        progress = upload(session.client, session.upload_id, again, NAME, on_progress=session.progress.append)
    assert progress == session.progress[-1] == FileProgress(10, 10, True)
    assert (methods(emulator), again.opened) == (["GET"], [])
    assert session.bytes == b"0123456789"
    assert "already complete on the server" in caplog.text


@pytest.mark.parametrize("known", [False, True], ids=["asked", "known"])
def test_an_upload_resumes_at_the_number_of_the_server(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, known: bool
) -> None:
    """An upload continues from the server's mark, and logs the byte; nothing before it is read."""
    session = Session(emulator)
    session.put(b"012", 0, 10)
    with caplog.at_level(logging.INFO):
        session.upload(ask=not known, progress=FileProgress(3, 10, False) if known else None)
    assert session.starts == [3, 7]
    assert session.bytes == b"0123456789"
    assert session.received == [3, 7, 10]
    assert isinstance(session.source, MemorySource)
    assert session.source.opened == [3]
    assert methods(emulator) == (["PUT"] * 2 if known else ["GET", "PUT", "PUT"])
    assert "scan.e57: resumes at 3 bytes of 10 bytes (byte 3)" in caplog.messages


def test_resumes_a_small_file_in_a_chunk(emulator: Emulator) -> None:
    """If the server has the start of a small file, the rest is sent as a chunk, not the whole file again."""
    session = Session(emulator)
    session.put(b"012", 0, 10)
    session.upload(100)
    assert session.starts == [3]
    assert session.bytes == b"0123456789"


def test_whole_but_not_complete(emulator: Emulator) -> None:
    """If the server has every byte but is not done, the client polls it until it is, and sends nothing."""
    session = Session(emulator)
    session.upload()
    emulator.exchanges.clear()
    body = {"received": 10, "total": 10, "complete": False}
    emulator.faults.add({"on": GET, "do": "status", "status": 200, "body": body, "times": 3})
    assert session.upload().complete
    assert methods(emulator) == ["GET"] * 4
    assert len(session.waits) == 2


# -- the size of chunks


def sizes_of(session: Session) -> list[int]:
    """Return how many mebibytes each PUT brought."""
    return [exchange.body_bytes // MIB for exchange in requests_of(session.emulator, "PUT", NAME)]


def zeros(mebibytes: int) -> bytes:
    return bytes(mebibytes * MIB)


def test_quick_chunks_grow(emulator: Emulator) -> None:
    """On a fast line the next chunk is one that would have taken five seconds."""
    session = Session(emulator, zeros(60))
    session.upload(None, clock=Steps(2))
    assert sizes_of(session) == [8, 20, 32]


def test_slow_chunks_shrink(emulator: Emulator) -> None:
    """On a slow line chunks become those of five seconds, down to a mebibyte."""
    session = Session(emulator, zeros(17))
    session.upload(None, clock=Steps(20))
    assert sizes_of(session) == [8, 2, 1, 1, 1, 1, 1, 1, 1]


def test_steady_chunks_stay(emulator: Emulator) -> None:
    """A chunk that takes some seconds is followed by one of the same size."""
    session = Session(emulator, zeros(20))
    session.upload(None, clock=Steps(5))
    assert sizes_of(session) == [8, 8, 4]


def test_a_given_chunk_size_is_fixed(emulator: Emulator) -> None:
    """A given chunk size is kept, on any line, and after a failure."""
    emulator.faults.add({"on": PUT, "do": "status", "status": 503, "skip": 1})
    session = Session(emulator, zeros(7))
    session.upload(2 * MIB, clock=Steps(0.1))
    assert sizes_of(session) == [2, 2, 2, 2, 1]  # the second was read to its end and refused


def test_a_broken_chunk_is_followed_by_a_smaller_one(emulator: Emulator) -> None:
    """After a failure the next chunk is half as large, so that less is at stake."""
    emulator.faults.add({"on": PUT, "do": "status", "status": 503, "when": "after_body"})
    session = Session(emulator, zeros(17))
    session.upload(None, clock=Steps(5))
    assert sizes_of(session) == [8, 4, 4, 1]


def test_after_silence_a_small_chunk(emulator: Emulator) -> None:
    """After a PUT without a reply the next one is small, so that its refusal can be read."""
    emulator.faults.add({"on": PUT, "do": "lost_reply"})
    session = Session(emulator, zeros(17))
    session.upload(None, clock=Steps(5))
    sizes = [exchange.body_bytes for exchange in requests_of(emulator, "PUT")]
    assert sizes == [8 * MIB, PROBE_BYTES, 4 * MIB, 4 * MIB, MIB - PROBE_BYTES]


def test_a_careful_chunk_is_no_larger(emulator: Emulator) -> None:
    """The small chunk after a silence is never larger than the given chunk size."""
    emulator.faults.add({"on": PUT, "do": "reset", "after_bytes": 1, "keep": False})
    session = Session(emulator, some_bytes(40))
    session.upload()
    assert max(exchange.body_bytes for exchange in requests_of(emulator, "PUT")) == 4


PROXY = "<html><title>413 Request Entity Too Large</title></html>"


@pytest.mark.parametrize("chunk_size", [None, 16 * MIB], ids=["adaptive", "given"])
@pytest.mark.parametrize("closes", [False, True], ids=["reads", "closes"])
def test_a_413_of_a_proxy_halves_the_chunks(chunk_size: int | None, closes: bool) -> None:
    """A 413 that is not the contract's is a proxy's: chunks are halved until they pass, and stay so."""
    with strict_emulator(max_body_bytes=3 * MIB, proxy_closes=closes) as emulator:
        session = Session(emulator, zeros(17))
        assert session.upload(chunk_size, clock=Steps(0.1)).complete
        assert len(session.bytes) == 17 * MIB
        taken = [e.body_bytes for e in requests_of(emulator, "PUT") if e.status == 200]
        refused = [e for e in requests_of(emulator, "PUT") if e.status == 413]
    assert taken == [2 * MIB] * 8 + [MIB]
    assert len(refused) == (2 if chunk_size is None else 3)
    assert session.waits == []


def test_proxy_limit_for_a_small_file(emulator: Emulator) -> None:
    """A file that a proxy refuses as a whole is sent in chunks."""
    with strict_emulator(max_body_bytes=2 * MIB) as proxied:
        session = Session(proxied, some_bytes(5 * MIB))
        assert session.upload(None, ask=False).complete
        assert session.bytes == some_bytes(5 * MIB)


@pytest.mark.parametrize("chunk_size", [None, 8 * MIB, 3 * MIB], ids=["adaptive", "given", "given, odd"])
def test_the_default_limit_of_nginx_is_passed(chunk_size: int | None) -> None:
    """An upload passes a proxy that accepts a mebibyte, as nginx does by default, with any chunk size."""
    with strict_emulator(max_body_bytes=MIB) as emulator:
        session = Session(emulator, zeros(9))
        assert session.upload(chunk_size).complete


def test_proxy_limit_that_is_too_low() -> None:
    """A proxy that lets less than a mebibyte through is given up, and the message names a proxy."""
    with strict_emulator(max_body_bytes=MIB - 1) as emulator:
        session = Session(emulator, zeros(9))
        with pytest.raises(FileRejectedError, match="proxy") as raised:
            session.upload(None)
    assert (raised.value.status, raised.value.code) == (413, None)
    assert len(session.starts) == 4


def test_a_rate_limit_does_not_shrink_chunks(emulator: Emulator) -> None:
    """A rate limit does not change the chunk size, because smaller chunks would be more requests."""
    emulator.faults.add({"on": PUT, "do": "rate_limit", "retry_after": 1})
    session = Session(emulator, zeros(17))
    session.upload(None, clock=Steps(5))
    assert sizes_of(session) == [8, 8, 8, 1]


def test_the_reader_stays_open(emulator: Emulator) -> None:
    """A source is opened once for all its chunks, and closed at the end."""
    session = Session(emulator, some_bytes(50))
    session.upload()
    assert isinstance(session.source, MemorySource)
    assert (session.source.opened, session.source.open_readers) == ([0], 0)


# -- failures


@pytest.mark.parametrize(
    ("fault", "starts", "received"),
    [
        ({"do": "status", "status": 503, "when": "before_body"}, [0, 4, 4, 8], [4, 4, 8, 10]),
        ({"do": "status", "status": 503, "when": "after_body"}, [0, 4, 8], [4, 8, 10]),
        ({"do": "status", "status": 500, "close": True}, [0, 4, 4, 8], [4, 4, 8, 10]),
        ({"do": "reset", "after_bytes": 0}, [0, 4, 4, 8], [4, 4, 8, 10]),
        ({"do": "reset", "after_bytes": 3, "keep": False}, [0, 4, 4, 8], [4, 4, 8, 10]),
        ({"do": "reset", "after_bytes": 3, "keep": True}, [0, 4, 7], [4, 7, 10]),
        ({"do": "reset", "after_bytes": 4, "keep": True}, [0, 4, 8], [4, 8, 10]),
        ({"do": "lost_reply"}, [0, 4, 8], [4, 8, 10]),
        ({"do": "status", "status": 200, "body": "<p>Welcome"}, [0, 4, 4, 8], [4, 4, 8, 10]),
        ({"do": "truncate"}, [0, 4, 8], [4, 8, 10]),
        ({"do": "garbage"}, [0, 4, 8], [4, 8, 10]),
        ({"do": "status", "status": 200, "body": {"received": 99, "total": 10}}, [0, 4, 4, 8], [4, 4, 8, 10]),
    ],
    ids=[
        "5xx before",
        "5xx after",
        "5xx at once",
        "reset at once",
        "reset, bytes lost",
        "reset, bytes kept",
        "reset at the end",
        "lost reply",
        "page",
        "reply cut off",
        "reply replaced",
        "contradiction",
    ],
)
def test_a_failure_asks_the_server_and_continues(
    emulator: Emulator, fault: dict[str, Any], starts: list[int], received: list[int]
) -> None:
    """After a failure the client asks the server once and continues from its number, one wait later."""
    emulator.faults.add({"on": PUT, "skip": 1, **fault})
    session = Session(emulator)
    assert session.upload() == FileProgress(10, 10, True)
    assert session.bytes == b"0123456789"
    assert (session.starts, session.received) == (starts, received)
    assert methods(emulator).count("GET") == 2
    assert len(session.waits) == 1


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ({"do": "status", "status": 503, "when": "before_body"}, ["PUT", "GET", "PUT"]),
        ({"do": "status", "status": 503, "when": "after_body"}, ["PUT", "GET"]),
        ({"do": "lost_reply"}, ["PUT", "GET"]),
        ({"do": "reset", "after_bytes": 5, "keep": True}, ["PUT", "GET", "PUT"]),
        ({"do": "reset", "after_bytes": 5, "keep": False}, ["PUT", "GET", "PUT"]),
        ({"do": "rate_limit"}, ["PUT", "GET", "PUT"]),
    ],
    ids=["5xx before", "5xx after", "lost reply", "reset, kept", "reset, lost", "429"],
)
def test_one_failure_of_a_whole_file(emulator: Emulator, fault: dict[str, Any], requests: list[str]) -> None:
    """A whole-file PUT that fails is not simply sent again: first the client asks how many bytes arrived."""
    emulator.faults.add({"on": PUT, **fault})
    session = Session(emulator)
    assert session.upload(100, ask=False).complete
    assert session.bytes == b"0123456789"
    assert methods(emulator) == requests


def test_lost_reply_to_the_last_chunk(emulator: Emulator) -> None:
    """A lost reply to the last chunk still ends in a complete file, and no byte is sent twice."""
    emulator.faults.add({"on": PUT, "do": "lost_reply", "skip": 2})
    session = Session(emulator)
    assert session.upload().complete
    assert session.starts == [0, 4, 8]


@pytest.mark.parametrize("when", ["before_body", "after_body"])
def test_a_silent_server_is_asked_again(emulator: Emulator, when: str) -> None:
    """If the server is silent until the read timeout, it is asked again, and never gets two PUTs at once."""
    emulator.faults.add({"on": PUT, "do": "stall", "when": when, "seconds": 0.4, "skip": 1})
    session = Session(emulator, read_timeout=0.15)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert len(session.waits) >= 1
    if when == "after_body":  # the whole chunk was read before the silence
        assert session.starts == [0, 4, 8]


def test_server_is_down_for_a_while(emulator: Emulator) -> None:
    """While the server fails at everything, the client asks it with growing waits, and then continues."""
    emulator.faults.add(
        {"on": PUT, "do": "status", "status": 503, "skip": 1},
        {"on": GET, "do": "status", "status": 503, "skip": 1, "times": 4},
    )
    session = Session(emulator, random=lambda: 1.0)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert session.waits == [1, 1, 2, 4, 8]


def test_server_stays_down(emulator: Emulator) -> None:
    """A server that does not even tell its bytes ends the attempt with its own retryable failure."""
    emulator.faults.add(
        {"on": PUT, "do": "status", "status": 503}, {"on": GET, "do": "lost_reply", "skip": 1, "times": 6}
    )
    session = Session(emulator, tries=2)
    with pytest.raises(NoReplyError) as raised:
        session.upload()
    assert raised.value.retryable
    assert isinstance(session.source, MemorySource)
    assert session.source.open_readers == 0


def test_a_409_with_a_higher_number_is_trusted(emulator: Emulator) -> None:
    """A 409 with a higher mark is trusted: no wait, no question, no byte twice."""
    conflict = {"error": "non_contiguous_chunk", "received": 8}
    emulator.faults.add(
        {"on": PUT, "do": "status", "status": 409, "when": "after_body", "body": conflict, "skip": 1}
    )
    session = Session(emulator)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert (session.starts, session.received, session.waits) == ([0, 4, 8], [4, 8, 10], [])
    assert methods(emulator).count("GET") == 1


def lose_bytes(session: Session, at: int, left: int) -> Callable[[FileProgress], None]:
    """Return a function that makes the server lose bytes, once, as soon as it has this number of bytes."""
    done: list[bool] = []

    def on_progress(progress: FileProgress) -> None:
        session.progress.append(progress)
        if progress.received == at and not done:
            done.append(True)
            session.emulator.store.sessions[session.upload_id].files[NAME].received = left

    return on_progress


@pytest.mark.parametrize("left", [0, 2, 4], ids=["all", "some", "a chunk"])
def test_bytes_that_the_server_lost_are_sent_again(emulator: Emulator, left: int) -> None:
    """A server that lost bytes answers 409: they are read and sent again, from its number on."""
    session = Session(emulator)
    session.upload(on_progress=lose_bytes(session, 8, left))
    assert session.bytes == b"0123456789"
    assert session.starts[:4] == [0, 4, 8, left]
    assert session.received[:3] == [4, 8, left]
    assert len(session.waits) == 1
    assert isinstance(session.source, MemorySource)
    assert session.source.opened == [0, left]


def test_409_beyond_the_end(emulator: Emulator) -> None:
    """A 409 with a number beyond the file's end is not trusted: the server is asked."""
    conflict = {"error": "non_contiguous_chunk", "received": 99}
    emulator.faults.add({"on": PUT, "do": "status", "status": 409, "body": conflict, "skip": 1})
    session = Session(emulator)
    assert session.upload().complete
    assert session.bytes == b"0123456789"


def test_409_for_ever(emulator: Emulator) -> None:
    """A server that answers nothing but 409 is given up."""
    conflict = {"error": "non_contiguous_chunk", "received": 0}
    emulator.faults.add({"on": PUT, "do": "status", "status": 409, "body": conflict, "times": 4})
    session = Session(emulator, tries=3)
    with pytest.raises(UploadStalledError):
        session.upload()
    assert len(session.waits) == 3


def test_a_forgotten_file_is_sent_from_its_beginning(emulator: Emulator) -> None:
    """A file that the server forgot after a failure is sent from its beginning."""
    emulator.faults.add({"on": PUT, "do": "status", "status": 503, "skip": 1})
    session = Session(emulator)
    files = emulator.store.sessions[session.upload_id].files

    class Forgetting(Waits):
        def __call__(self, seconds: float) -> None:
            super().__call__(seconds)
            files.clear()

    client = client_for(emulator, sleep=Forgetting())
    assert upload(client, session.upload_id, session.source, NAME, chunks=ChunkSizer(4)).complete
    assert session.bytes == b"0123456789"
    assert session.starts == [0, 4, 0, 4, 8]


@pytest.mark.parametrize("there", [True, False], ids=["begun", "complete"])
def test_another_total_is_a_changed_source(emulator: Emulator, there: bool) -> None:
    """A total on the server that is not the source's size is a changed source, before any byte is sent."""
    session = Session(emulator)
    session.put(b"012", 0, 5 if there else 3)
    with pytest.raises(SourceChangedError, match="Clear the session task") as raised:
        session.upload()
    error = raised.value
    assert (error.filename, error.received, error.total) == (NAME, 3, 5 if there else 3)
    assert not error.retryable
    assert methods(emulator) == ["GET"]
    assert isinstance(session.source, MemorySource)
    assert (session.source.opened, session.waits) == ([], [])


def test_another_total_of_an_empty_source(emulator: Emulator) -> None:
    """A source that is empty now, of a file that was not, is a changed source."""
    session = Session(emulator, b"")
    session.put(b"012", 0, 5)
    with pytest.raises(SourceChangedError):
        session.upload()
    assert methods(emulator) == ["GET"]


@pytest.mark.parametrize(
    "left", [0, 2, 4, 6], ids=["nothing", "in the first chunk", "one chunk", "in the second"]
)
def test_a_source_that_ends_early_is_a_changed_source(emulator: Emulator, left: int) -> None:
    """A source that ends early while it is read is a changed source: no retry, no question."""
    source = MemorySource(b"0123456789"[:left], size=10)
    session = Session(emulator, source)
    with pytest.raises(SourceChangedError, match=rf"ends at {left} bytes and had 10") as raised:
        session.upload(ask=False)
    assert raised.value.total == 10
    assert not raised.value.retryable
    assert session.waits == []
    assert "GET" not in methods(emulator)
    assert source.open_readers == 0


def test_what_a_shrinking_source_tells(emulator: Emulator) -> None:
    """The error of a source that ends early contains the file, and the bytes that the server has."""
    session = Session(emulator, MemorySource(b"012345", size=10))
    with pytest.raises(SourceChangedError) as raised:
        session.upload(ask=False)
    assert (raised.value.filename, raised.value.received, raised.value.total) == (NAME, 4, 10)


def test_source_that_changes_while_it_is_read(emulator: Emulator) -> None:
    """A source that is another by the time its last byte is read is never complete on the server."""
    source = MemorySource(some_bytes(3 * MIB))
    session = Session(emulator, source)

    def change(progress: FileProgress) -> None:
        source.changed = True

    with pytest.raises(SourceChangedError) as raised:
        session.upload(MIB, on_progress=change)
    assert (raised.value.filename, raised.value.received) == (NAME, 2 * MIB)
    progress = session.client.get_file_progress(session.upload_id, NAME)
    assert progress is not None
    assert not progress.complete
    assert (source.checked, source.open_readers, session.waits) == (1, 0, [])


@pytest.mark.parametrize("size", [1, MIB, 3 * MIB], ids=["one byte", "one block", "three"])
def test_source_is_looked_at_again_once(emulator: Emulator, size: int) -> None:
    """The source is checked for changes once, before its last byte is sent."""
    session = Session(emulator, some_bytes(size))
    session.upload(2 * MIB)
    assert isinstance(session.source, MemorySource)
    assert session.source.checked == 1


def test_empty_source_that_grows(emulator: Emulator) -> None:
    """A source that was empty at the start and no longer is is not complete as an empty file."""
    source = MemorySource(b"")
    source.changed = True
    session = Session(emulator, source)
    with pytest.raises(SourceChangedError):
        session.upload()
    assert requests_of(emulator, "PUT") == []


def test_source_cannot_be_opened(emulator: Emulator) -> None:
    """If a source permanently cannot be opened, the upload ends immediately with the source's error."""

    class Locked(MemorySource):
        def open(self, offset: int) -> Any:
            raise SourceError("no permission", path=self.path)

    session = Session(emulator, Locked(b"0123456789"))
    with pytest.raises(SourceError, match="no permission"):
        session.upload()
    assert session.waits == []


def test_source_fails_for_good(emulator: Emulator) -> None:
    """If a source permanently cannot be read further, the upload ends immediately with the source's error."""
    source = HiccupSource(some_bytes(3 * MIB), at=MIB, retryable=False)
    session = Session(emulator, source)
    with pytest.raises(SourceError, match="the store hung up"):
        session.upload(None, ask=False)
    assert "GET" not in methods(emulator)
    assert (source.opened, source.open_readers, session.waits) == ([0], 0, [])


@pytest.mark.parametrize("keep", [False, True], ids=["cut bytes lost", "cut bytes kept"])
@pytest.mark.parametrize(
    "at", [MIB, 2 * MIB, 3 * MIB + 1], ids=["in the first", "in the second", "between blocks"]
)
def test_a_source_that_fails_once_is_opened_again(keep: bool, at: int) -> None:
    """A source whose reader fails once is opened again at the same position, in the middle of the chunk."""
    source = HiccupSource(some_bytes(5 * MIB), at=at)
    with strict_emulator(keep_cut_bytes=keep) as emulator:
        session = Session(emulator, source)
        assert session.upload(2 * MIB, ask=False).complete
        assert session.bytes == source.data
        assert session.starts == [0, 2 * MIB, 4 * MIB]
    assert (source.opened, source.open_readers, session.waits) == ([0, at], 0, [])


@pytest.mark.parametrize(
    "keep",
    [
        False,
        pytest.param(True),
    ],
    ids=["cut bytes lost", "cut bytes kept"],
)
def test_source_fails_for_a_while(keep: bool) -> None:
    """If a source's readers fail several times in one place, it waits, opens a new one, and completes."""
    source = HiccupSource(some_bytes(5 * MIB), at=MIB, readers=3)
    with strict_emulator(keep_cut_bytes=keep) as emulator:
        session = Session(emulator, source, waits=Waits(really=0.2))
        assert session.upload(2 * MIB, ask=False).complete
        assert session.bytes == source.data
    assert 1 <= len(session.waits) <= 2
    assert source.open_readers == 0


# -- giving up


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "status", "status": 503},
        {"do": "reset", "after_bytes": 2, "keep": False},
        {"do": "status", "status": 200, "body": {"received": 4, "total": 10, "complete": False}},
    ],
    ids=["5xx", "resets", "a mark that stays"],
)
def test_an_upload_that_does_not_grow_is_given_up(emulator: Emulator, fault: dict[str, Any]) -> None:
    """An upload whose mark does not grow is given up after all waits, with the server's number of bytes."""
    emulator.faults.add({"on": PUT, "skip": 1, "times": 4, **fault})
    session = Session(emulator, tries=3)
    with pytest.raises(UploadStalledError, match="Run the task again to resume") as raised:
        session.upload()
    error = raised.value
    assert (error.filename, error.received, error.total, error.retryable) == (NAME, 4, 10, True)
    assert len(session.waits) == 3
    assert len(session.starts) == 5
    assert "stalled at 4 of 10 bytes" in str(error)


def test_growth_restores_patience(emulator: Emulator) -> None:
    """As long as the mark grows now and then, an upload is not given up, however often it fails."""
    emulator.faults.add({"on": PUT, "do": "reset", "after_bytes": 1, "keep": True, "times": 9})
    session = Session(emulator, tries=2)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert len(session.waits) == 9


def test_patience_is_not_restored_by_bytes_that_were_there_before(emulator: Emulator) -> None:
    """A mark that falls and climbs back to its old value has not grown."""
    session = Session(emulator, tries=3)
    file = emulator.store.sessions[session.upload_id].files

    def on_progress(progress: FileProgress) -> None:
        if progress.received == 8:
            file[NAME].received = 0

    with pytest.raises(UploadStalledError):
        session.upload(on_progress=on_progress)
    assert len(session.waits) == 3


def test_the_last_failure_is_told(emulator: Emulator) -> None:
    """An upload that is given up contains the last failure in its message, and as its cause."""
    emulator.faults.add({"on": PUT, "do": "status", "status": 502, "times": 2})
    session = Session(emulator, tries=1)
    with pytest.raises(UploadStalledError, match="502") as raised:
        session.upload()
    assert isinstance(raised.value.__cause__, ApiError)


# -- refusals and rate limits


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_filename"),
        (401, "invalid_api_key"),
        (402, "storage_quota_exceeded"),
        (403, "tariff_forbids_upload"),
        (404, "upload_session_not_found"),
        (404, "file_not_found"),
        (411, "length_required"),
        (413, "file_too_large"),
        (415, "extension_not_allowed"),
        (418, "teapot"),
        (301, "moved"),
    ],
)
@pytest.mark.parametrize("chunk_size", [4, 100], ids=["chunks", "whole"])
def test_refusals_are_asked_once(emulator: Emulator, status: int, code: str, chunk_size: int) -> None:
    """A refused request is sent once and never again: one PUT, no wait, no question after it."""
    emulator.faults.add({"on": PUT, "do": "status", "status": status, "body": {"error": code}})
    session = Session(emulator)
    with pytest.raises(ApiError) as raised:
        session.upload(chunk_size)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert (methods(emulator), session.waits) == (["GET", "PUT"], [])
    assert isinstance(session.source, MemorySource)
    assert session.source.open_readers == 0


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_questions_are_asked_once(emulator: Emulator, status: int) -> None:
    """A refusal of the question itself ends the upload before any byte."""
    body = {"error": "upload_session_not_found" if status == 404 else "insufficient_scope"}
    emulator.faults.add({"on": GET, "do": "status", "status": status, "body": body})
    session = Session(emulator)
    with pytest.raises(ApiError):
        session.upload()
    assert (methods(emulator), session.waits) == (["GET"], [])


def test_real_refusals() -> None:
    """A refused extension or size is sent only once to the emulator, for any size of the file."""
    with strict_emulator(extensions=["las"], max_file_bytes=5) as emulator:
        session = Session(emulator, zeros(9))
        with pytest.raises(FileRejectedError) as foreign:
            session.upload(None)
        with pytest.raises(FileRejectedError) as large:
            upload(session.client, session.upload_id, session.source, "scan.las")
        assert methods(emulator) == ["GET", "PUT"] * 2
        assert session.waits == []
    assert (foreign.value.extension, foreign.value.allowed) == ("e57", ["las"])
    assert large.value.limit == 5


def test_refusal_that_does_not_wait_for_the_body(emulator: Emulator) -> None:
    """A server that refuses over plain http while the body is still being sent is understood."""
    body = {"error": "extension_not_allowed", "extension": "e57", "allowed": ["las"]}
    emulator.faults.add({"on": PUT, "do": "status", "status": 415, "close": True, "body": body})
    session = Session(emulator, zeros(32))
    with pytest.raises(FileRejectedError):
        session.upload(32 * MIB, ask=False)
    assert (methods(emulator), session.waits) == (["PUT"], [])


def test_refusal_that_does_not_wait_for_the_body_over_tls(tmp_path: Path) -> None:
    """A server that refuses over TLS while the body is still being sent is understood in the end."""
    paths = certificate(tmp_path)
    body = {"error": "extension_not_allowed", "extension": "e57", "allowed": ["las"]}
    with Emulator(tls=paths) as emulator:
        emulator.faults.add(
            {"on": PUT, "do": "status", "status": 415, "close": True, "body": body, "times": 50}
        )
        session = Session(emulator, zeros(16), verify=str(paths[0]))
        outcome = outcome_of(lambda: session.upload(8 * MIB, ask=False))
    assert isinstance(outcome, FileRejectedError), repr(outcome)


def test_a_discarded_session_ends_the_upload(emulator: Emulator) -> None:
    """If a session is discarded during an upload, the upload ends immediately."""
    session = Session(emulator)

    def discard(progress: FileProgress) -> None:
        session.client.delete_upload_session(session.upload_id)

    with pytest.raises(UploadSessionNotFoundError):
        session.upload(on_progress=discard)
    assert session.waits == []


UNEXPECTED: dict[str, dict[str, Any]] = {
    "408": {"status": 408, "body": "<p>Request Timeout"},
    "421": {"status": 421, "body": "<p>Misdirected Request"},
    "425": {"status": 425, "body": ""},
    "404 page": {"status": 404, "body": "<p>Not Found"},
    "404 of another server": {"status": 404, "body": {"detail": "Not Found"}},
    "404 cut off": {"status": 404, "body": '{"error": "upload_session_not_f'},
    "403 page": {"status": 403, "body": "<p>Request blocked"},
}


@pytest.mark.parametrize("fault", UNEXPECTED.values(), ids=UNEXPECTED.keys())
@pytest.mark.parametrize("endpoint", [PUT, GET])
def test_replies_that_are_not_the_apis_are_waited_for(
    emulator: Emulator, endpoint: str, fault: dict[str, Any]
) -> None:
    """A proxy's reply in the middle of an upload ends nothing: the server is asked, and it continues."""
    emulator.faults.add({"on": endpoint, "do": "status", "times": 2, **fault})
    session = Session(emulator)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert len(session.waits) == 2


@pytest.mark.parametrize("endpoint", ["* /**", PUT])
def test_another_web_server_is_given_up(emulator: Emulator, endpoint: str) -> None:
    """A server that always answers with a page is given up after a minute of waits, with the next step."""
    session = Session(emulator, random=lambda: 1.0)
    emulator.faults.add({"on": endpoint, "do": "status", "status": 404, "body": "<p>Not Found", "times": 7})
    with pytest.raises((UnexpectedReplyError, UploadStalledError), match="host is a 360 server") as raised:
        session.upload()
    assert raised.value.retryable
    assert sum(session.waits) == 1 + 2 + 4 + 8 + 16 + 20


@pytest.mark.parametrize("endpoint", [PUT, GET])
def test_retry_after_of_a_503_is_obeyed(emulator: Emulator, endpoint: str) -> None:
    """A server in maintenance is left alone for as long as it asks, and chunks stay as large."""
    fault = {"on": endpoint, "do": "status", "status": 503}
    emulator.faults.add({**fault, "headers": {"Retry-After": "30"}, "times": 2})
    session = Session(emulator, zeros(17))
    assert session.upload(None, clock=Steps(5)).complete
    assert session.waits == [30, 30]
    assert sizes_of(session)[-3:] == [8, 8, 1]


@pytest.mark.parametrize("endpoint", [PUT, GET])
def test_a_long_retry_after_of_a_503_is_raised(emulator: Emulator, endpoint: str) -> None:
    """A maintenance that is too long to wait for in place is raised immediately, with its number."""
    emulator.faults.add({"on": endpoint, "do": "status", "status": 503, "headers": {"Retry-After": "61"}})
    session = Session(emulator)
    with pytest.raises(ServerError) as raised:
        session.upload()
    assert (raised.value.retry_after, session.waits) == (61, [])


@pytest.mark.parametrize("endpoint", [PUT, GET])
def test_short_rate_limit_is_obeyed(emulator: Emulator, endpoint: str) -> None:
    """A rate limit of some seconds is waited for in full, and the upload completes."""
    emulator.faults.add({"on": endpoint, "do": "rate_limit", "retry_after": 30})
    session = Session(emulator)
    assert session.upload().complete
    assert session.bytes == b"0123456789"
    assert session.waits == [30]


@pytest.mark.parametrize(
    ("endpoint", "requests"), [(PUT, ["GET", "PUT"]), (GET, ["GET"])], ids=["PUT", "GET"]
)
def test_long_rate_limit_is_raised(emulator: Emulator, endpoint: str, requests: list[str]) -> None:
    """A rate limit that is too long to wait for in place is raised immediately, with its number."""
    emulator.faults.add({"on": endpoint, "do": "rate_limit", "retry_after": 61})
    session = Session(emulator)
    with pytest.raises(RateLimitedError) as raised:
        session.upload()
    assert (raised.value.retry_after, raised.value.retryable) == (61, True)
    assert (methods(emulator), session.waits) == (requests, [])


def test_rate_limit_without_end(emulator: Emulator) -> None:
    """A rate limit that does not end comes out as itself, since a stall it is not."""
    emulator.faults.add({"on": PUT, "do": "rate_limit", "retry_after": 1, "times": 4})
    session = Session(emulator, tries=3)
    with pytest.raises(RateLimitedError):
        session.upload()
    assert len(session.waits) == 3


def test_real_rate_limit() -> None:
    """An upload of more chunks than the limit allows waits its minute out and completes."""
    now = [1_000_000.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    with strict_emulator(limits=0.005, clock=lambda: now[0]) as emulator:  # 6 PUTs and 3 GETs a minute
        source = MemorySource(some_bytes(30))
        client = client_for(emulator, sleep=sleep)
        upload_id = client.create_upload_session().upload_id
        assert upload(client, upload_id, source, NAME, chunks=ChunkSizer(4)).complete
        assert held(emulator, upload_id, NAME) == source.data
    assert sum(waits) >= 60


# -- progress


def test_progress_is_the_server_s(emulator: Emulator) -> None:
    """Progress is the server's number, as whole numbers of the whole file, down as well as up."""
    session = Session(emulator)
    session.put(b"01", 0, 10)
    session.upload(on_progress=lose_bytes(session, 6, 1))
    assert session.received == [2, 6, 1, 5, 9, 10]
    assert {progress.total for progress in session.progress} == {10}
    assert [progress.complete for progress in session.progress] == [False] * 5 + [True]


def test_an_error_of_the_listener_comes_through(emulator: Emulator) -> None:
    """An error in the progress callback ends the upload, and the reader is closed."""
    session = Session(emulator)

    def fail(progress: FileProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.upload(on_progress=fail)
    assert isinstance(session.source, MemorySource)
    assert session.source.open_readers == 0


def test_source_of_unknown_blocks(emulator: Emulator) -> None:
    """A reader that returns less than requested, like that of a network, is read until the chunk is full."""

    class Dripping(MemorySource):
        def open(self, offset: int) -> Any:
            reader = super().open(offset)

            class Drip:
                def read(self, size: int, /) -> bytes:
                    return reader.read(min(size, 3))

                def close(self) -> None:
                    reader.close()

            return Drip()

    source = Dripping(some_bytes(100))
    session = Session(emulator, source)
    session.upload(40)
    assert session.bytes == source.data
    assert session.starts == [0, 40, 80]
    assert (source.opened, source.open_readers) == ([0], 0)


# -- a connection that stood idle


@pytest.mark.parametrize("rst", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("stood", ["idle", "in use"])
def test_idle_connection_that_is_closed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, stood: str, rst: bool
) -> None:
    """A PUT on an idle connection that is being closed is sent again after a question, not as a failure."""
    monkeypatch.setattr("airflow_360.api.connections.IDLE_SECONDS", -1.0 if stood == "idle" else 60.0)
    emulator.faults.add({"on": PUT, "do": "hang_up", "rst": rst, "skip": 1})
    session = Session(emulator, some_bytes(6000))
    session.upload(2000)
    assert session.bytes == some_bytes(6000)
    assert methods(emulator) == ["GET", "PUT", "PUT", "GET"] + ["PUT"] * (2 if stood == "idle" else 3)
    assert len(session.waits) == (0 if stood == "idle" else 1)


@pytest.mark.parametrize("rst", [False, True], ids=["FIN", "RST"])
def test_a_server_that_always_hangs_up(rst: bool) -> None:
    """After a PUT broke on a reused connection, each of the following ones opens its own."""
    with Emulator() as emulator:
        session = Session(emulator, some_bytes(40_000))
        emulator.faults.add({"on": "PUT /uploads/*/*", "do": "hang_up", "rst": rst, "times": 99})
        for name in (NAME, f"b.{NAME}"):
            upload(session.client, session.upload_id, session.source, name, chunks=ChunkSizer(10_000))
            assert held(emulator, session.upload_id, name) == some_bytes(40_000)
        assert emulator.faults.counts["hang_up"] == len(session.waits) == 1


# -- messages


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The log records of this package from here on."""
    caplog.set_level(logging.INFO, logger="airflow_360")
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener = Listener()
    logging.getLogger("airflow_360").addHandler(listener)
    yield messages
    logging.getLogger("airflow_360").removeHandler(listener)


def test_log_of_a_new_upload_and_of_a_complete_one(emulator: Emulator, told: list[str]) -> None:
    """The log of a new upload does not mention resuming; that of a complete one says that nothing is sent."""
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    for _ in range(2):
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    assert told == ["scan.e57: already complete on the server, nothing to send"]


def test_message_of_an_upload_that_stalls(emulator: Emulator) -> None:
    """The message of an upload that does not grow without a failure is only that."""
    body = {"received": 4, "total": 10, "complete": False}
    emulator.faults.add({"on": "PUT /uploads/*/*", "do": "status", "status": 200, "body": body, "times": 2})
    client = client_for(emulator, tries=0)
    upload_id = client.create_upload_session().upload_id
    with pytest.raises(UploadStalledError) as raised:
        upload(client, upload_id, MemorySource(b"0123456789"), "scan.e57", chunks=ChunkSizer(4))
    for fact in ("scan.e57", "4 of 10 bytes", "Run the task again"):
        assert fact in str(raised.value)
    assert "last failure" not in str(raised.value)


def test_log_of_a_chunk_that_a_proxy_refused(told: list[str]) -> None:
    """The log about a chunk that a proxy found too large contains the next size."""
    with strict_emulator(max_body_bytes=1 << 20) as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id
        source = MemorySource(bytes(3 << 20))
        upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(2 << 20), ask=False)
    (line,) = told
    for fact in (f"PUT /api/v1/uploads/{upload_id}/scan.e57", "413", "chunk_size", "client_max_body_size"):
        assert fact in line
    assert line.endswith("Sending at most 1.0 MiB at a time from here on.")


def test_messages_about_a_source_that_fails_or_ends_early(emulator: Emulator, told: list[str]) -> None:
    """The message about a source that fails has the byte; one that ends early names the next step."""
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    upload(client, upload_id, HiccupSource(some_bytes(10), at=4), "a.e57", chunks=ChunkSizer(20), ask=False)
    assert told == ["the store hung up Opening it again at byte 4."]
    with pytest.raises(SourceChangedError) as raised:
        upload(client, upload_id, MemorySource(b"012345", size=10), "b.e57", ask=False)
    for fact in ("scans/scan.e57", "ends at 6 bytes", "had 10", "clear the session task"):
        assert fact in str(raised.value)


@pytest.mark.parametrize("known", [False, True], ids=["nothing known", "begun"])
def test_a_file_of_one_chunk_has_a_range_only_if_it_was_begun(known: bool) -> None:
    """A file of one chunk is sent without a range if the server has nothing of it, otherwise with one."""
    begun = {"received": 0, "total": 4, "complete": False}
    with Recorder(http_reply(200, {"received": 4, "total": 4, "complete": True})) as server:
        progress = FileProgress.from_reply(begun) if known else None
        upload(
            client_for(server.url), "AAAAAAAA", MemorySource(b"scan"), "a.e57", ask=False, progress=progress
        )
    (put,) = server.heard
    assert put.headers.get("Content-Range") == ("bytes 0-3/4" if known else None)


@pytest.mark.parametrize(
    ("error", "may_be"),
    [
        (NoReplyError("broke"), True),
        (NoReplyError("refused", sent=False), False),
        (ServerError("proxy", status=502), True),
        (ServerError("maintenance", status=503, retry_after=60.0), False),
        (UnexpectedReplyError("proxy", status=408), True),
        (UnexpectedReplyError("proxy", status=409), False),
        (RateLimitedError("own", status=429), False),
    ],
)
def test_which_failures_make_chunks_smaller(error: ApiError | NoReplyError, may_be: bool) -> None:
    """A chunk becomes smaller only after a failure that its size or its duration can explain."""
    assert engine._may_be_its_size(error) is may_be


@pytest.mark.parametrize("chunk_size", [None, 4000], ids=["in one piece", "in chunks"])
def test_a_bandwidth_limit_is_obeyed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, chunk_size: int | None
) -> None:
    """Before each block the upload waits for the limiter, with blocks of no more than its size."""
    session = Session(emulator, some_bytes(10_000))
    bandwidth = session.client.bandwidth = Bandwidth(10_000)
    waited: list[int] = []
    monkeypatch.setattr(bandwidth, "wait", waited.append)
    session.upload(chunk_size)
    assert sum(waited) == 10_000
    assert max(waited) == bandwidth.block == 1000
