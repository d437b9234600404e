from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_360.api.backoff import Backoff
from airflow_360.api.check import check
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.emulator import Emulator

BOTH = ("projects:read", "projects:write")
KEYS = {"sk_both": BOTH, "sk_reader": ("projects:read",), "sk_writer": ("projects:write",)}


def checked(server: str, key: str = "sk_both") -> tuple[bool, str]:
    return check(ThreeSixtyClient(Transport(server, key, connect_timeout=2), Backoff(tries=0)))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(keys=KEYS) as emulator:
        yield emulator
        assert not emulator.faults.unused()
        # In all cases nothing was created, and no request was sent that could create anything.
        assert not emulator.store.sessions
        assert not emulator.store.projects
        assert {exchange.method for exchange in emulator.exchanges} <= {"GET"}


@contextmanager
def other_server(status: int, body: str, kind: str = "application/json") -> Iterator[str]:
    """Serve one answer to everything: no 360 server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            if status == 301:
                self.send_header("Location", "https://scans.example.org/api/v1/projects")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_key_with_both_scopes_passes(emulator: Emulator) -> None:
    """A key with both scopes is good; the check sends two requests."""
    good, said = checked(emulator.url)
    assert good
    assert said.startswith(f"{emulator.url} answers, and accepts the key for reading (projects:read) and for")
    assert [exchange.path for exchange in emulator.exchanges] == ["/projects", "/uploads/NotThere"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param("sk_nobody", "does not know this API key. GET", id="wrong key"),
        pytest.param("nonsense", "does not know this API key. GET", id="no key of a 360 server"),
        pytest.param("sk_writer", "it lacks the scope projects:read: make one that has it at", id="no read"),
        pytest.param(
            "sk_reader", "it lacks the scope projects:write: make one that has it at", id="no write"
        ),
    ],
)
def test_unknown_keys_and_missing_scopes_are_told_apart(emulator: Emulator, key: str, said: str) -> None:
    """A key that is not known, and a key that lacks one of the two scopes, are told apart."""
    good, text = checked(emulator.url, key)
    assert not good
    assert said in text
    assert key not in text


@pytest.mark.parametrize("skip", [0, 1], ids=["first question", "second question"])
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        pytest.param(403, "tariff_does_not_allow_api", "tariff does not include the API", id="tariff"),
        pytest.param(403, "email_not_verified", "does not let its account in", id="account"),
        pytest.param(429, "rate_limited", "cannot say now", id="rate limit"),
        pytest.param(503, "maintenance", "cannot say now", id="down"),
        pytest.param(403, None, "does not answer as a 360 server does", id="a wall before it"),
    ],
)
def test_other_refusals_are_told_apart(
    emulator: Emulator, skip: int, status: int, code: str | None, said: str
) -> None:
    """A tariff without the API, an account that is kept out and a bad moment are told apart."""
    body = {"error": code} if code else "<h1>Forbidden</h1>"
    emulator.faults.add({"on": "GET /**", "do": "status", "status": status, "body": body, "skip": skip})
    good, text = checked(emulator.url)
    assert not good
    assert said in text


def test_other_word_for_a_session_that_is_not_there(emulator: Emulator) -> None:
    """A server that calls the made-up session's id invalid has checked the key first."""
    body = {"error": "invalid_upload_id"}
    emulator.faults.add({"on": "GET /uploads/*", "do": "status", "status": 400, "body": body})
    assert checked(emulator.url)[0]


def test_an_unreachable_server_names_the_setting() -> None:
    """If there is no server, the message says so, and names the setting to check."""
    good, text = checked("http://127.0.0.1:9")
    assert not good
    assert "no answer from http://127.0.0.1:9 (ConnectionRefusedError" in text
    assert "check the connection's host" in text


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(200, "<h1>Welcome</h1>", "is it a 360 server?", id="a page"),
        pytest.param(200, "[]", "is this a 360 server?", id="another API that answers anything"),
        pytest.param(404, '{"detail": "Not Found"}', "does not answer as a 360 server does", id="other API"),
        pytest.param(404, '{"error": "Not Found"}', "does not answer as a 360 server does", id="third API"),
        pytest.param(404, "nothing here", "does not answer as a 360 server does", id="web server"),
        pytest.param(401, "who are you?", "does not answer as a 360 server does", id="a proxy's log-in"),
        pytest.param(301, "", "https://scans.example.org/api/v1/projects: set the connection's", id="moved"),
    ],
)
def test_no_360_server(status: int, body: str, said: str) -> None:
    """Any other service there is distinguished from a 360 server that refuses the key."""
    with other_server(status, body) as url:
        good, text = checked(url)
    assert not good
    assert said in text
    assert "key" not in text.partition("GET")[0]
