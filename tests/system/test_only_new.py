"""Nightly increments over one folder, in a real Airflow that remembers what is done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.long]


def put(folder: Path, scan: str, content: bytes, age: float = 600.0) -> None:
    """Write a scan that came some seconds ago."""
    file = folder / scan / f"{scan}.e57"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (time.time() - age, time.time() - age))


def made(site: Site, run: tuple[str, str]) -> list[str]:
    """Wait for a run, and return the titles of the projects that are in it."""
    site.airflow.wait(*run, timeout=240)
    names = [
        site.airflow.xcom(*run, i["task_id"], map_index=i["map_index"])
        for i in site.airflow.task_instances(*run)
        if i["task_id"] == "scan_to_project.create_project" and i["state"] == "success"
    ]
    return sorted(str(site.emulator.store.projects[name].options["title"]) for name in names)


def test_nights(site: Site, tmp_path: Path) -> None:
    """Each scan is made once, a failed or a changed one again, and a cleared run makes its own again."""
    for scan in ("bridge", "tunnel", "tower"):
        put(tmp_path, scan, scan.encode() * 1000)
    site.emulator.faults.add({"on": "PUT /uploads/*/tower.e57", "do": "status", "status": 402})

    def night() -> tuple[str, str]:
        put(tmp_path, "young", b"still being written", age=5)
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
    assert f"{tmp_path}/young is left to a later run" in log

    projects = len(site.emulator.store.projects)
    site.airflow.clear_run(*monday)
    assert made(site, monday) == ["bridge"]
    assert len(site.emulator.store.projects) == projects + 1
    assert made(site, night()) == []
