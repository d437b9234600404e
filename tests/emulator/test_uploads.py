"""The rules of sessions and files, tested over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.emulator import Emulator
from airflow_360.emulator.files import flatten
from airflow_360.emulator.store import DEFAULT_EXTENSIONS
from tests.emulator.raw import OCTETS, Clock, Raw


def test_session(raw: Raw) -> None:
    """A session has an id of eight characters and a lifetime of 72 hours in its reply."""
    answer = raw.call("POST", "/uploads")
    assert answer.status == 201
    assert answer.json["expires_in_seconds"] == 72 * 3600
    assert len(answer.json["upload_id"]) == 8


def test_expiry(raw: Raw, clock: Clock, emulator: Emulator) -> None:
    """A session is gone 72 hours after its creation, with its bytes, whether it was used or not."""
    upload_id = raw.session()
    clock.advance(72 * 3600 - 1)
    assert raw.whole(upload_id, "a.e57", b"x").status == 200
    clock.advance(1)
    assert raw.call("GET", f"/uploads/{upload_id}").refusal == (404, "upload_session_not_found")
    assert not emulator.store.file_path(upload_id, "a.e57").exists()


def test_expiry_frees_the_disk(clock: Clock, tmp_path: Path) -> None:
    """An expired session is removed from disk and quota automatically; a project keeps its bytes."""
    with Emulator(clock=clock, data_dir=tmp_path, quota_bytes=12) as emulator, Raw(emulator) as raw:
        abandoned, used = raw.scan(), raw.session()
        raw.whole(used, "scan.e57", b"points")
        raw.call("POST", "/projects", {"upload_id": used})
        assert raw.call("POST", "/uploads").refusal == (402, "storage_quota_exceeded")
        clock.advance(72 * 3600)
        fresh = raw.session()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([used, fresh])
        assert emulator.store.file_path(used, "scan.e57").read_bytes() == b"points"
        assert list(emulator.store.sessions) == [fresh]
        for upload_id in (abandoned, used):
            gone = raw.call("POST", "/projects", {"upload_id": upload_id})
            assert gone.refusal == (404, "upload_session_not_found")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 9000], ids=["empty", "one byte", "2 MB"])
def test_whole_file(raw: Raw, emulator: Emulator, data: bytes) -> None:
    """A whole file, even an empty one, is complete after one PUT and has exactly its bytes."""
    upload_id = raw.session()
    complete = {"received": len(data), "total": len(data), "complete": True}
    assert raw.whole(upload_id, "a.e57", data).json == complete
    assert raw.call("GET", f"/uploads/{upload_id}/a.e57").json == complete
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == data


@given(data=st.binary(min_size=1, max_size=200), sizes=st.lists(st.integers(1, 80)), back=st.integers(0, 5))
def test_chunks(shared: Emulator, data: bytes, sizes: list[int], back: int) -> None:
    """Chunks that begin at or below the high-water mark end in the file's bytes, and it never shrinks."""
    with Raw(shared) as raw:
        upload_id, received = raw.session(), 0
        for size in [*sizes, len(data), len(data)]:
            start = min(max(0, received - back), len(data) - 1)
            answer = raw.chunk(upload_id, "a.e57", data[start : start + size], start, len(data))
            assert answer.json["received"] == max(received, min(start + size, len(data)))
            received = answer.json["received"]
        assert answer.json["complete"]
        assert shared.store.file_path(upload_id, "a.e57").read_bytes() == data


def test_gap(raw: Raw) -> None:
    """A gap is answered with 409 and the high-water mark, for an incomplete file and for a new one."""
    upload_id = raw.session()
    raw.chunk(upload_id, "a.e57", b"abc", 0, 10)
    for filename, received in (("a.e57", 3), ("b.e57", 0)):
        answer = raw.chunk(upload_id, filename, b"x", 5, 10)
        assert answer.status == 409
        assert answer.json == {"error": "non_contiguous_chunk", "received": received}
    assert raw.call("GET", f"/uploads/{upload_id}/b.e57").refusal == (404, "file_not_found")


def test_overlap(raw: Raw, emulator: Emulator) -> None:
    """A chunk that overlaps overwrites in place, and one that ends below the mark does not move it."""
    upload_id = raw.session()
    raw.chunk(upload_id, "a.e57", b"aaaa", 0, 6)
    assert raw.chunk(upload_id, "a.e57", b"b", 1, 6).json["received"] == 4
    assert raw.chunk(upload_id, "a.e57", b"ccc", 3, 6).json["complete"]
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == b"abaccc"


def test_complete_file_is_unchanged(raw: Raw, emulator: Emulator) -> None:
    """A PUT to a complete file, with any bytes and size, is read, ignored and answered with complete."""
    upload_id = raw.session()
    raw.whole(upload_id, "a.e57", b"first")
    complete = {"received": 5, "total": 5, "complete": True}
    assert raw.whole(upload_id, "a.E57", b"a second one").json == complete
    assert raw.chunk(upload_id, "a.e57", b"zz", 0, 5).json == complete
    assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == b"first"
    assert emulator.exchanges[-2].body_bytes == 12


