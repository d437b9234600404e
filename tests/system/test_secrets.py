"""Failures with the key in memory never write it, neither into a log nor into the database."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit

import pytest
from sqlalchemy import create_engine, inspect, text

from airflow_360.emulator import Emulator, Fault
from harness.airflow import LocalAirflow
from harness.processes import free_port
from tests.system.conftest import Site
from tests.system.dags.every_failure import UPLOADS, WAITS
from tests.system.machines import database_env

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

pytestmark = pytest.mark.system

KEY = "sk_MARKERq7vXz3LwT9bN4cR8"
SIGNATURE = "5169MARKERe0d4c3b2a1f6"
TOKEN = "IQoMARKERb3JpZ2lu/+VjEK+8aFz/1=="
LINK = (
    "https://bucket.example.com/scan%20%231.e57?X-Amz-Expires=60"
    f"&X-Amz-Security-Token={quote(TOKEN, safe='')}&X-Amz-Signature={SIGNATURE}"
)
ESCAPED = KEY.replace("M", "\\u004d")  # how some servers write JSON
SIZE = 3000
OFTEN = 50  # more than needed; each fault only has to happen once


def spellings(secret: str) -> set[bytes]:
    """Return a secret as it is, and in base64 after any prefix, like ``:`` or ``Bearer ``."""
    found = {secret.encode(), secret.encode().hex().encode()}
    found |= {quote(secret, safe=safe).encode() for safe in ("/", "")}
    found |= {quote(quote(secret, safe=""), safe="").encode()}
    for shift in range(3):
        coded = base64.b64encode(b"?" * shift + secret.encode())
        # The first and the last few characters also encode their neighbours, so they cannot be compared.
        whole = coded[(0, 2, 3)[shift] : len(coded) // 4 * 4 - 4]
        found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return {needle for needle in found if len(needle) > 3}


def found_in(airflow: LocalAirflow, wanted: str) -> list[str]:
    """Return every file below Airflow's home, and every column of its database, that contains a text."""
    needles = spellings(wanted)
    files = [path for path in airflow.home.rglob("*") if path.is_file()]
    places = [str(path.relative_to(airflow.home)) for path in files if _holds(path.read_bytes(), needles)]
    engine = create_engine(airflow.database)
    with engine.connect() as database:
        places += [place for place, value in _cells(database) if _holds(value, needles)]
    engine.dispose()
    return places


def _holds(content: bytes, needles: set[bytes]) -> bool:
    return any(needle in content for needle in needles)


