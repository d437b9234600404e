"""The page of uploads in the real Airflow, in a real browser, against real runs.

With ``SCREENSHOTS=folder`` in the environment, as `make screenshots` sets it, this also takes the pictures
of the documentation.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
import requests

from airflow_360.emulator.files import Writing
from airflow_360.emulator.projects import Project
from harness.airflow_api import AirflowApi
from harness.processes import LOOPBACK, Child, end, free_port
from tests.system.conftest import AIRFLOW, SECONDS, Site

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.system

MIB = 1024 * 1024
SCAN = {"ground-floor.e57": 14, "first-floor.e57": 19, "roof.laz": 48, "garden.las": 9}  # MiB
OPEN = 8  # slots
SECONDS_PER_CHUNK = 3
FILES = ("page.js", "icon.svg", "icon-dark.svg")


@pytest.fixture(scope="module", autouse=True)
def pool(site: Site) -> Iterator[None]:
    """The pool of the uploads."""
    site.airflow.request("POST", "/pools", json={"name": "gate", "slots": OPEN})
    processing, site.emulator.store.processing_seconds = site.emulator.store.processing_seconds, 1.0
    yield
    site.emulator.store.processing_seconds = processing


@pytest.fixture
def slow(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A server that is slow until this event is set, however long a busy machine needs to show the page."""
    fast, begin_put = threading.Event(), site.emulator.store.begin_put

    def begin_put_slowly(*args: Any, **more: Any) -> Writing:
        fast.wait(SECONDS_PER_CHUNK)
        return begin_put(*args, **more)

    monkeypatch.setattr(site.emulator.store, "begin_put", begin_put_slowly)
    yield fast
    fast.set()


def folder(site: Site, name: str, files: dict[str, int]) -> Path:
    made = site.folder / name
    made.mkdir()
    for filename, size in files.items():
        with (made / filename).open("wb") as file:
            file.truncate(size)
    return made


@contextlib.contextmanager
def uploads_wait(site: Site) -> Iterator[None]:
    """No upload begins within this block."""

    def slots(number: int) -> None:
        pool = {"name": "gate", "slots": number, "include_deferred": False}
        site.airflow.request("PATCH", "/pools/gate", json=pool)

    slots(0)
    try:
        yield
    finally:
        slots(OPEN)


class Uploads:
    """The page, as a person sees it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, dag_id: str, run_id: str) -> None:
        """Open a run from the navigation, which shows it in full width."""
        self.page.goto(f"{self.url}/plugin/360?{urlencode({'dag': dag_id, 'run': run_id})}")

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("listitem").filter(has_text=name)

    def percent(self, name: str) -> int | None:
        """Return the value of a row's bar; None while it has no number."""
        shown = self.row(name).get_by_role("progressbar").get_attribute("aria-valuenow")
        return None if shown is None else int(shown)

    def seen(self, name: str, until: Callable[[list[int]], bool]) -> list[int]:
        """Watch a row until the numbers that its bar had, each once, are enough, and return them."""
        numbers: list[int] = []
        deadline = time.monotonic() + SECONDS
        while not until(numbers):
            assert time.monotonic() < deadline, f"{numbers} {self.text()}"
            percent = self.percent(name)
            if percent is not None and percent not in numbers[-1:]:
                numbers.append(percent)
            self.page.wait_for_timeout(300)
        return numbers

    def await_percent(self, name: str, percent: int) -> None:
        self.row(name).locator(f"[role=progressbar][aria-valuenow='{percent}']").wait_for()

    def text(self) -> str:
        return self.page.locator("three-sixty-uploads main").inner_text()

    def picture(self, name: str, width: int, height: int, theme: str = "light") -> None:
        """Take a picture for the documentation."""
        if target := os.environ.get("SCREENSHOTS"):
            before = self.page.viewport_size
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.evaluate("theme => document.documentElement.className = theme", theme)
            self.page.wait_for_timeout(1000)
            self.page.screenshot(path=Path(target) / f"{name}.png", animations="disabled")
            self.page.evaluate("document.documentElement.className = 'light'")
            self.page.set_viewport_size(before or {"width": 1100, "height": 1000})


