"""Replies that no database and no encoder accepts, with a real triggerer that has other waits too."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from airflow_360.emulator import Emulator
from airflow_360.projects.times import WaitTimes
from airflow_360.projects.waiting import (
    GiveUp,
    Ready,
    WaitRecord,
    error_event,
    next_step,
    poll_project,
    ready_event,
)
from harness.airflow import LocalAirflow
from tests.api.servers import KeepingServer
from tests.fakes import client_for
from tests.system.conftest import Site

pytestmark = pytest.mark.system

MIB = 1024 * 1024
NESTED = "[" * 60 + "]" * 60
TOO_NESTED = "[" * 100_000 + "]" * 100_000
JSON = {"Content-Type": "application/json"}
ODD_VALUES: dict[str, dict[str, Any]] = {
    "numbers": {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 2**70, "e": [-(2**70)]},
    "texts": {"title": "a\ud800\0b", "\udfff\0": {"\0": "\udc00"}},
    "depth": {"nested": json.loads(NESTED)},
    "Airflow's keys": {"a": {"__id__": 1, "__classname__": "x"}, "__type": "timedelta", "__var": 5},
}


@dataclass(frozen=True)
class Odd:
    """A project with odd replies.

    :param replies: the faults of the polls that the triggerer sends, one after the other.
    :param said: a part of the task's error; None if it succeeds.
    """

    replies: tuple[dict[str, Any], ...]
    said: str | None = None


def altered(**fields: Any) -> dict[str, Any]:
    return {"do": "alter", "fields": fields}


def odd_projects(name: str) -> dict[str, Odd]:
    """Return the kinds of odd replies to requests for a project."""
    values = {
        kind: Odd((altered(status=50, **fields), altered(status=100, **fields)))
        for kind, fields in ODD_VALUES.items()
    }
    ready = altered(status=100)
    nested = {"do": "status", "status": 200, "headers": JSON}
    deep = {**nested, "body": f'{{"name": "{name}", "status": 100, "deep": {TOO_NESTED}}}'}
    moved = {"do": "status", "status": 302, "headers": {"Location": "/maintenance"}}
    without_status = {"do": "status", "status": 200, "body": {"name": name}}
    return values | {
        "too deep to parse": Odd((deep, deep, ready)),
        "no status": Odd((without_status, without_status, ready)),
        "null": Odd((altered(status=None), altered(status=None), ready)),
        "a word": Odd((altered(status="done"),) * 3, "'done'"),
        "101": Odd((altered(status=101),) * 3, "status 101"),
        "2**70": Odd((altered(status=2**70),) * 3, "status"),
        "portal": Odd((moved, {**moved, "status": 401, "body": "<h1>Sign in"}, ready)),
        "drip": Odd(({"do": "drip", "seconds": 1}, ready)),
    }


def faults(name: str, replies: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Return the replies as a script. The task's own poll comes before those of the triggerer."""
    return [{"on": f"GET /projects/{name}", "skip": 1, **reply} for reply in replies]


