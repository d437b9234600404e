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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import requests

from harness.airflow_api import AirflowApi
from harness.processes import LOOPBACK, Child, end, free_port
from tests.system.conftest import AIRFLOW, Site

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.system

MIB = 1024 * 1024
SCAN = {"ground-floor.e57": 14, "first-floor.e57": 19, "roof.laz": 48, "garden.las": 9}  # MiB
SLOW = "three_sixty_slow"
OPEN = 8  # slots
FILES = ("page.js", "icon.svg", "icon-dark.svg")


@pytest.fixture(scope="module", autouse=True)
def slow(site: Site) -> Iterator[None]:
    """A connection over a line that takes a mebibyte a second of each task, and the pool of these tasks."""
    connection = {"connection_id": SLOW, "conn_type": "three_sixty", "host": site.emulator.url}
    extra = json.dumps({"bandwidth_limit": MIB})
    site.airflow.request("POST", "/connections", json={**connection, "password": "sk_slow", "extra": extra})
    site.airflow.request("POST", "/pools", json={"name": "gate", "slots": OPEN})
    processing, site.emulator.store.processing_seconds = site.emulator.store.processing_seconds, 25.0
    yield
    site.emulator.store.processing_seconds = processing
    site.airflow.request("DELETE", f"/connections/{SLOW}")


def folder(site: Site, name: str, files: dict[str, int]) -> Path:
    made = site.folder / name
    made.mkdir()
    for filename, size in files.items():
        with (made / filename).open("wb") as file:
            file.truncate(size)
    return made


@contextlib.contextmanager
def uploads_wait(site: Site) -> Iterator[None]:
    """No upload begins within this block, however long a busy machine needs to show the page."""

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

    def seen(self, name: str, until: str, seconds: float) -> list[int]:
        """Watch a row until it has a text, and return the numbers of its bar, each once."""
        numbers: list[int] = []
        deadline = time.monotonic() + seconds
        while until not in self.row(name).inner_text():
            assert time.monotonic() < deadline, self.page.locator("three-sixty-uploads main").inner_text()
            percent = self.percent(name)
            if percent is not None and percent not in numbers[-1:]:
                numbers.append(percent)
            self.page.wait_for_timeout(300)
        return numbers

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


@pytest.mark.long
def test_a_run(uploads: Uploads, site: Site) -> None:
    """A run is watched from its first bytes to the button of its project, without loading the page again."""
    scan = folder(site, "town-hall", {name: size * MIB for name, size in SCAN.items()})
    with uploads_wait(site):
        dag_id, run_id = site.run("wide_upload", folder=str(scan), title="The old town hall")
        uploads.page.goto(f"{site.airflow.url}/dags/{dag_id}/runs/{run_id.replace('+', '%2B')}")
        uploads.page.get_by_role("link", name="360 uploads").last.click()
        uploads.page.evaluate("window.never_loaded_again = true")
        uploads.row("roof.laz").wait_for()
    uploads.row("roof.laz").get_by_text("Uploading").wait_for()
    numbers = uploads.seen("roof.laz", "s left", 60)
    assert re.search(r"iB/s · \d+ s left", uploads.row("roof.laz").inner_text())
    uploads.picture("page-uploading", 1200, 900)
    numbers += uploads.seen("roof.laz", "Done", 90)
    assert len({*numbers}) > 2
    assert numbers == sorted(numbers)
    uploads.page.get_by_text("All uploaded · 90.0 MiB").wait_for()
    uploads.page.get_by_text("4 files", exact=True).wait_for()
    statuses = uploads.seen("The old town hall", "Ready", 90)
    assert [status for status in statuses if 0 < status < 100] == sorted({*statuses} - {0, 100})
    assert len({*statuses} - {0, 100}) > 1
    uploads.page.get_by_text("This run is over").wait_for()
    project = site.airflow.xcom(dag_id, run_id, "create_project")
    with uploads.page.expect_popup() as opened:
        uploads.row("The old town hall").get_by_role("link", name="Open in 360").click()
    assert opened.value.url == f"{site.emulator.url}/projects/{project}"
    opened.value.close()
    assert uploads.page.evaluate("window.never_loaded_again")


