"""A client of Airflow's REST API, for the demo and the system tests.

Separate from :mod:`harness.airflow` because it works with any running server: it is the part of ``/api/v2``,
or of Airflow 2's ``/api/v1``, that a person uses through the UI (unpause, trigger, watch, clear, read a log).
"""

from __future__ import annotations

import ast
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

from harness.processes import HarnessError

TaskInstance = dict[str, Any]
OnChange = Callable[[list[TaskInstance]], None]

ENDED = frozenset({"success", "failed"})
_PAGE = 100  # the API's default [api] maximum_page_limit
_POLL_SECONDS = 0.5
_REQUEST_SECONDS = 120


class AirflowApiError(HarnessError):
    """Raised when Airflow answers with an error status.

    :param status: the HTTP status
    :param message: method, path and the start of the reply
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class DagImportError(HarnessError):
    """Raised when a DAG file cannot be imported; the message contains its traceback."""


class RunFailedError(HarnessError):
    """Raised when a run that must succeed has failed; the message contains the ends of its tasks' logs."""


@dataclass(frozen=True)
class RunSnapshot:
    """A snapshot of a DAG run.

    :param state: the run's state, for example ``"running"``
    :param instances: its task instances from the API, in the order of task id and map index
    """

    state: str
    instances: list[TaskInstance]

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.state in ENDED