def test_total_may_not_change(raw: Raw) -> None:
    """Another total for an incomplete file is an invalid_content_range."""
    upload_id = raw.session()
    raw.chunk(upload_id, "a.e57", b"abc", 0, 10)
    assert raw.chunk(upload_id, "a.e57", b"def", 3, 11).refusal == (400, "invalid_content_range")


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-2/*", "bytes */3", "bytes 2-1/3", "bytes 0-3/3", "0-2/3", "bytes 0-2/0", "bytes -1-1/3", ""],
)
def test_invalid_content_range(raw: Raw, content_range: str) -> None:
    """A Content-Range that is no range within its total is refused."""
    headers = {**OCTETS, "Content-Range": content_range}
    answer = raw.call("PUT", f"/uploads/{raw.session()}/a.e57", b"abc", headers)
    assert answer.refusal == (400, "invalid_content_range")


def test_chunk_length_mismatch(raw: Raw) -> None:
    """A body whose length differs from its Content-Range is refused, and nothing of it is kept."""
    upload_id = raw.session()
    headers = {**OCTETS, "Content-Range": "bytes 0-3/4"}
    answer = raw.call("PUT", f"/uploads/{upload_id}/a.e57", b"abc", headers)
    assert answer.refusal == (400, "chunk_length_mismatch")
    assert raw.call("GET", f"/uploads/{upload_id}").json["files"] == []


@pytest.mark.parametrize("upload_id", ["short", "far_too_long", "dots..xx", "%2e%2e%2f%2e%2e%2fx"])
def test_invalid_upload_id(raw: Raw, upload_id: str) -> None:
    """An id of a wrong shape is refused by every endpoint that takes one."""
    invalid = (400, "invalid_upload_id")
    assert raw.whole(upload_id.replace("%2f", "%252f"), "a.e57", b"x").refusal == invalid
    assert raw.call("GET", f"/uploads/{upload_id}").refusal == invalid
    assert raw.call("GET", f"/uploads/{upload_id}/a.e57").refusal == invalid
    assert raw.call("DELETE", f"/uploads/{upload_id}").refusal == invalid
    assert raw.call("POST", "/projects", {"upload_id": upload_id}).refusal == invalid


def test_unknown_session(raw: Raw) -> None:
    """A session that never was is not found."""
    missing = (404, "upload_session_not_found")
    assert raw.whole("AAAAAAAA", "a.e57", b"x").refusal == missing
    assert raw.call("GET", "/uploads/AAAAAAAA").refusal == missing
    assert raw.call("GET", "/uploads/AAAAAAAA/a.e57").refusal == missing


def test_list(raw: Raw) -> None:
    """A session lists its files with their progress, in order of arrival."""
    upload_id = raw.session()
    raw.whole(upload_id, "b.e57", b"x")
    raw.chunk(upload_id, "a.jpg", b"ab", 0, 3)
    assert raw.call("GET", f"/uploads/{upload_id}").json == {
        "upload_id": upload_id,
        "files": [
            {"name": "b.e57", "received": 1, "total": 1, "complete": True},
            {"name": "a.jpg", "received": 2, "total": 3, "complete": False},
        ],
    }


def test_delete(raw: Raw, emulator: Emulator) -> None:
    """A discarded session is gone with its bytes, and discarding it again changes nothing."""
    upload_id = raw.scan()
    for _ in range(2):
        answer = raw.call("DELETE", f"/uploads/{upload_id}")
        assert (answer.status, answer.json) == (200, {"deleted": True})
    assert raw.call("GET", f"/uploads/{upload_id}").status == 404
    assert not emulator.store.file_path(upload_id, "scan.e57").exists()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a b/Scän 1.E57", "a_b_Scan_1.e57"),
        ("../../x.e57", "x.e57"),
        ("..\\..\\x.e57", "x.e57"),
        ("/etc/passwd.txt", "etc_passwd.txt"),
        ("nul\0l.e57", "null.e57"),
        ("DJI_0001.JPG", "DJI_0001.jpg"),
        ("._hidden.e57", "hidden.e57"),
    ],
)
def test_names_are_flattened(raw: Raw, emulator: Emulator, sent: str, kept: str) -> None:
    """A name is kept flat, with its extension in lower case, and found again as it was sent."""
    upload_id = raw.session()
    assert raw.whole(upload_id, sent, b"x").status == 200
    assert raw.call("GET", f"/uploads/{upload_id}").json["files"][0]["name"] == kept
    assert emulator.store.file_path(upload_id, sent).name == kept
    assert emulator.store.file_path(upload_id, sent).read_bytes() == b"x"


@given(st.text())
def test_no_name_leaves_the_folder(name: str) -> None:
    """No name, however odd, flattens to anything but one plain part of a path, or to nothing."""
    flat = flatten(name)
    assert "/" not in flat
    assert "\\" not in flat
    assert "\0" not in flat
    assert not flat.startswith(".")
    assert flatten(flat) == flat


