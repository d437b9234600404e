"""The example DAGs in a real Airflow, on real scans."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.scans import make_scans
from tests.system.conftest import AIRFLOW, Site

pytestmark = [pytest.mark.system, pytest.mark.matrix]


#: Seconds that a project takes: until a wait was seen, and from then on.
HELD, SOON = 3600.0, 2.0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(site: Site, project: str) -> dict[str, str]:
    """Return name and SHA-256 of the emulator's files of a project."""
    files = site.emulator.store.sessions[project].files
    return {name: sha256(site.emulator.store.file_path(project, name)) for name in files}


def finish(site: Site, run: tuple[str, str]) -> None:
    let_through(site)
    site.airflow.wait(*run, must_succeed=True)


def let_through(site: Site) -> None:
    """Let projects be ready soon, those that wait and those to come."""
    store = site.emulator.store
    store.processing_seconds = SOON
    for project in store.projects.values():
        project.processing_seconds = min(project.processing_seconds, SOON)


def records(site: Site, run: tuple[str, str], task_id: str) -> list[dict[str, Any]]:
    mapped = [i["map_index"] for i in site.airflow.task_instances(*run) if i["task_id"] == task_id]
    return [site.airflow.xcom(*run, task_id, map_index=index) for index in mapped]


@dataclass
class Runs:
    """The runs of example DAGs, by the test that looks at each.

    They start together, because each of them waits most of the time; only those whose tests are selected.
    """

    of: dict[str, tuple[str, str]]
    title: str
    folders: dict[str, list[Path]]
    photos: Path


@pytest.fixture(scope="module")
def runs(site: Site, samples: Path, request: pytest.FixtureRequest) -> Iterator[Runs]:
    date = site.next_day()
    day = f"{date - timedelta(days=1):%Y-%m-%d}"  # the last complete data interval before that date
    prefix = f"{day}/"
    site.s3.put_folder("scans", prefix, samples / "scans")
    folders = {path.stem: [path] for path in sorted((samples / "scans").iterdir())}
    folders["photoset"] = sorted((samples / "photoset").iterdir())
    site.s3.make_bucket("many-scans")
    for name, files in folders.items():
        for file in files:
            site.s3.put_file("many-scans", f"{prefix}{name}/{file.name}", file)
    site.s3.make_bucket("new-scans")
    for name in ("bridge", "tunnel"):
        for file in folders["photoset"]:
            site.s3.put_file("new-scans", f"{name}/{file.name}", file)
    site.airflow.unpause("example_new_scans_catalog")
    before, site.emulator.store.processing_seconds = site.emulator.store.processing_seconds, HELD
    photos = site.folder / "photos"
    make_scans(photos)
    starts: dict[str, Callable[[], tuple[str, str]]] = {
        "test_nightly_s3_scans": lambda: site.run("example_nightly_s3_scans", date),
        "test_many_scans": lambda: site.run("example_many_scans", day=day),
        "test_local_files": lambda: site.run("example_local_files", folder=str(photos), title="Photos"),
        "test_download_link": lambda: site.run(
            "example_from_download_link", link="https://example.com/scan.e57"
        ),
        "test_new_scans": lambda: site.run("example_new_scans"),
    }
    selected = {item.name for item in request.session.items} | {"test_nightly_s3_scans"}
    started = {name: start() for name, start in starts.items() if name in selected}
    yield Runs(started, f"Scan of {day}", folders, photos)
    site.emulator.store.processing_seconds = before


def test_nightly_s3_scans(site: Site, runs: Runs, samples: Path) -> None:
    """Three scans are uploaded from S3 into one project, identical, and the wait holds no worker."""
    seen: set[tuple[str, str]] = set()

    def look(instances: list[dict[str, Any]]) -> None:
        seen.update((i["task_id"], i["state"]) for i in instances)
        if ("ready", "deferred") in seen:
            let_through(site)

    site.airflow.wait(*runs.of["test_nightly_s3_scans"], must_succeed=True, on_change=look, poll=0.2)
    assert ("ready", "deferred") in seen
    (record,) = records(site, runs.of["test_nightly_s3_scans"], "ready")
    assert (record["status"], record["title"]) == (100, runs.title)
    scans = {path.name: sha256(path) for path in (samples / "scans").iterdir()}
    assert stored(site, record["name"]) == scans
    uploads = [
        i for i in site.airflow.task_instances(*runs.of["test_nightly_s3_scans"]) if i["task_id"] == "upload"
    ]
    others: dict[tuple[int, ...], set[str | None]] = {
        (2, 11): {None},
        (3, 0): {"0", "1", "2"},
        (3, 1): {"0", "1", "2"},
        (3, 2): {"0", "1", "2"},
    }
    labels = others.get(AIRFLOW, set(scans))
    assert {upload["rendered_map_index"] for upload in uploads} == labels


