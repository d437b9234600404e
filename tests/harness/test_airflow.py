"""Tests of the demo's Airflow that do not start one; the system tests start it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from harness.airflow import DATABASE, LocalAirflow
from harness.airflow_api import AirflowApi, AirflowApiError, DagImportError, RunFailedError
from harness.processes import LOOPBACK, PartFailedError


class Script:
    """Answer requests from a list per "METHOD path"; the last answer stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {"GET /auth/token": [(201, {"access_token": "t"})]}
        self.seen: list[tuple[str, str, Any]] = []

    def on(self, call: str, *answers: tuple[int, Any]) -> None:
        self.answers[call] = list(answers)

    def reply(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        self.seen.append((method, target, body))
        known = self.answers.get(f"{method} {target}") or self.answers.get(f"{method} {target.split('?')[0]}")
        if known is None:
            return 404, {"detail": f"nothing at {target}"}
        return known.pop(0) if len(known) > 1 else known[0]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script) -> Iterator[AirflowApi]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, reply = script.reply(self.command, self.path, json.loads(body) if body else None)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names that http.server looks for

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield AirflowApi(f"http://{LOOPBACK}:{server.server_address[1]}")
        server.shutdown()
        thread.join()


RUN = "/api/v2/dags/d/dagRuns/manual__2026-01-31T00%3A00%3A00%2B00%3A00"
RUN_ID = "manual__2026-01-31T00:00:00+00:00"


def instance(task_id: str, state: str | None, map_index: int = -1) -> dict[str, Any]:
    return {
        "id": f"{task_id}-{map_index}",
        "dag_id": "d",
        "dag_run_id": RUN_ID,
        "task_id": task_id,
        "map_index": map_index,
        "state": state,
        "try_number": 1,
    }


def page(*instances: dict[str, Any], next_cursor: str | None = None) -> tuple[int, Any]:
    return 200, {"task_instances": list(instances), "next_cursor": next_cursor}


def test_all_pages_are_read(api: AirflowApi, script: Script) -> None:
    """Task instances of several pages come as one sorted list."""
    script.on(
        f"GET {RUN}/taskInstances",
        page(instance("b", "success"), instance("a", "success", 1), next_cursor="two"),
        page(instance("a", "success", 0)),
    )
    found = api.task_instances("d", RUN_ID)
    assert [(one["task_id"], one["map_index"]) for one in found] == [("a", 0), ("a", 1), ("b", -1)]
    assert "cursor=two" in script.seen[-1][1]


def test_changes_are_told_once_each(api: AirflowApi, script: Script) -> None:
    """Waiting reports each change once, and returns the state in which the run ended."""
    script.on(
        f"GET {RUN}", (200, {"state": "running"}), (200, {"state": "running"}), (200, {"state": "success"})
    )
    script.on(
        f"GET {RUN}/taskInstances",
        page(instance("a", "running")),
        page(instance("a", "running")),
        page(instance("a", "success")),
    )
    told: list[str] = []
    state = api.wait("d", RUN_ID, 20, lambda instances: told.append(instances[0]["state"]), poll=0.01)
    assert state == "success"
    assert told == ["running", "success"]


def test_failed_run_shows_its_logs(api: AirflowApi, script: Script) -> None:
    """A run that must succeed and does not raises with the end of the failed task's log."""
    script.on(f"GET {RUN}", (200, {"state": "failed"}))
    script.on(f"GET {RUN}/taskInstances", page(instance("a", "failed", 2), instance("b", "upstream_failed")))
    message = {"event": "Task failed", "error_detail": [{"exc_type": "ValueError", "exc_value": "no scan"}]}
    script.on(f"GET {RUN}/taskInstances/a/logs/1", (200, {"content": [{"event": "::group::"}, message]}))
    with pytest.raises(RunFailedError) as caught:
        api.wait("d", RUN_ID, 20, must_succeed=True)
    assert "a[2], try 1" in str(caught.value)
    assert "ValueError: no scan" in str(caught.value)
    assert "::group::" not in str(caught.value)