@pytest.fixture
def uploads(page: Page, site: Site) -> Uploads:
    return Uploads(page, site.airflow.url)


def project_of(site: Site, run: tuple[str, str]) -> Project:
    """Wait for the project of a run, and return it."""
    deadline = time.monotonic() + SECONDS
    while True:
        upload_id = site.airflow.xcom(*run, "create_session")
        for project in site.emulator.store.projects.values():
            if project.session and project.session.upload_id == upload_id:
                return project
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.long
def test_a_run(uploads: Uploads, site: Site, slow: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is watched from its first bytes to the button of its project, without loading the page again."""
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 10_000.0)
    scan = folder(site, "town-hall", {name: size * MIB for name, size in SCAN.items()})
    with uploads_wait(site):
        dag_id, run_id = site.run("wide_upload", folder=str(scan), title="The old town hall")
        uploads.page.goto(f"{site.airflow.url}/dags/{dag_id}/runs/{run_id.replace('+', '%2B')}")
        uploads.page.get_by_role("link", name="360 uploads").last.click()
        uploads.page.evaluate("window.never_loaded_again = true")
        uploads.row("roof.laz").wait_for()
    uploads.row("roof.laz").get_by_text("Uploading").wait_for()
    numbers = uploads.seen("roof.laz", lambda numbers: len({*numbers} - {0, 100}) > 2)
    assert numbers == sorted(numbers)
    uploads.row("roof.laz").get_by_text(re.compile(r"iB/s · .+ left")).wait_for()
    uploads.picture("page-uploading", 1200, 900)
    slow.set()
    uploads.row("roof.laz").get_by_text("Done").wait_for()
    uploads.page.get_by_text("All uploaded · 90.0 MiB").wait_for()
    uploads.page.get_by_text("4 files", exact=True).wait_for()
    project = project_of(site, (dag_id, run_id))
    for percent in (30, 60):
        project.created_at = time.time() - 100 * (percent + 0.5)
        uploads.await_percent("The old town hall", percent)
    project.processing_seconds = 0
    uploads.row("The old town hall").get_by_text("Ready").wait_for()
    uploads.page.get_by_text("This run is over").wait_for()
    name = site.airflow.xcom(dag_id, run_id, "create_project")
    with uploads.page.expect_popup() as opened:
        uploads.row("The old town hall").get_by_role("link", name="Open in 360").click()
    assert opened.value.url == f"{site.emulator.url}/projects/{name}"
    opened.value.close()
    assert uploads.page.evaluate("window.never_loaded_again")


@pytest.mark.long
def test_the_latest_runs(uploads: Uploads, site: Site, slow: threading.Event) -> None:
    """The navigation leads to the latest runs, and one of them to its uploads, on a narrow screen too."""
    scan = folder(site, "chapel", {"nave.e57": 200 * MIB, "tower.e57": 16 * MIB})
    with uploads_wait(site):
        run = site.run("wide_upload", folder=str(scan), title="The chapel")
        uploads.page.goto(site.airflow.url)
        uploads.page.get_by_text("Browse", exact=True).click()
        uploads.page.get_by_role("menuitem", name="360 uploads").click()
        uploads.page.get_by_text("0 of 2 uploads done").first.wait_for()
        uploads.row("of 2 uploads").first.get_by_role("link").first.click()
        uploads.row("nave.e57").wait_for()
    uploads.row("nave.e57").get_by_text(re.compile(r"iB/s · .+ left")).wait_for()
    uploads.picture("page-narrow", 420, 800, "dark")
    uploads.page.set_viewport_size({"width": 420, "height": 800})
    wider = uploads.page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
    uploads.page.set_viewport_size({"width": 1100, "height": 1000})
    assert not wider
    slow.set()
    site.airflow.wait(*run, must_succeed=True)


@pytest.mark.matrix
@pytest.mark.skipif(AIRFLOW not in ((3, 1), (3, 2)), reason="Those have pages and no task state store.")
def test_without_a_task_state_store(
    uploads: Uploads, site: Site, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Airflow 3.3 the tab of a run shows states, and the reason why there is no more."""
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 10_000.0)
    scan = folder(site, "plain", {"hall.e57": 200 * MIB, "cellar.e57": 1000})
    with uploads_wait(site):
        dag_id, run_id = site.run("wide_upload", folder=str(scan), title="The plain hall")
        uploads.page.goto(site.airflow.url)  # to sign in, after which 3.1 forgets the requested page
        uploads.page.get_by_role("link", name="Home").first.wait_for()
        uploads.page.goto(f"{site.airflow.url}/dags/{dag_id}/runs/{run_id.replace('+', '%2B')}")
        uploads.page.get_by_role("link", name="360 uploads").last.click()
        uploads.row("hall.e57").wait_for()
    uploads.row("hall.e57").get_by_text(re.compile("^since ")).wait_for()
    assert "keeps no numbers of running uploads" in uploads.text()
    assert "Uploading" in uploads.row("hall.e57").inner_text()
    assert uploads.percent("hall.e57") is None
    uploads.page.get_by_text("1 of 2 uploads done").wait_for()
    slow.set()
    uploads.page.get_by_text("All uploaded · 200.0 MiB").wait_for()
    project = project_of(site, (dag_id, run_id))
    project.created_at = time.time() - 3_050
    uploads.await_percent("The plain hall", 30)
    project.processing_seconds = 0
    uploads.row("The plain hall").get_by_role("link", name="Open in 360").wait_for()
    site.airflow.wait(dag_id, run_id, must_succeed=True)


