"""The endpoints as methods, against the emulator on a real port."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    FileRejectedError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    OffsetMismatchError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadSessionNotFoundError,
)
from tests.fakes import (
    Recorder,
    Sized,
    Waits,
    client_for,
    held,
    http_reply,
    methods,
    outcome_of,
    strict_emulator,
)

Call = Callable[[ThreeSixtyClient], object]

REPEATED: dict[str, Call] = {
    "GET /uploads/*/*": lambda client: client.get_file_progress("AAAAAAAA", "a.e57"),
    "GET /uploads/*": lambda client: client.list_files("AAAAAAAA"),
    "DELETE /uploads/*": lambda client: client.delete_upload_session("AAAAAAAA"),
    "GET /projects/*": lambda client: client.get_project("AAAAAAAA"),
    "GET /projects": lambda client: client.list_projects(),
}
SENT_ONCE: dict[str, Call] = {
    "POST /uploads": lambda client: client.create_upload_session(),
    "POST /projects": lambda client: client.create_project({"upload_id": "AAAAAAAA"}),
    "PUT /uploads/*/*": lambda client: client.put_file("AAAAAAAA", "a.e57", b"abc"),
    "PUT /uploads/*/b.e57": lambda client: client.put_chunk(
        "AAAAAAAA", "b.e57", Sized(b"abc"), "bytes 0-2/3"
    ),
}


def test_the_whole_way(emulator: Emulator) -> None:
    """Session, file, chunks, list, project: every endpoint of the contract works as promised."""
    emulator.store.processing_seconds = 0
    client = client_for(emulator)
    session = client.create_upload_session()
    assert session.expires_in_seconds == 72 * 3600
    upload_id = session.upload_id
    assert client.list_files(upload_id) == []
    assert client.get_file_progress(upload_id, "a.e57") is None
    assert client.put_file(upload_id, "a.e57", b"whole") == FileProgress(5, 5, True)
    assert client.put_chunk(upload_id, "b.e57", Sized(b"ab", b"c"), "bytes 0-2/5") == FileProgress(
        3, 5, False
    )
    assert client.get_file_progress(upload_id, "b.e57") == FileProgress(3, 5, False)
    assert client.put_chunk(upload_id, "b.e57", Sized(b"de"), "bytes 3-4/5") == FileProgress(5, 5, True)
    assert client.list_files(upload_id) == [
        FileProgress(5, 5, True, "a.e57"),
        FileProgress(5, 5, True, "b.e57"),
    ]
    assert (held(emulator, upload_id, "a.e57"), held(emulator, upload_id, "b.e57")) == (b"whole", b"abcde")
    made = client.create_project({"upload_id": upload_id, "title": "Attic"})
    project = client.get_project(made.name)
    assert (made.ready, project.ready, project.record["title"]) == (False, True, "Attic")
    assert [entry["name"] for entry in client.list_projects()["projects"]] == [made.name]
    client.delete_upload_session(upload_id)
    client.delete_upload_session(upload_id)
    with pytest.raises(UploadSessionNotFoundError):
        client.list_files(upload_id)


def test_empty_file(emulator: Emulator) -> None:
    """An empty body is sent as a whole file of no bytes, with its length, and is complete immediately."""
    with Recorder(http_reply(200, {"received": 0, "total": 0, "complete": True})) as server:
        assert client_for(server.url).put_file("AAAAAAAA", "a.e57", b"").complete
    (heard,) = server.heard
    assert (heard.headers["Content-Length"], heard.headers.get("Content-Range")) == ("0", None)
    client = client_for(emulator)
    upload_id = client.create_upload_session().upload_id
    assert client.put_file(upload_id, "a.e57", b"") == FileProgress(0, 0, True)


def test_requests_have_the_form_of_the_contract(emulator: Emulator) -> None:
    """A PUT is octets of a known length with the range that was given; a project is JSON."""
    with Recorder(http_reply(200, {"received": 3, "total": 9, "complete": False})) as server:
        client_for(server.url).put_chunk("AAAAAAAA", "a b.e57", Sized(b"ab", b"c"), "bytes 0-2/9")
    (heard,) = server.heard
    assert (heard.method, heard.target, heard.body) == ("PUT", "/api/v1/uploads/AAAAAAAA/a%20b.e57", b"abc")
    wanted = {
        "Content-Type": "application/octet-stream",
        "Content-Range": "bytes 0-2/9",
        "Content-Length": "3",
    }
    assert {name: heard.headers.get(name) for name in wanted} == wanted
    assert "Transfer-Encoding" not in heard.headers
    with Recorder(http_reply(201, {"name": "p", "status": 0})) as server:
        client_for(server.url).create_project({"upload_id": "AAAAAAAA", "title": "Ä"})
    (heard,) = server.heard
    assert heard.headers["Content-Type"] == "application/json"
    assert json.loads(heard.body) == {"upload_id": "AAAAAAAA", "title": "Ä"}


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        ({"do": "lost_reply"}, 1),
        ({"do": "reset"}, 1),
        ({"do": "status", "status": 502}, 2),
        ({"do": "status", "status": 200, "body": "<p>Welcome"}, 2),
        ({"do": "rate_limit"}, 2),
    ],
    ids=["lost reply", "reset", "502", "page", "429"],
)
@pytest.mark.parametrize(("endpoint", "call"), REPEATED.items(), ids=REPEATED.keys())
def test_safe_requests_are_repeated(
    emulator: Emulator, endpoint: str, call: Call, fault: dict[str, Any], waits: int
) -> None:
    """A safe request is repeated until it is answered; only a connection that broke once costs no wait."""
    emulator.faults.add({"on": endpoint, "times": 2, **fault})
    recorder = Waits()
    outcome = outcome_of(lambda: call(client_for(emulator, sleep=recorder)))
    assert not isinstance(outcome, NoReplyError | ServerError | RateLimitedError)
    assert (len(emulator.exchanges), len(recorder)) == (3, waits)


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "lost_reply"},
        {"do": "reset"},
        {"do": "status", "status": 503},
        {"do": "status", "status": 503, "when": "after_body"},
        {"do": "status", "status": 200, "body": "<p>Welcome"},
    ],
    ids=["lost reply", "reset", "503", "503 after the deed", "page"],
)
@pytest.mark.parametrize(("endpoint", "call"), list(SENT_ONCE.items())[1:], ids=["project", "file", "chunk"])
def test_other_requests_are_sent_once(
    emulator: Emulator, endpoint: str, call: Call, fault: dict[str, Any]
) -> None:
    """The client sends a PUT, and the POST for a project, only once, with any result."""
    emulator.faults.add({"on": endpoint, **fault})
    waits = Waits()
    outcome = outcome_of(lambda: call(client_for(emulator, sleep=waits)))
    assert isinstance(outcome, NoReplyError | ServerError), repr(outcome)
    assert outcome.retryable
    assert (len(emulator.exchanges), waits) == (1, [])


UNKNOWN_RESULTS: dict[str, dict[str, Any]] = {
    "lost reply": {"do": "lost_reply"},
    "reset": {"do": "reset"},
    "503": {"do": "status", "status": 503},
    "503 after the deed": {"do": "status", "status": 503, "when": "after_body"},
    "page": {"do": "status", "status": 200, "body": "<p>Welcome"},
    "other JSON": {"do": "status", "status": 200, "body": {"ok": True}},
    "a proxy's 404": {"do": "status", "status": 404, "body": "<p>Not found"},
}


@pytest.mark.parametrize("fault", UNKNOWN_RESULTS.values(), ids=UNKNOWN_RESULTS.keys())
def test_creating_a_session_is_retried_twice(emulator: Emulator, fault: dict[str, Any]) -> None:
    """If it is unknown whether a session was created, the POST is retried: a surplus session expires."""
    emulator.faults.add({"on": "POST /uploads", "times": 2, **fault})
    waits = Waits()
    assert client_for(emulator, sleep=waits).create_upload_session().upload_id in emulator.store.sessions
    assert (len(emulator.exchanges), len(waits)) == (3, 2)


@pytest.mark.parametrize("fault", UNKNOWN_RESULTS.values(), ids=UNKNOWN_RESULTS.keys())
def test_creating_a_session_is_not_retried_more_often(emulator: Emulator, fault: dict[str, Any]) -> None:
    """The third failure is raised, for Airflow's retries; rate limits in between do not count."""
    emulator.faults.add(
        {"on": "POST /uploads", "times": 2, **fault},
        {"on": "POST /uploads", "do": "rate_limit", "retry_after": 1},
        {"on": "POST /uploads", **fault},
    )
    with pytest.raises(ThreeSixtyError) as raised:
        client_for(emulator).create_upload_session()
    assert raised.value.retryable
    assert len(emulator.exchanges) == 4