def test_waiting_has_an_end(api: AirflowApi, script: Script) -> None:
    """A run that does not end in time is an error with the state of every task."""
    script.on(f"GET {RUN}", (200, {"state": "running"}))
    script.on(f"GET {RUN}/taskInstances", page(instance("a", "deferred")))
    with pytest.raises(TimeoutError, match="a deferred"):
        api.wait("d", RUN_ID, 0.05, poll=0.01)


def test_unpause_waits_until_the_dag_is_parsed(api: AirflowApi, script: Script) -> None:
    """A DAG that is not there yet is waited for, then unpaused."""
    script.on("GET /api/v2/dags/d", (404, {}), (200, {}))
    script.on("GET /api/v2/importErrors", (200, {"import_errors": []}))
    script.on("PATCH /api/v2/dags/d", (200, {}))
    api.unpause("d")
    assert script.seen[-1] == ("PATCH", "/api/v2/dags/d", {"is_paused": False})


def test_import_error_comes_with_its_traceback(api: AirflowApi, script: Script) -> None:
    """A DAG whose file cannot be imported raises immediately, with the traceback."""
    error = {"filename": "d.py", "stack_trace": "ModuleNotFoundError: no module named x"}
    script.on("GET /api/v2/importErrors", (200, {"import_errors": [error]}))
    with pytest.raises(DagImportError, match="no module named x"):
        api.unpause("d")


def test_clear_is_what_the_ui_sends(api: AirflowApi, script: Script) -> None:
    """Clearing one mapped task really clears it, not only failed ones, and sets the run running again."""
    script.on("POST /api/v2/dags/d/clearTaskInstances", (200, {"task_instances": [instance("a", None, 0)]}))
    assert len(api.clear("d", RUN_ID, [("a", 0)])) == 1
    body = script.seen[-1][2]
    assert body["task_ids"] == [["a", 0]]
    assert (body["dry_run"], body["only_failed"], body["reset_dag_runs"]) == (False, False, True)


@pytest.mark.parametrize(
    ("version", "keep", "fields", "deleted"),
    [
        ("3.4.0b2", None, {}, 0),
        ("3.4.0b2", True, {"keep_task_state": True}, 0),
        ("3.4.0b2", False, {"keep_task_state": False}, 0),
        ("3.3.2", True, {}, 0),
        ("3.3.2", False, {}, 2),
        ("3.2.2", False, {}, 0),
    ],
)
def test_clear_keeps_or_deletes_saved_state(
    api: AirflowApi, script: Script, version: str, keep: bool | None, fields: dict[str, bool], deleted: int
) -> None:
    """Airflow 3.4 can keep or delete the saved state in a clear; on 3.3 it is deleted before the clear."""
    cleared = {"task_instances": [instance("a", "failed", 0), instance("b", "failed")]}
    script.on("GET /api/v2/version", (200, {"version": version}))
    script.on("POST /api/v2/dags/d/clearTaskInstances", (200, cleared))
    for task in ("a", "b"):
        script.on(f"DELETE {RUN}/taskInstances/{task}/state-store", (200, {}))
    api.clear("d", RUN_ID, [("a", 0)], keep_state=keep)
    body = script.seen[-1][2]
    assert {key: value for key, value in body.items() if key == "keep_task_state"} == fields
    assert body["dry_run"] is False
    calls = [target for method, target, _ in script.seen if method == "DELETE"]
    path = f"{RUN}/taskInstances"
    assert calls == [f"{path}/a/state-store?map_index=0", f"{path}/b/state-store?map_index=-1"][:deleted]


def test_trigger_sends_its_date(api: AirflowApi, script: Script) -> None:
    """A run is started with the requested logical date, or with none."""
    script.on("POST /api/v2/dags/d/dagRuns", (200, {"dag_run_id": RUN_ID}))
    assert api.trigger("d", datetime(2026, 1, 31, tzinfo=UTC)) == RUN_ID
    api.trigger("d")
    dates = [body["logical_date"] for method, _, body in script.seen if method == "POST"]
    assert dates == ["2026-01-31T00:00:00+00:00", None]