def _cells(database: Connection) -> Iterator[tuple[str, bytes]]:
    for table in inspect(database).get_table_names():
        rows = database.execute(text(f'select * from "{table}"'))
        columns = list(rows.keys())
        for row in rows:
            for column, value in zip(columns, row, strict=True):
                yield f"{table}.{column}", _bytes(value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()


@pytest.mark.parametrize("before", ["", ":", "Bearer ", "Basic me:", '{"password": "'])
def test_the_search_finds_every_spelling(before: str, tmp_path: Path) -> None:
    """The search finds a key in a file and in a table, as it is and in base64, with any text around it."""
    plain = f"{before}{KEY}@host"
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        database.execute("create table t (plain text, coded blob)")
        database.execute("insert into t values (?, ?)", (plain, base64.b64encode(plain.encode())))
    (tmp_path / "a.log").write_bytes(b"x" + base64.urlsafe_b64encode(plain.encode()))
    airflow = LocalAirflow(tmp_path, tmp_path)
    assert set(found_in(airflow, KEY)) == {"a.log", "airflow.db", "t.plain", "t.coded"}
    assert found_in(airflow, KEY[::-1]) == []


def test_key_of_all_system_tests(site: Site, tmp_path: Path) -> None:
    """After an upload that was refused by a server that repeats the key, the key is not found."""
    key = "sk_system_test"
    (tmp_path / "repeated.e57").write_bytes(bytes(1000))
    echo = {"error": "insufficient_scope", "key": key, "header": f"Bearer {key}"}
    site.emulator.faults.add(
        {"on": "PUT /uploads/*/repeated.e57", "do": "status", "status": 403, "body": echo}
    )
    run = site.run("chunked_upload", folder=str(tmp_path))
    assert site.airflow.wait(*run) == "failed"
    assert "403 insufficient_scope" in site.airflow.log(*run, "upload", map_index=0)
    assert any("task_id=upload" in place for place in found_in(site.airflow, "repeated.e57"))
    assert found_in(site.airflow, key) == []


@dataclass
class Aftermath:
    """An Airflow at debug level in which everything has failed."""

    airflow: LocalAirflow
    emulator: Emulator
    run: tuple[str, str]
    projects: dict[str, str]

    def state(self, task_id: str) -> str:
        return str(self.airflow.task_instance(*self.run, task_id)["state"])


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    folder, dags = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("dags")
    for name in UPLOADS:
        (folder / name).write_bytes(bytes(SIZE))
    shutil.copy(Path(__file__).parent / "dags" / "every_failure.py", dags)
    home = tmp_path_factory.mktemp("debug")
    with Emulator() as emulator, database_env() as database:
        projects = make_projects(emulator)
        emulator.faults.add(*faults(projects))
        with LocalAirflow(home, dags, env={**environment(emulator.url), **database}) as airflow:
            # From here on the triggerer alone reads another host for this connection.
            airflow.env["AIRFLOW_CONN_MARKER_TURNED"] = connection("http://example.org")
            airflow.restart("triggerer")
            airflow.unpause("every_failure")
            run_id = airflow.trigger("every_failure", conf={"folder": str(folder), **projects})
            airflow.wait("every_failure", run_id)
            yield Aftermath(airflow, emulator, ("every_failure", run_id), projects)


def make_projects(emulator: Emulator) -> dict[str, str]:
    """Create a project for each wait, and return their names."""
    emulator.store.processing_seconds = 3600
    projects = {}
    for wait in WAITS:
        projects[wait] = emulator.store.create_project({"download_link": "https://example.com/x.e57"})["name"]
    faulty = emulator.store.projects[projects["faulty"]]
    faulty.processing_seconds, faulty.errors = 0, 2
    return projects


def connection(host: str, password: str = KEY, **extra: Any) -> str:
    return json.dumps({"conn_type": "three_sixty", "host": host, "password": password, "extra": extra})


def environment(server: str) -> dict[str, str]:
    authority = server.removeprefix("http://")
    hosts = {
        "marker": connection(server),
        "marker_turned": connection(server),
        "marker_plain_http": connection("http://example.org"),
        "marker_with_user": connection(f"http://someone:{KEY}@{authority}"),
        "marker_padded": connection(server, f" {KEY} "),
        "marker_spaced": connection(server, f"{KEY} {KEY}"),
        "marker_nobody": connection(f"http://127.0.0.1:{free_port()}"),
        "marker_impatient": connection(server, rate_limit_wait=1),
    }
    return {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW_VAR_PRESIGNED": LINK,
        **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in hosts.items()},
    }


def faults(projects: dict[str, str]) -> list[dict[str, Any]]:
    """Return the faults of a server that repeats the key in all its replies, and a link if possible."""
    repeated = {"message": f"Bearer {KEY}", KEY: [KEY]}
    page = f"<h1>Bad gateway</h1><pre>Authorization: Bearer {KEY}</pre>"
    escaped = f'{{"error": "invalid_api_key", "message": "{ESCAPED}"}}'
    as_json = {"Content-Type": "application/json", "X-Key": KEY}

    def status(on: str, status: int, body: Any, **more: Any) -> dict[str, Any]:
        return {"on": on, "do": "status", "status": status, "body": body, "times": OFTEN, **more}

    polled = f"GET /projects/{projects['polled']}"
    return [
        {"on": "POST /uploads", "do": "rate_limit", "retry_after": 2},
        status("PUT /uploads/*/refused401.e57", 401, {"error": "invalid_api_key", **repeated}),
        status("PUT /uploads/*/refused403.e57", 403, {"error": "insufficient_scope", **repeated}),
        status("PUT /uploads/*/redirected.e57", 302, "", headers={"Location": f"https://x.example/?k={KEY}"}),
        {"on": "PUT /uploads/*/lost.e57", "do": "lost_reply"},
        status("PUT /uploads/*/down.e57", 502, page),
        status(f"GET /projects/{projects['refused']}", 401, escaped, headers=as_json),
        {"on": f"GET /projects/{projects['odd']}", "do": "alter", "fields": {"status": KEY}, "times": OFTEN},
        # The first poll of the task succeeds; the next ones hit the trigger.
        status(polled, 502, page, skip=1, times=1),
        {"on": polled, "do": "garbage", "body": page, "skip": 1},
        {"on": polled, "do": "lost_reply", "skip": 1},
        status(polled, 401, escaped, headers=as_json, skip=1),
        {"on": "POST /projects", "do": "lost_reply"},
        status("POST /projects", 400, {"error": "project_creation_failed", **echoes(), **repeated}),
    ]


