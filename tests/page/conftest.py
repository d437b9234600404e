"""The page's script in a real browser, with a fake Airflow that can fail in every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import ListFilesOperator, UploadFileOperator, UploadFilesOperator
from airflow_360.plugin import page as plugin
from airflow_360.sensors.project import ProjectReadySensor
from tests.browser import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SCRIPTS = Path(plugin.__file__).parent
TAG = "three-sixty-uploads"
RUN = "dags/scan/dagRuns/night"
OPERATORS: dict[str, Any] = {
    "list_files": ListFilesOperator,
    "upload": UploadFileOperator,
    "upload_folder": UploadFilesOperator,
    "create_project": CreateProjectOperator,
    "ready": ProjectReadySensor,
}


class FakeAirflow(ThreadingHTTPServer):
    """Airflow's REST API, as far as the page asks it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.version = "3.3.2"
        self.tasks: dict[str, Any] = OPERATORS
        self.state = "running"
        self.instances: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        #: Replies below the task instances, by path: a body, or the status of a refusal.
        self.known: dict[str, Any] = {}
        self.largest_page = 100
        #: The answer to everything: a status; "page" is a proxy's page to sign in, "nothing" a closed socket.
        self.trouble: int | str | None = None
        self.open = threading.Event()
        self.open.set()
        self.asked: list[str] = []

    def task(self, task_id: str, state: str | None, index: int = -1, **more: Any) -> dict[str, Any]:
        """Add a task instance."""
        instance = {
            "dag_id": "scan",
            "dag_run_id": "night",
            "task_id": task_id,
            "map_index": index,
            "state": state,
            "try_number": 1,
            "rendered_fields": {},
            "rendered_map_index": None,
            "task_display_name": task_id,
            "start_date": "2026-01-02T10:00:00Z",
            "end_date": None,
            "duration": None,
            **more,
        }
        self.instances.append(instance)
        return instance

    def polls(self) -> int:
        """Return the number of polls of the run."""
        return self.asked.count(RUN)

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        if path.startswith(f"{RUN}/taskInstances/"):
            return self.known.get(path.removeprefix(f"{RUN}/taskInstances/"), 404)
        if path.endswith("/taskInstances"):
            states = query.get("state")
            found = [one for one in self.instances if not states or one["state"] in states]
            offset, limit = int(query.get("offset", ["0"])[0]), int(query["limit"][0])
            shown = found[offset : offset + min(limit, self.largest_page)]
            return {"task_instances": shown, "total_entries": len(found)}
        tasks = [
            {
                "task_id": task_id,
                "template_fields": list(operator.template_fields),
                "class_ref": {"class_name": operator.__name__},
            }
            for task_id, operator in self.tasks.items()
        ]
        return {
            "version": {"version": self.version},
            "dags/scan/tasks": {"tasks": tasks},
            RUN: {"state": self.state},
            "dags/~/dagRuns/list": {"dag_runs": self.runs},
        }.get(path, 404)


class _Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/":
            html = '<!doctype html><base href="/"><script type="module" src="page.js"></script><body></body>'
            return self._send(200, "text/html", html.encode())
        if address.path[1:] in plugin.SCRIPTS:
            return self._send(200, "text/javascript", (SCRIPTS / address.path[1:]).read_bytes())
        if not address.path.startswith("/api/v2/"):
            return self._send(404, "text/plain", b"")
        path = unquote(address.path.removeprefix("/api/v2/"))
        self.server.asked.append(path)
        self.server.open.wait(20)
        trouble = self.server.trouble
        if trouble == "page":
            return self._send(200, "text/html", b"<form>Sign in</form>")
        if trouble == "nothing":
            self.close_connection = True
            return None
        found = trouble or self.server.answer(path, parse_qs(address.query))
        status, found = (found, {"detail": "no"}) if isinstance(found, int) else (200, found)
        return self._send(status, "application/json", json.dumps(found).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # the page no longer waits
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Shown:
    """The page as a person sees it; the test advances its clock."""

    def __init__(self, page: Page, airflow: FakeAirflow) -> None:
        self.page, self.airflow = page, airflow
        self.alert = page.get_by_role("alert")

    def begin(self, **data: str) -> None:
        """Open the page of the run, or with ``run=""`` that of the latest runs."""
        self.page.goto(self.airflow.url)
        data = {"dag": "scan", "run": "night", **data}
        self.page.evaluate(
            """([tag, data]) => {
                const node = document.createElement(tag);
                Object.assign(node.dataset, data);
                document.body.append(node);
            }""",
            [TAG, data],
        )

    def open(self, **data: str) -> None:
        """Open the page, and wait for the end of its first poll."""
        self.begin(**data)
        self.settle()

    def settle(self) -> None:
        """Wait for the poll in flight."""
        for _ in range(6000):
            if not self.page.evaluate(f"!!document.querySelector('{TAG}').polling"):
                return
            self.page.wait_for_timeout(10)
        raise AssertionError("A poll does not end.")

    def later(self, seconds: int) -> None:
        """Advance the time, and run the polls in between."""
        for _ in range(0, seconds, 5):
            self.page.clock.run_for(5000)
            self.settle()

    def hide(self, hidden: bool) -> None:
        """Switch to another tab of the browser, or back to this one."""
        self.page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("listitem").filter(has_text=name)

    def text(self) -> str:
        return self.page.locator(f"{TAG} main").inner_text()


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.open.set()
        server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def shown(chromium: Browser, airflow: FakeAirflow) -> Iterator[Shown]:
    page = chromium.new_page(timezone_id="UTC", locale="en-GB")
    page.set_default_timeout(30_000)
    page.clock.install()
    yield Shown(page, airflow)
    page.close()