@pytest.mark.parametrize(("reason", "sent"), [("Database error", 2), ("another", 1)])
def test_a_run_is_requested_again_if_the_database_refused_it(
    api: AirflowApi, script: Script, reason: str, sent: int
) -> None:
    """A POST is repeated only if Airflow's database refused it, so that no run is started twice."""
    failure = (500, {"detail": {"reason": reason}})
    script.on("POST /api/v2/dags/d/dagRuns", failure, (200, {"dag_run_id": RUN_ID}))
    with contextlib.nullcontext() if sent == 2 else pytest.raises(AirflowApiError):
        assert api.trigger("d") == RUN_ID
    assert [method for method, target, _ in script.seen if "dagRuns" in target] == ["POST"] * sent


def test_a_run_that_airflow_starts_is_waited_for(api: AirflowApi, script: Script) -> None:
    """No run yet is no answer; the first one is."""
    one = {"dag_runs": [{"dag_run_id": RUN_ID}]}
    script.on("GET /api/v2/dags/d/dagRuns", (200, {"dag_runs": []}), (200, one))
    assert api.wait_for_run("d") == RUN_ID


def test_a_run_that_does_not_come_is_named(api: AirflowApi, script: Script) -> None:
    """The error names the DAG without a run, and the time waited."""
    script.on("GET /api/v2/dags/d/dagRuns", (200, {"dag_runs": []}))
    with pytest.raises(TimeoutError, match="no run of d within 0 seconds"):
        api.wait_for_run("d", timeout=0)


def test_error_carries_status_and_reply(api: AirflowApi) -> None:
    """An error status raises an error with the status, the path and the reply."""
    with pytest.raises(AirflowApiError) as caught:
        api.request("GET", "/nothing")
    assert caught.value.status == 404
    assert "nothing at /api/v2/nothing" in str(caught.value)


def test_expired_token_is_fetched_anew(api: AirflowApi, script: Script) -> None:
    """A request that is answered 401 is sent once more with a new token."""
    script.on("GET /api/v2/dags", (401, {}), (200, {"dags": []}))
    assert api.request("GET", "/dags") == {"dags": []}
    assert [target for _, target, _ in script.seen].count("/auth/token") == 2


def test_environment_is_loopback_and_may_be_overruled(tmp_path: Path) -> None:
    """Every address in the environment is on loopback, and the caller's values override the defaults."""
    env = {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True", "AIRFLOW_CONN_X": "x://"}
    airflow = LocalAirflow(tmp_path / "home", tmp_path, env=env)
    assert airflow.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].startswith(f"http://{LOOPBACK}:")
    assert airflow.env["AIRFLOW__API__HOST"] == LOOPBACK
    assert airflow.env["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] == "True"
    assert airflow.env["AIRFLOW_CONN_X"] == "x://"


def test_port_in_use_is_one_sentence(tmp_path: Path, api: AirflowApi) -> None:
    """A port that somebody listens on is refused before anything is started."""
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(PartFailedError, match=f"{port}: the port is in use"):
        LocalAirflow(tmp_path / "home", tmp_path, port=port).start()


def test_a_writer_waits_for_a_busy_database(tmp_path: Path) -> None:
    """Airflow's parts end if SQLite is locked for longer than they wait; the API server must not wait."""
    airflow = LocalAirflow(tmp_path, tmp_path)
    engine = create_engine(airflow.component_env("dag-processor")[DATABASE])
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000
    engine.dispose()
    assert (tmp_path / "airflow.db").exists()
    assert DATABASE not in airflow.component_env("api-server")
    given = LocalAirflow(tmp_path, tmp_path, env={DATABASE: "postgresql://127.0.0.1/airflow"})
    assert given.component_env("scheduler")[DATABASE] == "postgresql://127.0.0.1/airflow"
