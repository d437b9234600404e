"""The emulator's rules behind a transport without a network, and all possible faults of a request.

The client, its errors and the translation of replies are the package's own: only the connection is
replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airflow_360.api.budget import Endpoint
from airflow_360.api.replies import Reply
from airflow_360.api.transport import Transport
from airflow_360.emulator.server import STATUS
from airflow_360.emulator.store import Refusal, Store
from airflow_360.exceptions import NoReplyError
from tests.simulation.clock import VirtualClock

__all__ = ["ANSWERS", "Answer", "Effect", "Fault", "Outage", "Server"]

URL = "https://360.test"
LATENCY_SECONDS = 0.05
PAGE = "<h1>Not the API</h1>"


@dataclass(frozen=True)
class Answer:
    """The answer that a client gets instead of the server's reply.

    :param status: the HTTP status, or None if no reply arrives.
    :param body: the reply's body; JSON if it is a mapping.
    :param seconds: how long it takes to arrive.
    :param sent: without a reply: whether the request was sent.
    :param timed_out: without a reply: whether the reply did not arrive in time.
    :param retry_after: the seconds in the header of a 429.
    """

    status: int | None = None
    body: str | Mapping[str, Any] = PAGE
    seconds: float = 0.0
    sent: bool = True
    timed_out: bool = False
    retry_after: float | None = None

    @property
    def doubtful(self) -> bool:
        """Return whether a POST with this answer may have had its effect."""
        if self.status is None:
            return self.sent
        code = self.body.get("error") if isinstance(self.body, Mapping) else None
        if self.status >= 500 or code == "upload_session_not_found":
            return True
        return self.status != 429 and code is None

    @property
    def slow(self) -> bool:
        """Return whether the server may still be working on the request."""
        return self.timed_out or self.status in (408, 504)


ANSWERS = {
    "no connection": Answer(sent=False),
    "reset": Answer(),
    "timed out": Answer(timed_out=True, seconds=120.0),
    "500": Answer(500, {"error": "internal_error"}),
    "502": Answer(502),
    "503": Answer(503),
    "504": Answer(504, seconds=60.0),
    "portal": Answer(200),
    "another API": Answer(200, {"ok": True}),
    "103": Answer(103),
    "302": Answer(302),
    "401 of a proxy": Answer(401),
    "403 of a proxy": Answer(403),
    "404 of a proxy": Answer(404),
    "408 of a proxy": Answer(408, seconds=60.0),
    "429": Answer(429, {"error": "rate_limited"}),
    "429 for seconds": Answer(429, {"error": "rate_limited"}, retry_after=5.0),
    "429 for minutes": Answer(429, {"error": "rate_limited"}, retry_after=700.0),
    "429 for an hour": Answer(429, {"error": "rate_limited"}, retry_after=3600.0),
    "session not found": Answer(404, {"error": "upload_session_not_found"}),
    "quota": Answer(402, {"error": "storage_quota_exceeded"}),
    "refused": Answer(400, {"error": "project_creation_failed"}),
}


class Effect(StrEnum):
    """When a POST has its effect, if its reply is replaced."""

    NEVER = "never"
    AT_ONCE = "at once"
    LATER = "later"


@dataclass(frozen=True)
class Fault:
    """The fault of one POST.

    :param answer: a key of :data:`ANSWERS`.
    :param effect: when the POST has its effect.
    :param delay: for a later one, the seconds after the POST was sent.
    """

    answer: str
    effect: Effect = Effect.NEVER
    delay: float = 0.0

    @property
    def wasted(self) -> bool:
        """Return whether it is a POST that leaves doubt and creates nothing."""
        return ANSWERS[self.answer].doubtful and self.effect is Effect.NEVER


@dataclass(frozen=True)
class Outage:
    """A time in which each GET gets the same answer, and nothing else.

    :param start: seconds after the task's first request.
    :param seconds: its length.
    :param answer: a key of :data:`ANSWERS`.
    """

    start: float
    seconds: float
    answer: str


class Server:
    """One account on a server.

    :param folder: the folder for its files.
    :param clock: its time.
    :param reach: called at each moment at which an interruption may end the client.
    :param settings: fields of :class:`Store`.
    """

    def __init__(
        self, folder: Path, clock: VirtualClock, reach: Callable[[str], None], **settings: Any
    ) -> None:
        self.store = Store(folder, clock, **settings)
        self.clock = clock
        self.journal: list[str] = []
        #: POSTs for a project that were sent, also those that created nothing.
        self.posts = 0
        #: Whether the result of some POST was not told.
        self.doubt = False
        self.wasted = 0
        self.refused = False
        self._reach = reach
        self._faults: list[Fault] = []
        self._outages: list[tuple[float, float, str]] = []

    def plan(self, faults: Iterable[Fault], outages: Iterable[Outage]) -> None:
        """Let faults happen from now on: one for each POST, then none."""
        self._faults = list(faults)
        now = self.clock.now
        self._outages = [(now + o.start, now + o.start + o.seconds, o.answer) for o in outages]

    def note(self, event: str) -> None:
        """Write a line into the journal, which explains a failed scenario."""
        self.journal.append(f"{self.clock.elapsed:>10,.1f} s  {event}")

    def projects_of(self, upload_id: str) -> list[str]:
        """Return the names of the projects that were created from a session."""
        projects = self.store.projects.values()
        return [p.name for p in projects if p.session and p.session.upload_id == upload_id]

    def exchange(self, method: str, segments: Sequence[str], body: Any) -> Reply:
        """Carry out one request, with its fault."""
        what = f"{method} /{'/'.join(segments)}"
        project_post = method == "POST" and segments[0] == "projects"
        self._reach(f"before {what}")
        if project_post:
            self.posts += 1
        fault = self._fault(method, project_post)
        if fault is None:
            reply = self._carry_out(method, segments, body)
            self.note(f"{what}: {reply.status}")
            self.clock.sleep(LATENCY_SECONDS)
            self._reach(f"after {what}")
            return reply
        self.note(f"{what}: {fault.answer}, effect {fault.effect} {fault.delay or ''}")
        answer = ANSWERS[fault.answer]
        if project_post:
            self.doubt |= answer.doubtful
            self.wasted += fault.wasted
            self.refused |= fault.answer in ("quota", "refused")
        self._have_effect(fault, lambda: self._carry_out(method, segments, body))
        self.clock.sleep(LATENCY_SECONDS + answer.seconds)
        self._reach(f"after {what}")
        return _arrive(answer)

    def _fault(self, method: str, project_post: bool) -> Fault | None:
        if project_post:
            return self._faults.pop(0) if self._faults else None
        if method == "GET":
            for start, end, answer in self._outages:
                if start <= self.clock.now < end:
                    return Fault(answer)
        return None

    def _have_effect(self, fault: Fault, carry_out: Callable[[], object]) -> None:
        if fault.effect is Effect.AT_ONCE:
            carry_out()
        elif fault.effect is Effect.LATER:
            self.clock.at(self.clock.now + fault.delay, partial(self._late, carry_out))

    def _late(self, carry_out: Callable[[], object]) -> None:
        self.note("a POST has its effect only now")
        carry_out()

    def _carry_out(self, method: str, segments: Sequence[str], body: Any) -> Reply:
        try:
            return _json_reply(200, self._by_the_rules(method, segments, body))
        except Refusal as refusal:
            return _json_reply(STATUS[refusal.code], {"error": refusal.code, **refusal.detail})

    def _by_the_rules(self, method: str, segments: Sequence[str], body: Any) -> Any:
        store = self.store
        match method, *segments:
            case "POST", "uploads":
                return store.create_session()
            case "GET", "uploads", upload_id:
                return store.list_files(upload_id)
            case "GET", "uploads", upload_id, name:
                return store.get_file(upload_id, name)
            case "PUT", "uploads", upload_id, name:
                data = b"".join([body] if isinstance(body, bytes) else body)
                writing = store.begin_put(upload_id, name, start=0, total=len(data))
                writing.write(memoryview(data))
                return writing.end()
            case "DELETE", "uploads", upload_id:
                return store.delete_session(upload_id)
            case "POST", "projects":
                return store.create_project(body)
            case "GET", "projects":
                return store.list_projects()
            case "GET", "projects", name:
                return store.get_project(name)
        raise Refusal("not_found")


class WirelessTransport(Transport):
    """The package's transport with a function call in place of a connection.

    :param server: the server.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(URL, "sk_simulated")
        self._server = server

    def server_now(self) -> float:
        return self._server.clock.now

    def _send(self, endpoint: Endpoint, url: str, options: Mapping[str, Any]) -> Reply:
        path = url.removeprefix(f"{URL}/api/v1/")
        body = options["data"] if options["json"] is None else options["json"]
        return self._server.exchange(endpoint[0], [unquote(part) for part in path.split("/")], body)


def _arrive(answer: Answer) -> Reply:
    if answer.status is None:
        raise NoReplyError("nothing arrived", sent=answer.sent, timed_out=answer.timed_out)
    headers = {} if answer.retry_after is None else {"Retry-After": f"{answer.retry_after:.0f}"}
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return Reply(answer.status, headers, text.encode())


def _json_reply(status: int, body: Any) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())