@pytest.mark.parametrize("endpoint", ["POST /uploads", "POST /projects"])
def test_a_post_that_was_surely_not_done_is_repeated(emulator: Emulator, endpoint: str) -> None:
    """A POST is sent again after a 429, as the server asks; a long wait is raised instead."""
    emulator.faults.add(
        {"on": endpoint, "do": "rate_limit", "retry_after": 7},
        {"on": endpoint, "do": "rate_limit", "retry_after": 600},
    )
    waits = Waits()
    with pytest.raises(RateLimitedError) as raised:
        SENT_ONCE[endpoint](client_for(emulator, sleep=waits))
    assert (raised.value.retry_after, len(emulator.exchanges), waits) == (600, 2, [7])


def test_a_post_without_a_connection_is_repeated() -> None:
    """A POST that never had a connection is sent again, because no server can have received it."""
    waits = Waits()
    with pytest.raises(NoReplyError) as raised:
        client_for("http://127.0.0.1:1", sleep=waits, tries=2).create_upload_session()
    assert not raised.value.sent
    assert len(waits) == 2


def test_without_retries(emulator: Emulator) -> None:
    """A client without retries sends each request once, over the connections and the budget of the first."""
    waits = Waits()
    client = client_for(emulator, sleep=waits)
    once = client.without_retries()
    emulator.faults.add({"on": "GET /projects", "do": "status", "status": 503})
    with pytest.raises(ServerError):
        once.list_projects()
    assert (len(emulator.exchanges), waits) == (1, [])
    assert (once.budget, once.bandwidth, once.has_key_of(client)) == (client.budget, client.bandwidth, True)
    emulator.faults.add({"on": "GET /projects", "do": "status", "status": 503})
    client.list_projects()
    assert len(waits) == 1