@pytest.mark.parametrize("filename", ["..", "/", "点云", "___", "x" * 252 + ".e57"])
def test_invalid_filename(raw: Raw, filename: str) -> None:
    """A name of which nothing is left, or too long for a file system, is refused."""
    assert raw.whole(raw.session(), filename, b"x").refusal == (400, "invalid_filename")


@pytest.mark.parametrize(("filename", "extension"), [("a.exe", "exe"), ("README", ""), (".e57", "")])
def test_extension_not_allowed(raw: Raw, filename: str, extension: str) -> None:
    """An extension that is not on the list is refused, with the list."""
    answer = raw.whole(raw.session(), filename, b"x")
    assert answer.status == 415
    assert answer.json == {
        "error": "extension_not_allowed",
        "extension": extension,
        "allowed": sorted(DEFAULT_EXTENSIONS),
    }


def test_other_extensions() -> None:
    """The list of extensions is the emulator's to choose."""
    with Emulator(extensions=["exe"]) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        assert raw.whole(upload_id, "a.exe", b"x").status == 200
        assert raw.whole(upload_id, "a.e57", b"x").json["allowed"] == ["exe"]


def test_size_limits() -> None:
    """A file or a session that would grow beyond its limit is refused with that limit."""
    with Emulator(max_file_bytes=10, max_session_bytes=15) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        answer = raw.chunk(upload_id, "a.e57", b"x", 0, 11)
        assert (answer.status, answer.json) == (413, {"error": "file_too_large", "limit": 10})
        assert raw.whole(upload_id, "a.e57", bytes(10)).status == 200
        answer = raw.whole(upload_id, "b.e57", bytes(6))
        assert (answer.status, answer.json) == (413, {"error": "session_too_large", "limit": 15})
        assert raw.whole(upload_id, "b.e57", bytes(5)).status == 200


@pytest.mark.parametrize("closes", [False, True])
def test_proxy_limit(closes: bool) -> None:
    """A body that a proxy in front finds too long is refused in the proxy's way, each time, and not kept."""
    with Emulator(max_body_bytes=10, proxy_closes=closes) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        for _ in range(2):
            answer = raw.chunk(upload_id, "a.e57", bytes(11), 0, 30)
            assert (answer.status, answer.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
            assert answer.headers.get("Connection") == ("close" if closes else None)
            assert emulator.exchanges[-1].body_bytes == (0 if closes else 11)
        assert emulator.store.sessions[upload_id].files == {}
        assert raw.chunk(upload_id, "a.e57", bytes(10), 0, 30).status == 200


def test_quota() -> None:
    """A full account creates no session, and one above its quota creates no project."""
    with Emulator(quota_bytes=10) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        raw.whole(upload_id, "a.e57", bytes(11))
        assert raw.call("POST", "/uploads").refusal == (402, "storage_quota_exceeded")
        answer = raw.call("POST", "/projects", {"upload_id": upload_id})
        assert answer.refusal == (402, "storage_quota_exceeded")
        raw.call("DELETE", f"/uploads/{upload_id}")
        assert raw.call("POST", "/uploads").status == 201


def test_second_put_in_flight(raw: Raw, emulator: Emulator) -> None:
    """A second PUT of a file while one is in flight gets a 409 and is noted as a violation."""
    upload_id = raw.session()
    half_sent = threading.Event()
    with Raw(emulator) as slow:
        slow.begin(upload_id, "a.e57", 4, b"ab")
        while not any(e.body_bytes == 2 for e in emulator.exchanges):
            half_sent.wait(0.005)
        assert emulator.violations == []
        answer = raw.whole(upload_id, "a.e57", b"abcd")
        assert (answer.status, answer.json) == (409, {"error": "non_contiguous_chunk", "received": 0})
        assert emulator.violations == [f"a second PUT of {upload_id}/a.e57 while one is in flight"]
        slow.http.send(b"cd")
        assert slow.http.getresponse().status == 200


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "forgotten"])
def test_cut_off(keep: bool) -> None:
    """Bytes of a PUT whose sender hung up count or not, as chosen, and the next PUT finds the file free."""
    with Emulator(keep_cut_bytes=keep) as emulator, Raw(emulator) as raw:
        upload_id = raw.session()
        for round_ in range(20):
            filename = f"{round_}.e57"
            with Raw(emulator) as cut:
                cut.begin(upload_id, filename, 6, b"abc")
                while not any(e.body_bytes == 3 and filename in e.path for e in emulator.exchanges):
                    threading.Event().wait(0.001)
            assert raw.received(upload_id, filename) == (3 if keep else 0)
            assert raw.whole(upload_id, filename, b"abcdef").json["complete"]
        assert emulator.violations == []


def test_content_type_is_required(raw: Raw, emulator: Emulator) -> None:
    """A PUT without the content type that the contract requires is noted as a violation."""
    upload_id = raw.session()
    assert raw.call("PUT", f"/uploads/{upload_id}/a.e57", b"x").status == 200
    assert emulator.violations == [
        f"a PUT of {upload_id}/a.e57 without Content-Type: application/octet-stream"
    ]