@pytest.mark.long
def test_the_latest_runs(uploads: Uploads, site: Site) -> None:
    """The navigation leads to the latest runs, and one of them to its uploads, on a narrow screen too."""
    scan = folder(site, "chapel", {"nave.e57": 20 * MIB, "tower.e57": 16 * MIB})
    with uploads_wait(site):
        run = site.run("wide_upload", folder=str(scan), title="The chapel")
        uploads.page.goto(site.airflow.url)
        uploads.page.get_by_text("Browse", exact=True).click()
        uploads.page.get_by_role("menuitem", name="360 uploads").click()
        uploads.page.get_by_text("0 of 2 uploads done").first.wait_for()
        uploads.row("of 2 uploads").first.get_by_role("link").first.click()
        uploads.row("nave.e57").wait_for()
    uploads.row("nave.e57").get_by_text(re.compile(r"iB/s · \d+ s left")).wait_for()
    uploads.picture("page-narrow", 420, 800, "dark")
    uploads.page.set_viewport_size({"width": 420, "height": 800})
    wider = uploads.page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
    uploads.page.set_viewport_size({"width": 1100, "height": 1000})
    assert not wider
    site.airflow.wait(*run, timeout=180, must_succeed=True)


@pytest.mark.matrix
@pytest.mark.skipif(AIRFLOW not in ((3, 1), (3, 2)), reason="Those have pages and no task state store.")
def test_without_a_task_state_store(uploads: Uploads, site: Site) -> None:
    """Before Airflow 3.3 the tab of a run shows states, and the reason why there is no more."""
    scan = folder(site, "plain", {"hall.e57": 20 * MIB, "cellar.e57": 1000})
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
    uploads.page.get_by_text("All uploaded · 20.0 MiB").wait_for()
    assert len(uploads.seen("The plain hall", "Ready", 90)) > 1
    uploads.row("The plain hall").get_by_role("link", name="Open in 360").wait_for()
    site.airflow.wait(dag_id, run_id, timeout=60, must_succeed=True)


@pytest.mark.long
def test_names_are_text(uploads: Uploads, site: Site) -> None:
    """A project's title that contains markup is shown as text, and has no effect."""
    title = "<img src=x onerror=document.hacked=1><b>Hall</b>"
    run = site.run("wide_upload", folder=str(folder(site, "markup", {"hall.e57": 1000})), title=title)
    site.airflow.wait(*run, timeout=180, must_succeed=True)
    uploads.open(*run)
    uploads.row("hall.e57").wait_for()
    uploads.row(title).wait_for()
    assert uploads.page.evaluate("document.hacked") is None
    assert uploads.page.locator("three-sixty-uploads img, three-sixty-uploads b").count() == 0


@pytest.mark.long
def test_a_thousand_uploads(uploads: Uploads, site: Site) -> None:
    """A run of a thousand uploads is shown a page at a time, the failed first, with few requests."""
    scan = folder(site, "city", {f"street-{number:04}.e57": 100 * MIB for number in range(1000)})
    with uploads_wait(site):
        dag_id, run_id = site.run("wide_upload", folder=str(scan), title="The whole city")
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/upload"
        for _ in range(60):
            if len(site.airflow.task_instances(dag_id, run_id)) >= 1000:
                break
            time.sleep(2)
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
        uploads.page.wait_for_timeout(12_000)
        later = [url for url in asked if "/wide_upload" in url][len(first) :]
        assert 2 <= len(later) <= 30  # two or three polls; one may read all that changed
        uploads.page.get_by_role("button", name="Waiting 988").click()
        uploads.page.get_by_role("button", name="Next page").click()
        uploads.page.get_by_text("26–50 of 988").wait_for()
        assert "street-0037.e57" in rows.first.inner_text()
        site.airflow.request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})


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
        for _ in range(120):
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
    reply = requests.post(f"{url}/auth/token", json={"username": user, "password": user}, timeout=30)
    token = str(reply.json()["access_token"])
    page.context.clear_cookies()
    page.context.add_cookies([{"name": "_token", "value": token, "url": url}])
    return token


@pytest.mark.long
@pytest.mark.parametrize("path", [*FILES, "docs", "openapi.json"])
def test_anonymous(guarded: AirflowApi, path: str) -> None:
    """Without signing in you get nothing; signed in, the files and nothing else."""
    address = f"{guarded.url}/three-sixty/{path}"
    assert requests.get(address, timeout=30).status_code == 401
    login = {"username": "ann", "password": "ann"}
    token = requests.post(f"{guarded.url}/auth/token", json=login, timeout=30).json()["access_token"]
    signed_in = requests.get(address, cookies={"_token": token}, timeout=30)
    assert signed_in.status_code == (200 if path in FILES else 404)


@pytest.mark.long
def test_rights(page: Page, site: Site, guarded: AirflowApi) -> None:
    """A signed-in user who may see a DAG sees its uploads; any other user gets a message, and no data."""
    run = site.run("wide_upload", folder=str(folder(site, "secret", {"vault.e57": 1000})), title="Vault")
    site.airflow.wait(*run, timeout=180, must_succeed=True)
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
