"""Nightly increments over one folder, in a real Airflow that records finished scans."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.airflow_api import AirflowApiError
from tests.system.conftest import AIRFLOW, Site

pytestmark = [pytest.mark.system, pytest.mark.long]


def put(folder: Path, scan: str, content: bytes, age: float = 600.0) -> None:
    """Write a scan that came some seconds ago; with a clock that is fast, some seconds from now."""
    file = folder / scan / f"{scan}.e57"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (time.time() - age, time.time() - age))


def made(site: Site, run: tuple[str, str]) -> list[str]:
    """Wait for a run, and return the titles of the projects that are in it."""
    site.airflow.wait(*run)
    names = [
        site.airflow.xcom(*run, i["task_id"], map_index=i["map_index"])
        for i in site.airflow.task_instances(*run)
        if i["task_id"] == "scan_to_project.create_project" and i["state"] == "success"
    ]
    return sorted(str(site.emulator.store.projects[name].options["title"]) for name in names)


def backfill(site: Site, folder: Path, days: int, **more: Any) -> list[list[str]]:
    """Backfill the first days of 2025, one after the other, and return the projects of their runs."""
    body = {
        "dag_id": "only_new",
        "from_date": datetime(2025, 1, 1, tzinfo=UTC).isoformat(),
        "to_date": datetime(2025, 1, days, tzinfo=UTC).isoformat(),
        "dag_run_conf": {"folder": str(folder)},
        "max_active_runs": 1,
        **more,
    }
    begun = site.airflow.request("POST", "/backfills", json=body)
    runs = site.airflow.request("GET", "/dags/only_new/dagRuns", params={"order_by": "logical_date"})
    ids = [run["dag_run_id"] for run in runs["dag_runs"] if run["dag_run_id"].startswith("backfill")]
    found = [made(site, ("only_new", run_id)) for run_id in ids[:days]]
    with contextlib.suppress(AirflowApiError):  # some seconds later it has ended by itself
        site.airflow.request("PUT", f"/backfills/{begun['id']}/cancel")
    return found


def test_nights(site: Site, tmp_path: Path) -> None:
    """Each scan is processed once, a failed or a changed one again; a cleared run processes its own again."""
    for scan in ("bridge", "tunnel", "tower"):
        put(tmp_path, scan, scan.encode() * 1000)
    site.emulator.faults.add({"on": "PUT /uploads/*/tower.e57", "do": "status", "status": 402})

    def night() -> tuple[str, str]:
        put(tmp_path, "young", b"still being written", age=-3600)  # however long a busy machine takes
        return site.run("only_new", folder=str(tmp_path))

    monday = night()
    assert made(site, monday) == ["bridge", "tunnel"]

    put(tmp_path, "tunnel", b"scanned anew" * 1000)
    tuesday = night()
    assert made(site, tuesday) == ["tower", "tunnel"]

    wednesday = night()
    assert made(site, wednesday) == []
    assert {i["state"] for i in site.airflow.task_instances(*wednesday)} == {"skipped"}
    log = site.airflow.log(*wednesday, "list_scans")
    assert f"{tmp_path}/bridge became project" in log
    assert f"in run only_new {monday[1]}" in log
    assert f"{tmp_path}/young is skipped in this run" in log

    projects = len(site.emulator.store.projects)
    site.airflow.clear_run(*monday)
    assert made(site, monday) == ["bridge"]
    assert len(site.emulator.store.projects) == projects + 1

    tower = site.airflow.xcom(*tuesday, "list_scans").index(f"{tmp_path}/tower")
    site.airflow.clear(*tuesday, [("scan_to_project.create_session", tower)])
    assert made(site, tuesday) == ["tower", "tunnel"]
    assert len(site.emulator.store.projects) == projects + 2
    assert made(site, night()) == []


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="an older Airflow begins no backfill by its API")
def test_backfill(site: Site, tmp_path: Path) -> None:
    """A backfill processes each open scan once; one that reprocesses a date processes its scan again."""
    before = len(site.emulator.store.projects)
    put(tmp_path, "bridge", b"bridge" * 1000)
    assert made(site, site.run("only_new", folder=str(tmp_path))) == ["bridge"]
    put(tmp_path, "tunnel", b"tunnel" * 1000)
    assert backfill(site, tmp_path, days=2) == [["tunnel"], []]
    assert backfill(site, tmp_path, days=1, reprocess_behavior="completed") == [["tunnel"]]
    assert len(site.emulator.store.projects) == before + 3
