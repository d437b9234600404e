"""The wire: keys, connections, pages, TLS and the end."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_360.emulator import Emulator, server
from tests.emulator.raw import OCTETS, Raw
from tests.fakes import certificate


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ({}, "missing_bearer_token"),
        ({"Authorization": "Basic sk_test"}, "missing_bearer_token"),
        ({"Authorization": "Bearer "}, "missing_bearer_token"),
        ({"Authorization": "Bearer pk_test"}, "invalid_api_key"),
    ],
)
def test_keys(emulator: Emulator, authorization: dict[str, str], code: str) -> None:
    """A request without a key, or with a wrong one, is refused by every endpoint."""
    with Raw(emulator, key=None) as raw:
        for method, path in (("POST", "/uploads"), ("PUT", "/uploads/AAAAAAAA/a.e57"), ("GET", "/projects")):
            assert raw.call(method, path, headers=authorization).refusal == (401, code)
    assert not any(exchange.key_ok for exchange in emulator.exchanges)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/uploads", "projects:write"),
        ("PUT", "/uploads/AAAAAAAA/a.e57", "projects:write"),
        ("GET", "/uploads/AAAAAAAA/a.e57", "projects:write"),
        ("GET", "/uploads/AAAAAAAA", "projects:write"),
        ("DELETE", "/uploads/AAAAAAAA", "projects:write"),
        ("POST", "/projects", "projects:write"),
        ("GET", "/projects", "projects:read"),
        ("GET", "/projects/AAAAAAAA", "projects:read"),
    ],
)
def test_scopes(method: str, path: str, scope: str) -> None:
    """A key of the account works if it has the scope, and any other key is unknown."""
    keys = {"sk_one": [scope], "sk_other": {"projects:read", "projects:write"} - {scope}}
    refused = {"sk_other": (403, "insufficient_scope"), "sk_stranger": (401, "invalid_api_key")}
    with Emulator(keys=keys) as emulator:
        for key in ("sk_one", *refused):
            with Raw(emulator, key) as raw:
                answer = raw.call(method, path)
            assert refused.get(key) == (answer.refusal if answer.status in (401, 403) else None)
        assert not emulator.store.projects


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("PATCH", "/uploads"), ("POST", "/uploads/AAAAAAAA/a.e57")]
)
def test_no_such_endpoint(raw: Raw, method: str, path: str) -> None:
    """Addresses that are not in the contract are not found."""
    assert raw.call(method, path).refusal == (404, "not_found")


def test_exchanges(raw: Raw, emulator: Emulator) -> None:
    """Each request to the API leaves a record, in order of arrival."""
    upload_id = raw.session()
    raw.chunk(upload_id, "a b.e57", b"abc", 0, 5)
    raw.chunk(upload_id, "a b.e57", b"de", 3, 5)
    raw.send("GET", "/state.json")
    seen = [(e.method, e.path, e.status, e.start, e.received_before) for e in emulator.exchanges]
    assert seen == [
        ("POST", "/uploads", 201, None, None),
        ("PUT", f"/uploads/{upload_id}/a b.e57", 200, 0, 0),
        ("PUT", f"/uploads/{upload_id}/a b.e57", 200, 3, 3),
    ]
    assert [(e.body_bytes, e.key_ok, e.at) for e in emulator.exchanges][2] == (2, True, 1_000_000.0)


@pytest.mark.parametrize("bound", [0, 2])
def test_bounded_exchanges(bound: int) -> None:
    """With `max_exchanges`, only the last requests are kept."""
    with Emulator(max_exchanges=bound) as emulator, Raw(emulator) as raw:
        for path in ("/1", "/2", "/3", "/4"):
            raw.call("GET", path)
        assert [e.path for e in emulator.exchanges] == ["/3", "/4"][:bound]


def test_refused_body_is_drained(raw: Raw) -> None:
    """A refused PUT is read to its end, so that its connection serves the next request."""
    upload_id = raw.session()
    assert raw.whole(upload_id, "a.exe", bytes(3_000_000)).status == 415
    connection = raw.http.sock
    assert raw.whole(upload_id, "a.e57", b"abc").status == 200
    assert raw.http.sock is connection


def test_refused_body_beyond_the_bound(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused PUT that is too long to be read gets its reply, and the connection is closed."""
    upload_id = raw.session()
    monkeypatch.setattr(server, "DRAIN_BYTES", 10)
    answer = raw.whole(upload_id, "a.exe", bytes(3_000_000))
    assert (answer.status, answer.headers["Connection"]) == (415, "close")


def test_length_required(raw: Raw) -> None:
    """A PUT without Content-Length is refused, whether it is silent on its length or comes in pieces."""
    path = f"/uploads/{raw.session()}/a.e57"
    assert raw.call("PUT", path, iter([b"abc", b"def"]), OCTETS).refusal == (411, "length_required")
    raw.http.putrequest("PUT", "/api/v1" + path)
    for name, value in {**raw.authorization, **OCTETS}.items():
        raw.http.putheader(name, value)
    raw.http.endheaders()
    assert raw.http.getresponse().status == 411