def echoes() -> dict[str, Any]:
    """Return a presigned link in each spelling in which a server may repeat it."""
    query = urlsplit(LINK).query
    return {
        "q": dict(parse_qsl(query)),
        "d": unquote(query),
        "p": unquote_plus(query),
        "h": escape(query),
        "e": quote(query, safe=""),
        "j": json.dumps(query).replace("/", "\\/"),
        "link": LINK,
    }


#: Task -> its final state, and a part of its log.
ENDS = {
    "marker_plain_http": ("failed", "Plain http"),
    "marker_with_user": ("failed", "user"),
    "marker_spaced": ("failed", "The API key contains spaces"),
    "marker_nobody": ("failed", "no answer from http://127.0.0.1"),
    "refused401_e57": ("failed", "401 invalid_api_key"),
    "refused403_e57": ("failed", "403 insufficient_scope"),
    "refused_tar": ("failed", "415 extension_not_allowed"),
    "redirected_e57": ("failed", "It points to"),
    "lost_e57": ("success", "lost.e57: complete"),
    "down_e57": ("failed", "The last failure"),
    "incomplete": ("failed", "No project was created from session"),
    "folder": ("failed", "already complete on the server"),
    "discarded": ("success", "is deleted"),
    "link_lost": ("failed", "Cannot determine whether a project was created from link"),
    "link_refused": ("failed", "400 project_creation_failed"),
    "link_misread": ("failed", "it is not shown here"),
    "refused": ("failed", "401 invalid_api_key"),
    "odd": ("failed", "was not ready within 60 s"),
    "faulty": ("failed", "finished with 2 processing errors"),
    "slow": ("failed", "was not ready within 60 s"),
    "slow_poked": ("failed", "was not ready within 2 s"),
    "polled": ("failed", "401 invalid_api_key"),
    "turned": ("failed", "Plain http"),
    "shown": ("success", "ThreeSixtyClient"),
}


@pytest.mark.long
@pytest.mark.parametrize("task_id", ENDS)
def test_everything_failed_as_it_should(aftermath: Aftermath, task_id: str) -> None:
    """Each failure happened, and the search finds its message in the log of its task."""
    state, said = ENDS[task_id]
    assert aftermath.state(task_id) == state
    assert any(f"task_id={task_id}/" in place for place in found_in(aftermath.airflow, said))


@pytest.mark.long
def test_every_fault_happened(aftermath: Aftermath) -> None:
    """Every scripted fault happened, and the triggers' logs are part of the search."""
    never = [fault for fault in aftermath.emulator.faults.unused() if fault.times in (1, OFTEN)]
    assert never == list[Fault]()
    for wait in ("polled", "slow"):
        places = found_in(aftermath.airflow, aftermath.projects[wait])
        assert any(f"task_id={wait}/" in place and ".trigger." in place for place in places)
    assert aftermath.state("marker_impatient") == "success"
    assert aftermath.state("marker_padded") == "success"


@pytest.mark.long
def test_the_key_is_nowhere(aftermath: Aftermath) -> None:
    """At debug level, after every failure, neither log nor database contains the key, plain or in base64."""
    assert found_in(aftermath.airflow, KEY) == []


@pytest.mark.long
@pytest.mark.parametrize("secret", [SIGNATURE, TOKEN], ids=["signature", "token"])
def test_a_presigned_link_is_nowhere(aftermath: Aftermath, secret: str) -> None:
    """At debug level, after every failure, neither log nor database contains a presigned link's secrets."""
    assert found_in(aftermath.airflow, secret) == []