@pytest.mark.long
def test_names_are_text(uploads: Uploads, site: Site) -> None:
    """A project's title that contains markup is shown as text, and has no effect."""
    title = "<img src=x onerror=document.hacked=1><b>Hall</b>"
    run = site.run("wide_upload", folder=str(folder(site, "markup", {"hall.e57": 1000})), title=title)
    site.airflow.wait(*run, must_succeed=True)
    uploads.open(*run)
    uploads.row("hall.e57").wait_for()
    uploads.row(title).wait_for()
    assert uploads.page.evaluate("document.hacked") is None
    assert uploads.page.locator("three-sixty-uploads img, three-sixty-uploads b").count() == 0


@pytest.mark.long
def test_a_thousand_uploads(uploads: Uploads, site: Site) -> None:
    """A run of a thousand uploads is shown a page at a time, the failed first, with few requests."""
    scan = folder(site, "city", {f"street-{number:04}.e57": 100 * MIB for number in range(1000)})
    with uploads_wait(site), contextlib.ExitStack() as stack:
        dag_id, run_id = site.run("wide_upload", folder=str(scan), title="The whole city")
        of_run = f"/dags/{dag_id}/dagRuns/{run_id}"
        stack.callback(site.airflow.request, "PATCH", of_run, json={"state": "failed"})
        path = f"{of_run}/taskInstances/upload"
        for snapshot in site.airflow.watch(dag_id, run_id, poll=2):
            if len(snapshot.instances) >= 1000:
                break
        for index in range(12):
            state = "failed" if index < 2 else "success"
            site.airflow.request("PATCH", f"{path}/{index}", json={"new_state": state})
        stopped = {"received": 43 * MIB, "size": 100 * MIB, "percent": 43, "rate": MIB, "seconds_left": 57}
        site.airflow.request(
            "PUT", f"{path}/state-store/360%20progress", json={"value": stopped}, params={"map_index": 1}
        )
        asked: list[str] = []
        uploads.page.on("request", lambda request: asked.append(request.url))
        uploads.open(dag_id, run_id)
        uploads.page.get_by_text("1–25 of 1,000").wait_for()
        first = [url for url in asked if "/wide_upload" in url]
        assert len(first) <= 50
        for chip in ("All 1,000", "Failed 2", "Waiting 988", "Done 10"):
            uploads.page.get_by_role("button", name=chip, exact=True).wait_for()
        rows = uploads.page.get_by_role("listitem").filter(has_text="street-")
        assert rows.count() == 25
        assert "street-0000.e57" in rows.first.inner_text()
        assert "Stopped at 43.0 MiB of 100.0 MiB (43 %)" in rows.nth(1).inner_text()
        uploads.picture("page-thousand", 1200, 900)
        for _ in range(2):
            with uploads.page.expect_response(lambda reply: reply.url.endswith(f"/dagRuns/{quote(run_id)}")):
                pass
        later = [url for url in asked if "/wide_upload" in url][len(first) :]
        assert len(later) <= 30  # of two or three polls; one may read all that changed
        uploads.page.get_by_role("button", name="Waiting 988").click()
        uploads.page.get_by_role("button", name="Next page").click()
        uploads.page.get_by_text("26–50 of 988").wait_for()
        assert "street-0037.e57" in rows.first.inner_text()