def bomb() -> bytes:
    """Return an HTTP reply of some 270 KB that unzips to 266 MiB."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    body = packer.compress(b'{"name": "x", "status": 100, "a": "')
    body += b"".join(packer.compress(b" " * MIB) for _ in range(266))
    body += packer.compress(b'"}') + packer.flush()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("kind", odd_projects(""))
def test_events_of_odd_replies_can_be_stored(kind: str) -> None:
    """For any reply of the server, the event of a wait passes msgpack, strict JSON and UTF-8."""
    msgpack = pytest.importorskip("msgspec").msgpack  # the format of a triggerer's events
    if kind == "drip":
        pytest.skip("A dripping reply ends like any that does not come.")
    with Emulator() as emulator:
        name = str(emulator.store.create_project({"download_link": "https://x/y.e57"})["name"])
        replies = odd_projects(name)[kind].replies
        emulator.faults.add(*({"on": f"GET /projects/{name}", **reply} for reply in replies))
        client, times = client_for(emulator, tries=0), WaitTimes(failure_tolerance=-1, tolerated_failures=0)
        events = []
        for _ in replies:
            match next_step(WaitRecord(), poll_project(lambda: client.get_project(name)), 0.0, times=times):
                case Ready(found):
                    events.append(ready_event(found))
                case GiveUp(error):
                    events.append(error_event(error))
    assert events
    for event in events:
        assert msgpack.decode(msgpack.encode(event)) == event
        json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
        assert "\0" not in str(event)


@dataclass
class Place:
    """An Airflow and a server for this test."""

    airflow: LocalAirflow
    emulator: Emulator


@pytest.fixture(
    params=[
        pytest.param("as in all tests", marks=pytest.mark.long),
        pytest.param("sqlite", marks=pytest.mark.soak),
    ],
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An Airflow on PostgreSQL, if this machine has it, and one on SQLite, which keeps other texts."""
    if request.param != "sqlite":
        site: Site = request.getfixturevalue("site")
        yield Place(site.airflow, site.emulator)
        return
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "odd_replies.py", dags)
    with Emulator() as emulator, LocalAirflow(tmp_path / "airflow", dags) as airflow:
        yield Place(airflow, emulator)


def connect(stack: ExitStack, airflow: LocalAirflow, conn_id: str, url: str) -> None:
    """Define a connection whose polls are not paced."""
    connection = {
        "connection_id": conn_id,
        "conn_type": "three_sixty",
        "host": url,
        "password": "sk_odd",
        "extra": '{"rate_limits": "off"}',
    }
    airflow.request("POST", "/connections", json=connection)
    stack.callback(airflow.request, "DELETE", f"/connections/{conn_id}")


def project(emulator: Emulator, processing_seconds: float) -> str:
    name = str(emulator.store.create_project({"download_link": "https://x/y.e57"})["name"])
    emulator.store.projects[name].processing_seconds = processing_seconds
    return name


def test_a_triggerer_survives_odd_replies(place: Place) -> None:
    """The triggerer survives, each wait with odd replies ends, and the other waits succeed."""
    airflow, emulator = place.airflow, place.emulator
    odd: dict[str, Odd] = {}
    for kind in odd_projects(""):
        name = project(emulator, 3600)
        odd[name] = odd_projects(name)[kind]
        emulator.faults.add(*faults(name, odd[name].replies))
    others = [project(emulator, 45) for _ in range(3)]
    with ExitStack() as stack:
        server = stack.enter_context(KeepingServer(bomb()))
        connect(stack, airflow, "odd_server", emulator.url)
        connect(stack, airflow, "zip_bomb", server.url)
        waits = [{"project_name": name, "three_sixty_conn_id": "odd_server"} for name in [*odd, *others]]
        waits.append({"project_name": "x", "three_sixty_conn_id": "zip_bomb"})
        odd["x"] = Odd((), "more than 32 MiB")
        triggerer = psutil.Process(airflow.pid("triggerer"))
        before = {triggerer, *triggerer.children()}
        airflow.unpause("odd_replies")
        run = "odd_replies", airflow.trigger("odd_replies", conf={"waits": waits})
        assert airflow.wait(*run) == "failed"  # as some of the waits must

    assert before <= {triggerer, *triggerer.children()}
    states = {
        waits[one["map_index"]]["project_name"]: (one["map_index"], one["state"])
        for one in airflow.task_instances(*run)
        if one["task_id"] == "ready"
    }
    assert [states[name][1] for name in others] == ["success"] * 3
    for name, expected in odd.items():
        index, state = states[name]
        log = airflow.log(*run, "ready", map_index=index)
        assert state == ("failed" if expected.said else "success"), log
        if expected.said:
            assert expected.said in log
        else:
            assert airflow.xcom(*run, "ready", index)["status"] == 100
    assert not emulator.faults.unused()