class AirflowApi:
    """A client of one Airflow's REST API.

    :param url: the server's base URL
    :param credentials: user and password; None if everyone is an admin
    :param version: ``"v2"``, or ``"v1"`` for Airflow 2, with everyone as admin
    """

    def __init__(self, url: str, credentials: tuple[str, str] | None = None, *, version: str = "v2") -> None:
        self.url = url
        self._base = f"{url}/api/{version}"
        self._is_v1 = version == "v1"
        self._credentials = credentials
        self._token = ""
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy and no netrc file on loopback

    def check(self) -> None:
        """Raise if the Airflow behind this API is known to be broken; called at every poll."""

    def request(
        self, method: str, path: str, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Send one request below ``/api/v2`` (or v1) and return the reply's JSON, None if there is none.

        :param path: for example ``"/dags"``; its ids must be percent-encoded
        """
        reply = self._send(method, path, json, params)
        if reply.status_code == 401:
            self._token = ""
            reply = self._send(method, path, json, params)
        if not reply.ok:
            raise AirflowApiError(
                reply.status_code, f"{method} {path} was answered {reply.status_code}: {reply.text[:2000]}"
            )
        return reply.json() if reply.content else None

    def _send(self, method: str, path: str, json: Any, params: Mapping[str, Any] | None) -> requests.Response:
        headers = {"Accept": "application/json"}
        if not self._is_v1:
            self._token = self._token or self._fetch_token()
            headers["Authorization"] = f"Bearer {self._token}"
        # Airflow answers 500, or late, if SQLite is locked. An idempotent request is sent again, another
        # one only if Airflow says that its database refused it: then nothing was saved.
        idempotent = method in ("GET", "PATCH", "DELETE")
        attempts = 3
        while True:
            attempts -= 1
            try:
                reply = self._http.request(
                    method,
                    f"{self._base}{path}",
                    json=json,
                    params=params,
                    headers=headers,
                    timeout=_REQUEST_SECONDS,
                )
                may_repeat = idempotent or '"Database error"' in reply.text
                if reply.status_code < 500 or not attempts or not may_repeat:
                    return reply
            except requests.ReadTimeout:
                if not attempts or not idempotent:
                    raise
            time.sleep(_POLL_SECONDS)

    def _fetch_token(self) -> str:
        address = f"{self.url}/auth/token"
        if self._credentials is None:
            reply = self._http.get(address, timeout=_REQUEST_SECONDS)
        else:
            user, password = self._credentials
            reply = self._http.post(
                address, json={"username": user, "password": password}, timeout=_REQUEST_SECONDS
            )
        if reply.status_code != 201:
            raise AirflowApiError(reply.status_code, f"No token from {address}: {reply.text[:500]}")
        return str(reply.json()["access_token"])

    @functools.cached_property
    def airflow_version(self) -> tuple[int, int]:
        """The major and minor version of the Airflow behind this API."""
        major, minor = self.request("GET", "/version")["version"].split(".")[:2]
        return int(major), int(minor)

    def health(self) -> dict[str, Any]:
        """Return the health report, which needs no token."""
        path = "/health" if self._is_v1 else "/monitor/health"
        reply = self._http.get(f"{self._base}{path}", timeout=5)
        reply.raise_for_status()
        return dict(reply.json())

    def unpause(self, dag_id: str, timeout: float = 300) -> None:
        """Wait until the DAG is parsed, then unpause it.

        :param timeout: seconds
        :raises DagImportError: its file cannot be imported, or no file defined it in time
        """
        self.wait_for_dag(dag_id, timeout)
        self.request("PATCH", f"/dags/{_part(dag_id)}", json={"is_paused": False})

    def pause(self, dag_id: str, timeout: float = 300) -> None:
        """Wait until the DAG is parsed, then pause it. Runs that are triggered until then wait in the queue.

        :param timeout: seconds
        :raises DagImportError: its file cannot be imported, or no file defined it in time
        """
        self.wait_for_dag(dag_id, timeout)
        self.request("PATCH", f"/dags/{_part(dag_id)}", json={"is_paused": True})

    def wait_for_dag(self, dag_id: str, timeout: float = 300) -> None:
        """Wait until the DAG is parsed.

        :param timeout: seconds
        :raises DagImportError: its file cannot be imported, or no file defined it in time
        """
        for _ in self._polls(timeout):
            if self._is_parsed(dag_id):
                return
            self._raise_import_errors(dag_id)
        self._raise_import_errors("")
        raise DagImportError(f"No file in the DAG folder defined {dag_id!r} within {timeout:.0f} seconds.")

    def _is_parsed(self, dag_id: str) -> bool:
        try:
            self.request("GET", f"/dags/{_part(dag_id)}")
        except AirflowApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that could not be imported, each with ``filename`` and ``stack_trace``."""
        return list(self.request("GET", "/importErrors")["import_errors"])

    def _raise_import_errors(self, dag_id: str) -> None:
        """Raise the errors of files that seem to define a DAG: the id is in their name or their text."""
        broken = [error for error in self.import_errors() if _mentions(error, dag_id)]
        if broken:
            raise DagImportError(
                "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in broken)
            )

    def trigger(
        self, dag_id: str, logical_date: datetime | None = None, conf: Mapping[str, Any] | None = None
    ) -> str:
        """Start a run and return its id.

        :param logical_date: the date that ``{{ ds }}`` shows, with a zone; None starts a run without one
        :param conf: the run's configuration
        """
        body: dict[str, Any] = {"conf": dict(conf or {})}
        if logical_date or not self._is_v1:  # a run of Airflow 2 always has one: now, by default
            body["logical_date"] = logical_date.isoformat() if logical_date else None
        return str(self.request("POST", f"/dags/{_part(dag_id)}/dagRuns", json=body)["dag_run_id"])

    def wait_for_run(self, dag_id: str, timeout: float = 300) -> str:
        """Wait for a run that Airflow starts by itself, and return the id of the DAG's first one.

        :param timeout: seconds; then :class:`TimeoutError`
        """
        for _ in self._polls(timeout):
            runs = self.request("GET", f"/dags/{_part(dag_id)}/dagRuns", params={"limit": 1})["dag_runs"]
            if runs:
                return str(runs[0]["dag_run_id"])
        raise TimeoutError(f"Airflow started no run of {dag_id} within {timeout:.0f} seconds.")

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.request("GET", _run_path(dag_id, run_id))["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return every task instance of a run, in the order of task id and map index.

        Pages are read in the order of the instances' ids, so that rows added in the meantime shift no page.
        Versions without cursors count rows instead.
        """
        found: dict[tuple[str, int], TaskInstance] = {}
        params: dict[str, Any] = {"limit": _PAGE}
        if not self._is_v1:
            params |= {"order_by": "id", "cursor": ""}
        while params:
            page = self.request("GET", f"{_run_path(dag_id, run_id)}/taskInstances", params=params)
            found.update(((one["task_id"], one["map_index"]), one) for one in page["task_instances"])
            params = _next_page(params, page, len(found))
        return [found[key] for key in sorted(found)]

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskInstance:
        """Return one task instance."""
        return dict(self.request("GET", _task_path(dag_id, run_id, task_id, map_index)))

    def watch(
        self, dag_id: str, run_id: str, timeout: float = 600, poll: float = _POLL_SECONDS
    ) -> Iterator[RunSnapshot]:
        """Yield one snapshot of a run per poll, up to and including the snapshot after its end.

        :param timeout: seconds; then :class:`TimeoutError`
        :param poll: seconds between two polls
        """
        snapshot = None
        for _ in self._polls(timeout, poll):
            # State first: instances that are read after it are at least as new.
            state = self.run_state(dag_id, run_id)
            snapshot = RunSnapshot(state, self.task_instances(dag_id, run_id))
            yield snapshot
            if snapshot.ended:
                return
        states = summary(snapshot.instances) if snapshot else ""
        raise TimeoutError(f"Run {run_id} of {dag_id} was not over after {timeout:.0f} seconds. {states}")

    def wait(
        self,
        dag_id: str,
        run_id: str,
        timeout: float = 600,
        on_change: OnChange | None = None,
        *,
        must_succeed: bool = False,
        poll: float = _POLL_SECONDS,
    ) -> str:
        """Wait for the end of a run and return its state.

        :param timeout: seconds; then :class:`TimeoutError`
        :param on_change: called with all task instances after a state or a try number has changed
        :param must_succeed: raise :class:`RunFailedError`, with the failed tasks' logs, if it fails
        :param poll: seconds between two polls; shorter states may be missed
        """
        seen: list[tuple[Any, ...]] = []
        state = ""
        for snapshot in self.watch(dag_id, run_id, timeout, poll):
            state = snapshot.state
            now = [_change_key(instance) for instance in snapshot.instances]
            if on_change and now != seen:
                on_change(snapshot.instances)
            seen = now
        if must_succeed and state == "failed":
            raise RunFailedError(f"Run {run_id} of {dag_id} failed.\n{self.failures(dag_id, run_id)}")
        return state

    def failures(self, dag_id: str, run_id: str, lines: int = 25) -> str:
        """Return the last log lines of every failed task of a run, each under a heading."""
        parts = []
        for instance in self.task_instances(dag_id, run_id):
            if instance["state"] == "failed":
                text = self._log_or_reason(instance).splitlines()[-lines:]
                parts.append("\n".join([f"--- {label(instance)}, try {instance['try_number']} ---", *text]))
        return "\n".join(parts)

    def _log_or_reason(self, instance: TaskInstance) -> str:
        try:
            return self.log(
                instance["dag_id"],
                instance["dag_run_id"],
                instance["task_id"],
                instance["try_number"],
                instance["map_index"],
            )
        except AirflowApiError as error:
            return str(error)

    def log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> str:
        """Return the log of one try of a task as text, one line per message.

        :param try_number: from 1; None means the latest
        """
        if try_number is None:
            try_number = int(self.task_instance(dag_id, run_id, task_id, map_index)["try_number"])
        reply = self.request(
            "GET",
            f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}",
            params={"map_index": map_index, "full_content": "true"},
        )
        return "\n".join(_log_lines(reply["content"]))

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        only_failed: bool = False,
        include_downstream: bool = True,
        include_upstream: bool = False,
        keep_state: bool | None = None,
    ) -> list[TaskInstance]:
        """Clear tasks as the UI does, and return the cleared instances.

        :param task_ids: a task with all its map indices, or a pair of task and map index. The API of Airflow
            2 has no such pairs: the failed instances of the task are cleared instead
        :param include_downstream: also clear the tasks after them, as is the default in the UI
        :param keep_state: whether the cleared tasks keep their saved state, on Airflow 3.3 and later. None is
            the default of the version: 3.3 keeps the state, 3.4 deletes it
        """
        body: dict[str, Any] = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [self._task(task) for task in task_ids],
            "only_failed": only_failed or (self._is_v1 and any(isinstance(task, tuple) for task in task_ids)),
            "include_downstream": include_downstream,
            "include_upstream": include_upstream,
            "reset_dag_runs": True,
        }
        path = f"/dags/{_part(dag_id)}/clearTaskInstances"
        if keep_state is not None and self.airflow_version >= (3, 4):
            body["keep_task_state"] = keep_state
        elif keep_state is False and self.airflow_version >= (3, 3):
            for one in self.request("POST", path, json={**body, "dry_run": True})["task_instances"]:
                self.delete_state(dag_id, run_id, one["task_id"], one["map_index"])
        return list(self.request("POST", path, json=body)["task_instances"])

    def _task(self, task: str | tuple[str, int]) -> str | list[str | int]:
        if isinstance(task, tuple):
            return task[0] if self._is_v1 else list(task)
        return task

    def clear_run(self, dag_id: str, run_id: str, *, only_failed: bool = False) -> None:
        """Clear a whole run as the UI does."""
        body = {"dry_run": False} if self._is_v1 else {"dry_run": False, "only_failed": only_failed}
        self.request("POST", f"{_run_path(dag_id, run_id)}/clear", json=body)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return the value that a task pushed."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{_part(key)}"
        return self.request("GET", path, params={"map_index": map_index, "stringify": "false"})["value"]

    def saved_state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return the saved state of a task, key by key; Airflow 3.3 and newer."""
        path = f"{_task_path(dag_id, run_id, task_id)}/state-store"
        reply = self.request("GET", path, params={"map_index": map_index, "limit": _PAGE})
        return {one["key"]: one["value"] for one in reply["task_state_store"]}

    def delete_state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Delete the saved state of a task; Airflow 3.3 and newer."""
        path = f"{_task_path(dag_id, run_id, task_id)}/state-store"
        self.request("DELETE", path, params={"map_index": map_index})

    def _polls(self, timeout: float, poll: float = _POLL_SECONDS) -> Iterator[None]:
        """Yield until the time-out, with a pause between two iterations and a check before each."""
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            yield
            if time.monotonic() > deadline:
                return
            time.sleep(poll)


def label(instance: TaskInstance) -> str:
    """Return a readable name of a task instance: its id, with the map index if it has one."""
    mapped = f"[{instance['map_index']}]" if instance["map_index"] >= 0 else ""
    return f"{instance['task_id']}{mapped}"


def summary(instances: Sequence[TaskInstance]) -> str:
    """Return all task instances and their states on one line."""
    return ", ".join(f"{label(instance)} {instance['state'] or 'waiting'}" for instance in instances)


def _mentions(error: Mapping[str, Any], dag_id: str) -> bool:
    return dag_id in f"{error['filename']}\n{error['stack_trace']}"


def _change_key(instance: TaskInstance) -> tuple[Any, ...]:
    return instance["task_id"], instance["map_index"], instance["state"], instance["try_number"]


def _next_page(params: dict[str, Any], page: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the query for the next page; empty after the last page."""
    if page.get("next_cursor"):
        return {**params, "cursor": page["next_cursor"]}
    if "next_cursor" in page or not page["task_instances"] or count >= page["total_entries"]:
        return {}
    return {**params, "offset": count}


def _log_lines(content: Any) -> Iterator[str]:
    """Yield the lines of a log as the API returns it, without the markers of the UI's folding groups."""
    if isinstance(content, str):  # Airflow 2: pairs of host and text, as Python writes them
        for _, text in ast.literal_eval(content):
            yield from text.splitlines()
        return
    for message in content:
        if str(message.get("event", "")).startswith(("::group::", "::endgroup::")):
            continue
        time_and_level = " ".join(str(message[name]) for name in ("timestamp", "level") if message.get(name))
        yield f"{time_and_level} {message.get('event', '')}".strip()
        yield from _error_lines(message.get("error_detail") or [])


def _error_lines(chain: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a logged exception as Python would print it, the cause first."""
    for error in reversed(chain):
        for frame in error.get("frames") or []:
            yield f"  {frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
        yield f"{error.get('exc_type')}: {error.get('exc_value')}"


def _part(name: str) -> str:
    return quote(name, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    mapped = f"/{map_index}" if map_index >= 0 else ""
    return f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}{mapped}"