def test_a_put_waits_for_nobody(emulator: Emulator) -> None:
    """A PUT is not repeated after a 429 either: other bytes may be due by then."""
    emulator.faults.add({"on": "PUT /uploads/*/*", "do": "rate_limit"})
    waits = Waits()
    with pytest.raises(RateLimitedError):
        SENT_ONCE["PUT /uploads/*/*"](client_for(emulator, sleep=waits))
    assert (len(emulator.exchanges), waits) == (1, [])


def test_a_kept_connection_that_was_closed(emulator: Emulator) -> None:
    """A POST over a kept connection that the server has closed in the meantime is sent once and arrives."""
    client = client_for(emulator)
    for _ in range(3):
        client.list_projects()
        emulator._listener.end_connections()
        client.create_upload_session()
    assert methods(emulator) == ["GET"] * 3
    assert len(emulator.store.sessions) == 3


@pytest.mark.parametrize("rst", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_idle_connection_that_was_closed(emulator: Emulator, method: str, rst: bool) -> None:
    """A GET or DELETE on an idle connection that is being closed is sent again at once, not as a failure."""
    waits = Waits()
    client = client_for(emulator, sleep=waits)
    upload_id = client.create_upload_session().upload_id
    client.list_files(upload_id)
    emulator.faults.add({"on": f"{method} /uploads/*", "do": "hang_up", "rst": rst})
    if method == "GET":
        assert client.list_files(upload_id) == []
    else:
        client.delete_upload_session(upload_id)
    assert waits == []


NO_ANSWERS: dict[str, Any] = {
    "page": "<p>Welcome",
    "list": [],
    "text": '"received"',
    "number": "7",
    "null": "null",
    "true": "true",
    "empty object": {},
    "error with a good status": {"error": "file_not_found"},
    "somebody else's": {"status": "ok", "data": {"received": 1, "total": 1, "complete": True}},
}
PROMISED = {
    "POST /uploads": SENT_ONCE["POST /uploads"],
    "PUT /uploads/*/*": SENT_ONCE["PUT /uploads/*/*"],
    "GET /uploads/*/*": REPEATED["GET /uploads/*/*"],
    "GET /uploads/*": REPEATED["GET /uploads/*"],
    "POST /projects": SENT_ONCE["POST /projects"],
    "GET /projects/*": REPEATED["GET /projects/*"],
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
@pytest.mark.parametrize(("endpoint", "call"), PROMISED.items(), ids=PROMISED.keys())
def test_a_reply_of_another_form_is_never_accepted(
    emulator: Emulator, endpoint: str, call: Call, body: Any
) -> None:
    """A reply that is not the object of the contract is never accepted."""
    emulator.faults.add({"on": endpoint, "do": "status", "status": 200, "body": body})
    with pytest.raises(NoReplyError):
        call(client_for(emulator, tries=0))


@pytest.mark.parametrize(
    "body",
    ["<p>Welcome", "null", [], '"gone"', "7", "false", {}, {"deleted": False}, {"error": "busy"}],
    ids=str,
)
def test_no_answer_to_delete(emulator: Emulator, body: Any) -> None:
    """Only the contract's own reply means that a session is discarded."""
    emulator.faults.add({"on": "DELETE /uploads/*", "do": "status", "status": 200, "body": body})
    with pytest.raises(NoReplyError):
        client_for(emulator, tries=0).delete_upload_session("AAAAAAAA")


def entries(*files: Any) -> dict[str, Any]:
    return {"upload_id": "AAAAAAAA", "files": list(files)}


GOOD = {"name": "a.e57", "received": 1, "total": 2, "complete": False}


@pytest.mark.parametrize(
    "body",
    [
        {"files": None},
        {"files": {}},
        {"files": "a.e57"},
        entries("a.e57"),
        entries(None),
        entries(GOOD, {"name": "b.e57"}),
        entries(GOOD, {**GOOD, "received": 3}),
        entries({k: v for k, v in GOOD.items() if k != "name"}),
        entries({**GOOD, "name": None}),
        entries({**GOOD, "name": ""}),
        entries({**GOOD, "name": 7}),
    ],
    ids=str,
)
def test_a_list_with_an_invalid_entry_is_not_accepted(emulator: Emulator, body: Any) -> None:
    """A list of a session with one invalid entry is not accepted."""
    emulator.faults.add({"on": "GET /uploads/*", "do": "status", "status": 200, "body": body})
    with pytest.raises(NoReplyError):
        client_for(emulator, tries=0).list_files("AAAAAAAA")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": "file_not_found"}, None),
        ({"error": "upload_session_not_found"}, UploadSessionNotFoundError),
        ("<title>404 Not Found</title>", UnexpectedReplyError),
        ({"detail": "Not found."}, UnexpectedReplyError),
        ([], UnexpectedReplyError),
    ],
    ids=["no such file", "no such session", "page", "other JSON", "list"],
)
def test_only_the_contract_says_that_a_file_is_unknown(
    emulator: Emulator, body: Any, kind: type[Exception] | None
) -> None:
    """A 404 means that nothing was uploaded only in the contract's own words."""
    emulator.faults.add({"on": "GET /uploads/*/*", "do": "status", "status": 404, "body": body})
    outcome = outcome_of(lambda: client_for(emulator, tries=0).get_file_progress("AAAAAAAA", "a.e57"))
    assert outcome is None if kind is None else type(outcome) is kind


