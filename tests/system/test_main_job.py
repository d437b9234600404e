"""The example DAGs in a real Airflow, on real scans."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from demo.scans import make_scans
from tests.system.conftest import Site

pytestmark = pytest.mark.system


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(site: Site, project: str) -> dict[str, str]:
    """Return name and SHA-256 of what the emulator holds of a project."""
    files = site.emulator.store.sessions[project].files
    return {name: sha256(site.emulator.store.file_path(project, name)) for name in files}


def finish(site: Site, run: tuple[str, str]) -> None:
    site.airflow.wait(*run, timeout=180, must_succeed=True)


def records(site: Site, run: tuple[str, str], task_id: str) -> list[dict[str, Any]]:
    mapped = [i["map_index"] for i in site.airflow.task_instances(*run) if i["task_id"] == task_id]
    return [site.airflow.xcom(*run, task_id, map_index=index) for index in mapped]


def test_nightly_s3_scans(site: Site, samples: Path) -> None:
    """Three real scans go from S3 into one project, identical, and the wait holds no worker."""
    date = site.next_day()
    scans = samples / "scans"
    site.s3.put_folder("scans", f"{date:%Y-%m-%d}/", scans)
    run = site.run("example_nightly_s3_scans", date)
    seen: set[tuple[str, str]] = set()
    site.airflow.wait(
        *run,
        timeout=180,
        must_succeed=True,
        on_change=lambda instances: seen.update((i["task_id"], i["state"]) for i in instances),
        poll=0.2,
    )
    assert ("ready", "deferred") in seen
    (record,) = records(site, run, "ready")
    assert (record["status"], record["title"]) == (100, f"Scan of {date:%Y-%m-%d}")
    assert stored(site, record["name"]) == {path.name: sha256(path) for path in scans.iterdir()}
    assert (
        site.airflow.xcom(*run, "ready", key="project_url")
        == site.emulator.url + f"/projects/{record['name']}"
    )
    labels = {i["rendered_map_index"] for i in site.airflow.task_instances(*run) if i["task_id"] == "upload"}
    assert labels == {path.name for path in scans.iterdir()}


def test_link_opens_the_project(site: Site, samples: Path) -> None:
    """The button of the project task and of the sensor leads to the project's page."""
    date = site.next_day()
    site.s3.put_folder("scans", f"{date:%Y-%m-%d}/", samples / "scans")
    dag_id, run_id = site.run("example_nightly_s3_scans", date)
    finish(site, (dag_id, run_id))
    (record,) = records(site, (dag_id, run_id), "ready")
    for task_id in ("create_project", "ready"):
        links = site.airflow.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        page = site.emulator.url + f"/projects/{record['name']}"
        assert links["extra_links"] == {"Open in 360": page}


def test_many_scans(site: Site, samples: Path) -> None:
    """Three scans and a photo set, a folder each, become exactly one project each, identical."""
    date = site.next_day()
    scans = [[path] for path in sorted((samples / "scans").iterdir())]
    folders = {scan[0].stem: scan for scan in scans}
    folders["photoset"] = sorted((samples / "photoset").iterdir())
    site.s3.make_bucket("many-scans")
    for name, files in folders.items():
        for file in files:
            site.s3.put_file("many-scans", f"{date:%Y-%m-%d}/{name}/{file.name}", file)
    before = set(site.emulator.store.projects)
    run = site.run("example_many_scans", date)
    finish(site, run)
    projects = set(site.emulator.store.projects) - before
    assert len(projects) == len(folders)
    held = [stored(site, project) for project in projects]
    for files in folders.values():
        assert {path.name: sha256(path) for path in files} in held
    names = {record["name"] for record in records(site, run, "scan_to_project.ready")}
    assert names == projects


def test_local_files(site: Site) -> None:
    """A folder of files goes up in one task, folders kept in the names, and the project task waits itself."""
    folder = site.folder / "photos"
    make_scans(folder)
    run = site.run("example_local_files", folder=str(folder), title="Photos")
    finish(site, run)
    project = site.airflow.xcom(*run, "create_project")
    assert set(stored(site, project).values()) == {sha256(p) for p in folder.rglob("*") if p.is_file()}
    assert site.emulator.store.projects[project].options["title"] == "Photos"


def test_download_link(site: Site) -> None:
    """A link becomes a project without a byte passing Airflow."""
    run = site.run("example_from_download_link", link="https://example.com/scan.e57")
    finish(site, run)
    (record,) = records(site, run, "ready")
    assert site.emulator.store.projects[record["name"]].options["coordinate_system"] == "EPSG:25832"


def test_empty_night(site: Site) -> None:
    """A night without files ends every task in skipped and spends no session."""
    site.s3.make_bucket("scans")
    sessions = len(site.emulator.store.sessions)
    run = site.run("example_nightly_s3_scans")
    finish(site, run)
    assert {i["state"] for i in site.airflow.task_instances(*run)} == {"skipped"}
    assert len(site.emulator.store.sessions) == sessions