def test_link_opens_the_project(site: Site, runs: Runs) -> None:
    """The button of the project task and of the sensor opens the project's page, whose URL is an XCom."""
    finish(site, runs.of["test_nightly_s3_scans"])
    dag_id, run_id = runs.of["test_nightly_s3_scans"]
    (record,) = records(site, runs.of["test_nightly_s3_scans"], "ready")
    page = site.emulator.url + f"/projects/{record['name']}"
    assert site.airflow.xcom(dag_id, run_id, "ready", key="project_url") == page
    for task_id in ("create_project", "ready"):
        links = site.airflow.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        assert links.get("extra_links", links) == {"Open in 360": page}  # Airflow 2 puts nothing around them


@pytest.mark.long
def test_many_scans(site: Site, runs: Runs) -> None:
    """Three scans and a photo set, a folder each, become exactly one project each, identical and named."""
    finish(site, runs.of["test_many_scans"])
    ready = {
        record["title"]: record["name"]
        for record in records(site, runs.of["test_many_scans"], "scan_to_project.ready")
    }
    assert set(ready) == set(runs.folders)
    for title, files in runs.folders.items():
        assert stored(site, ready[title]) == {path.name: sha256(path) for path in files}
    made = [project.options.get("title") for project in site.emulator.store.projects.values()]
    assert all(made.count(title) == 1 for title in runs.folders)


@pytest.mark.long
def test_local_files(site: Site, runs: Runs) -> None:
    """A folder of files is uploaded in one task, folders kept in the names; the project task waits itself."""
    finish(site, runs.of["test_local_files"])
    project = site.airflow.xcom(*runs.of["test_local_files"], "create_project")
    files = {sha256(path) for path in runs.photos.rglob("*") if path.is_file()}
    assert set(stored(site, project).values()) == files
    assert site.emulator.store.projects[project].options["title"] == "Photos"


@pytest.mark.long
def test_download_link(site: Site, runs: Runs) -> None:
    """A link becomes a project without a byte passing Airflow."""
    finish(site, runs.of["test_download_link"])
    (record,) = records(site, runs.of["test_download_link"], "ready")
    assert site.emulator.store.projects[record["name"]].options["coordinate_system"] == "EPSG:25832"


@pytest.mark.long
@pytest.mark.skipif(AIRFLOW < (3, 3), reason="the events of assets are asked for in the API of 3.3")
def test_new_scans(site: Site, runs: Runs) -> None:
    """Each ready project sends an event with its name, which triggers the DAG that reads it."""
    finish(site, runs.of["test_new_scans"])
    ready = records(site, runs.of["test_new_scans"], "scan_to_project.ready")
    expected = {
        record["name"]: {
            "name": record["name"],
            "title": record["title"],
            "url": f"{site.emulator.url}/projects/{record['name']}",
            "size": record["size"],
            "files": len(runs.folders["photoset"]),
            "errors": 0,
        }
        for record in ready
    }
    assert {record["title"] for record in ready} == {"bridge", "tunnel"}
    # The scheduler of these tests starts no run by itself, so that a cron schedule does not disturb them.
    kind = "dataset" if AIRFLOW < (3, 0) else "asset"
    events = site.airflow.request("GET", f"/{kind}s/events")[f"{kind}_events"]
    ours = [event["extra"] for event in events if event["source_dag_id"] == "example_new_scans"]
    assert {extra["name"]: extra for extra in ours} == expected
    queue = "datasets/queuedEvent" if kind == "dataset" else "assets/queuedEvents"
    queued = site.airflow.request("GET", f"/dags/example_new_scans_catalog/{queue}")
    # Up to Airflow 3.3 an asset is queued once, however many events it has; then each event is.
    assert queued["total_entries"] == (1 if AIRFLOW < (3, 4) else len(ready))


def test_empty_night(site: Site) -> None:
    """A night without files ends every task in skipped and spends no session."""
    site.s3.make_bucket("scans")
    sessions = len(site.emulator.store.sessions)
    run = site.run("example_nightly_s3_scans")
    finish(site, run)
    assert {i["state"] for i in site.airflow.task_instances(*run)} == {"skipped"}
    assert len(site.emulator.store.sessions) == sessions


@pytest.mark.long
def test_clean_up(site: Site, tmp_path: Path) -> None:
    """A session whose upload was refused is discarded and its run fails; one with a project is left alone."""
    refused, good = tmp_path / "refused", tmp_path / "good"
    for folder, name in ((refused, "refused.e57"), (good, "good.e57")):
        folder.mkdir()
        (folder / name).write_bytes(b"scan")
    site.emulator.faults.add({"on": "PUT /uploads/*/refused.e57", "do": "status", "status": 402})
    failing, passing = (site.run("example_clean_up", folder=str(folder)) for folder in (refused, good))
    assert site.airflow.wait(*failing) == "failed"
    finish(site, passing)
    states = {i["task_id"]: i["state"] for i in site.airflow.task_instances(*failing)}
    assert (states["upload"], states["discard_session"]) == ("failed", "success")
    assert site.airflow.xcom(*failing, "create_session") not in site.emulator.store.sessions
    assert site.airflow.task_instance(*passing, "discard_session")["state"] == "skipped"
    assert site.airflow.xcom(*passing, "create_session") in site.emulator.store.sessions