def test_real_refusals() -> None:
    """A refusal by the emulator's own rules is raised as the right class."""
    with strict_emulator(max_file_bytes=10, max_session_bytes=15, quota_bytes=20) as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id

        def refused(call: Callable[[], object]) -> tuple[type, str | None]:
            error = outcome_of(call)
            assert isinstance(error, ApiError), repr(error)
            return type(error), error.code

        def put(name: str, size: int) -> tuple[type, str | None]:
            return refused(lambda: client.put_file(upload_id, name, bytes(size)))

        assert put("a.exe", 1) == (FileRejectedError, "extension_not_allowed")
        assert put("a.e57", 11) == (FileRejectedError, "file_too_large")
        assert put("日", 1) == (InvalidRequestError, "invalid_filename")
        client.put_file(upload_id, "a.e57", bytes(10))
        assert put("b.e57", 6) == (FileRejectedError, "session_too_large")
        for content_range, refusal in (
            ("bytes 1-3/4", (OffsetMismatchError, "non_contiguous_chunk")),
            ("bytes 0-3/4", (InvalidRequestError, "chunk_length_mismatch")),
            ("bytes 0-4/4", (InvalidRequestError, "invalid_content_range")),
        ):
            assert (
                refused(partial(client.put_chunk, upload_id, "c.e57", Sized(b"abc"), content_range))
                == refusal
            )
        assert refused(lambda: client.list_files("nope")) == (InvalidRequestError, "invalid_upload_id")
        assert refused(lambda: client.list_files("AAAAAAAA")) == (
            UploadSessionNotFoundError,
            "upload_session_not_found",
        )
        assert refused(lambda: client.get_project("none")) == (NotFoundError, "project_not_found")
        assert refused(lambda: client.create_project({})) == (
            InvalidRequestError,
            "upload_id_or_download_link_required",
        )
        other = client.create_upload_session().upload_id
        assert refused(lambda: client.create_project({"upload_id": other})) == (
            InvalidRequestError,
            "project_creation_failed",
        )
        client.put_file(other, "a.e57", bytes(10))
        assert refused(client.create_upload_session) == (QuotaError, "storage_quota_exceeded")
        stranger = client_for(emulator, key="pk_wrong")
        assert refused(stranger.list_projects) == (AuthenticationError, "invalid_api_key")