@pytest.fixture(scope="module")
def guarded(site: Site) -> Iterator[AirflowApi]:
    """A second API server of the same Airflow, whose users have different permissions."""
    port, passwords = free_port(), site.folder / "passwords.json"
    passwords.write_text(json.dumps({"ann": "ann", "bob": "bob"}))
    env = {
        **site.airflow.env,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{LOOPBACK}:{port}",
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.system.rights.PerDagAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ann:viewer,bob:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    command = [sys.executable, "-m", "airflow", "api-server"]
    child = Child("api-server", command, log=site.folder / "guarded.log", env=env, cwd=site.folder)
    api = AirflowApi(f"http://{LOOPBACK}:{port}")
    try:
        for _ in range(600):
            child.check()
            try:
                api.health()
                break
            except requests.RequestException:
                time.sleep(1)
        yield api
    finally:
        end([child])


def sign_in(page: Page, url: str, user: str) -> str:
    reply = requests.post(f"{url}/auth/token", json={"username": user, "password": user}, timeout=120)
    token = str(reply.json()["access_token"])
    page.context.clear_cookies()
    page.context.add_cookies([{"name": "_token", "value": token, "url": url}])
    return token


@pytest.mark.long
@pytest.mark.parametrize("path", [*FILES, "docs", "openapi.json"])
def test_anonymous(guarded: AirflowApi, path: str) -> None:
    """Without signing in you get nothing; signed in, the files and nothing else."""
    address = f"{guarded.url}/three-sixty/{path}"
    assert requests.get(address, timeout=120).status_code == 401
    login = {"username": "ann", "password": "ann"}
    token = requests.post(f"{guarded.url}/auth/token", json=login, timeout=120).json()["access_token"]
    signed_in = requests.get(address, cookies={"_token": token}, timeout=120)
    assert signed_in.status_code == (200 if path in FILES else 404)


@pytest.mark.long
def test_rights(page: Page, site: Site, guarded: AirflowApi) -> None:
    """A signed-in user who may see a DAG sees its uploads; any other user gets a message, and no data."""
    run = site.run("wide_upload", folder=str(folder(site, "secret", {"vault.e57": 1000})), title="Vault")
    site.airflow.wait(*run, must_succeed=True)
    uploads = Uploads(page, guarded.url)
    sign_in(page, guarded.url, "ann")
    uploads.open(*run)
    uploads.row("vault.e57").wait_for()
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("alert").get_by_text("You are signed out").wait_for()
    sign_in(page, guarded.url, "ann")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("alert").wait_for(state="hidden")
    page.goto(f"{guarded.url}/plugin/360")
    page.get_by_text("wide_upload").first.wait_for()

    sign_in(page, guarded.url, "bob")
    uploads.open(*run)
    page.get_by_role("alert").get_by_text("You may not see").wait_for()
    assert "vault" not in uploads.text().lower()
    page.goto(f"{guarded.url}/plugin/360")
    page.get_by_text("No run that you may see").wait_for()
    assert "wide_upload" not in uploads.text()
    page.context.clear_cookies()