def test_expect_continue(raw: Raw, emulator: Emulator) -> None:
    """A client that waits for leave before it sends its body, as curl does, gets it."""
    upload_id = raw.session()
    head = f"PUT /api/v1/uploads/{upload_id}/a.e57 HTTP/1.1\r\nAuthorization: Bearer sk_x\r\nHost: x\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(emulator.url).port or 0), timeout=5) as client:
        client.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b"abc")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_page(raw: Raw) -> None:
    """The page and its state need no key, and the state contains the data of the page."""
    upload_id = raw.scan()
    raw.call("POST", "/projects", {"upload_id": upload_id, "title": "<script>"})
    page = raw.send("GET", "/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    state = raw.send("GET", "/state.json").json
    assert state["sessions"][0]["files"] == [
        {"name": "scan.e57", "received": 6, "total": 6, "complete": True}
    ]
    assert (state["projects"][0]["title"], state["projects"][0]["status"]) == ("<script>", 0)


def test_project_page(raw: Raw) -> None:
    """A project has a page at the same address as on the real server, and no other address has one."""
    name = raw.call("POST", "/projects", {"upload_id": raw.scan()}).json["name"]
    assert raw.send("GET", f"/projects/{name}").text == raw.send("GET", "/").text
    for path in ("/projects/AAAAAAAA", "/favicon.ico", f"/{name}/x"):
        assert raw.send("GET", path).status == 404


def test_page_writes_no_markup() -> None:
    """The page puts its data into text nodes only."""
    page = Path(server.__file__).with_name("page.html").read_text("utf-8")
    for hazard in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert hazard not in page


def test_bytes_in_flight_are_shown(raw: Raw, emulator: Emulator) -> None:
    """The page's state counts the bytes of a PUT that is still under way."""
    upload_id = raw.session()
    with Raw(emulator) as slow:
        slow.begin(upload_id, "a.e57", 4, b"ab")
        shown: list[int] = []
        while shown != [2]:
            shown = [file["received"] for file in emulator.store.state()["sessions"][0]["files"]]
        assert raw.received(upload_id, "a.e57") == 0


def test_tls(tmp_path: Path) -> None:
    """Over https everything works as over http, resets included, and a client without TLS does no harm."""
    files = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=files[0])
    with Emulator(tls=files) as emulator, Raw(emulator, tls=trust) as raw:
        assert emulator.url.startswith("https://127.0.0.1:")
        with Raw(emulator) as plain, pytest.raises((http.client.HTTPException, OSError)):
            plain.call("GET", "/projects")
        upload_id = raw.session()
        data = bytes(range(256)) * 10_000
        emulator.faults.add({"on": "PUT /uploads/*/*", "do": "reset", "after_bytes": 100_000})
        with pytest.raises(OSError):
            raw.whole(upload_id, "a.e57", data)
        raw.http.close()
        assert raw.received(upload_id, "a.e57") == 100_000
        assert raw.whole(upload_id, "a.e57", data).json["complete"]
        assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == data


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "status", "status": 413, "close": True},
        {"do": "truncate"},
        {"do": "lost_reply"},
        {"do": "hang_up"},
        {"do": "hang_up", "rst": True},
    ],
    ids=str,
)
def test_tls_faults(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Faults that end a connection also end it over https, with an error, and a new connection works."""
    files = certificate(tmp_path)
    with (
        Emulator(tls=files) as emulator,
        Raw(emulator, tls=ssl.create_default_context(cafile=files[0])) as raw,
    ):
        upload_id = raw.session()
        emulator.faults.add({"on": "PUT /uploads/*/*", **fault})
        with pytest.raises((OSError, http.client.HTTPException)):
            raw.whole(upload_id, "a.e57", bytes(20_000_000))
        raw.http.close()
        assert emulator.faults.unused() == []
        carried_out = fault["do"] in ("truncate", "lost_reply")
        assert [*emulator.store.sessions[upload_id].files] == (["a.e57"] if carried_out else [])
        assert raw.whole(upload_id, "a.e57", bytes(20_000_000)).json["complete"]


def test_close_leaves_nothing() -> None:
    """Closing ends all threads and connections immediately, and removes the temporary folder."""
    before = set(threading.enumerate())
    with Emulator() as emulator:
        clients = [Raw(emulator) for _ in range(5)]
        upload_id = clients[0].session()
        path = emulator.store.file_path(upload_id, "a.e57")
        for client in clients:
            client.call("GET", "/projects")
        clients[0].begin(upload_id, "a.e57", 10, b"half")
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert set(threading.enumerate()) == before
    assert not path.parent.parent.exists()
    for client in clients:
        client.http.close()


def test_unused_emulator() -> None:
    """An emulator that was never entered can be closed, and closed twice."""
    emulator = Emulator()
    emulator.close()
    emulator.close()


def test_data_dir_stays(tmp_path: Path) -> None:
    """Bytes in a given folder outlive the emulator."""
    with Emulator(data_dir=tmp_path) as emulator, Raw(emulator) as raw:
        upload_id = raw.scan()
    assert (tmp_path / upload_id / "scan.e57").read_bytes() == b"points"


def test_command_line(tmp_path: Path) -> None:
    """The command prints its address, logs requests without the key, and ends cleanly on a signal."""
    script = tmp_path / "faults.json"
    script.write_text('[{"on": "GET /uploads/*", "do": "lost_reply"}]', "utf-8")
    command = [sys.executable, "-m", "airflow_360.emulator", "--port", "0", "--faults", str(script)]
    with subprocess.Popen([*command, "--limits", "0.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
        connection.request("POST", "/api/v1/projects", headers={"Authorization": "Bearer sk_secret"})
        assert connection.getresponse().read() == b'{"error": "upload_id_or_download_link_required"}'
        connection.close()
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "POST /api/v1/projects 400" in rest
    assert "This fault did not happen" in rest
    assert "sk_secret" not in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "{folder}/missing.json"], "No such file"),
        (["--faults", "{folder}/bad.json"], "fault 1: 'on' is missing"),
        (["--limits", "some"], "--limits"),
    ],
)
def test_command_line_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    """A wrong option ends the command with a sentence, not with a traceback."""
    (tmp_path / "bad.json").write_text('[{"do": "reset"}]', "utf-8")
    command = [sys.executable, "-m", "airflow_360.emulator", *(a.format(folder=tmp_path) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