def test_addresses(emulator: Emulator) -> None:
    """The client knows its server and the URL of a project's page."""
    client = client_for(f"{emulator.url}/api/v1/")
    assert (client.server, client.project_url("Bx0xyTjt")) == (
        emulator.url,
        f"{emulator.url}/projects/Bx0xyTjt",
    )
    assert client.list_projects() == {"projects": []}


@pytest.mark.parametrize("upload_id", ["..", "", "a\nb"], ids=["dots", "empty", "line break"])
def test_ids_that_change_the_address(emulator: Emulator, upload_id: str) -> None:
    """An id that would change the request is refused before anything is sent, and not repeated."""
    waits = Waits()
    with pytest.raises(ThreeSixtyError):
        client_for(emulator, sleep=waits).list_files(upload_id)
    assert (len(emulator.exchanges), waits) == (0, [])


def test_a_closed_client_can_still_be_used(emulator: Emulator) -> None:
    """A closed client has closed its connections and can still be used."""
    client = client_for(emulator)
    client.list_projects()
    client.close()
    client.list_projects()
    assert len(emulator.exchanges) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, upload_id: client.get_file_progress(upload_id, "a.e57"),
        lambda client, upload_id: client.list_files(upload_id),
        lambda client, upload_id: client.get_project(upload_id),
    ],
    ids=["file", "session", "project"],
)
def test_json_that_does_not_answer_is_asked_again(
    ask: Callable[[ThreeSixtyClient, str], Any],
) -> None:
    """JSON that does not answer the question is not a reply: the request is sent again."""
    with strict_emulator() as emulator:
        client = client_for(emulator)
        upload_id = client.create_upload_session().upload_id
        client.put_file(upload_id, "a.e57", b"scan")
        client.create_project({"upload_id": upload_id})
        emulator.faults.add({"on": "GET /**", "do": "garbage", "body": {"ok": True}})
        assert ask(client, upload_id)
