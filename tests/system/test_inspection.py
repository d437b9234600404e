"""Inspection in a real Airflow: what a person sees of damaged files, in the log and on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from harness.airflow import REPOSITORY
from tests.scans import DAMAGED_ZIP, ifc, valid_zip
from tests.system.conftest import AIRFLOW, Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.system, pytest.mark.long]

RECIPE = REPOSITORY / "docs" / "cookbook" / "ask-about-doubtful-scans.md"
DAMAGED = {"b.zip": DAMAGED_ZIP, "c.e57": b"", "d.glb": b"PK\3\4 no model"}
VALID = {"a.zip": valid_zip(), "e.ifc": ifc("EPSG:25832")}


def scan(site: Site, name: str, files: dict[str, bytes]) -> Path:
    folder = site.folder / name
    folder.mkdir()
    for filename, data in files.items():
        (folder / filename).write_bytes(data)
    return folder


def test_damaged_files_are_refused_before_a_session_exists(site: Site) -> None:
    """Three damaged files fail the listing at its first attempt, and the log names all of them."""
    folder = scan(site, "three-damaged", {**DAMAGED, **VALID})
    before = len(site.exchanges("POST", "/uploads"))
    run = site.run("inspected_scan", folder=str(folder))
    assert site.airflow.wait(*run) == "failed"
    instance = site.airflow.task_instance(*run, "list_files")
    assert (instance["state"], instance["try_number"]) == ("failed", 1)
    log = site.airflow.log(*run, "list_files")
    for name in DAMAGED:
        assert f"{name} is damaged: " in log
    assert "Damaged files: 3 of 5" in log
    assert len(site.exchanges("POST", "/uploads")) == before


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="Airflow has pages of plugins from 3.1 on.")
def test_the_page_shows_all_damaged_files(site: Site, page: Page) -> None:
    """The page of the run shows each damaged file with what is wrong."""
    folder = scan(site, "three-shown", {**DAMAGED, **VALID})
    dag_id, run_id = site.run("inspected_scan", folder=str(folder))
    site.airflow.wait(dag_id, run_id)
    page.goto(f"{site.airflow.url}/plugin/360?{urlencode({'dag': dag_id, 'run': run_id})}")
    page.get_by_text("3 files damaged").wait_for()
    for name in DAMAGED:
        page.get_by_role("listitem").filter(has_text=f"{name}: ").wait_for()


def test_the_coordinate_system_reaches_the_project(site: Site) -> None:
    """The coordinate system that a file states is that of the project on the server."""
    run = site.run("inspected_scan", folder=str(scan(site, "whole", VALID)))
    site.airflow.wait(*run, must_succeed=True)
    project = site.airflow.xcom(*run, "create_project")
    assert site.emulator.store.projects[project].options["coordinate_system"] == "EPSG:25832"


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="Airflow asks people from 3.1 on.")
def test_the_recipe_asks_a_person(site: Site) -> None:
    """Without an answer a damaged scan is not uploaded; a whole one is, without a question."""
    (block,) = re.findall(r"```python\n(.*?)```", RECIPE.read_text("utf-8"), re.DOTALL)
    folder = site.folder / "asked"
    code = block.replace("s3://scans/town-hall/", str(folder)).replace("hours=2", "seconds=5")
    assert code.count(str(folder)) == code.count("seconds=5") == 1
    (site.folder / "dags" / "recipe_ask.py").write_text(code, "utf-8")
    site.airflow.wait_for_dag("ask_about_doubtful_scans")
    scan(site, "asked", {**DAMAGED, **VALID})
    run = site.run("ask_about_doubtful_scans")
    site.airflow.wait(*run, must_succeed=True)
    states = {task["task_id"]: task["state"] for task in site.airflow.task_instances(*run)}
    assert states["ask"] == "success"
    assert states["create_session"] == states["create_project"] == "skipped"
    for name in DAMAGED:
        (folder / name).unlink()
    run = site.run("ask_about_doubtful_scans")
    site.airflow.wait(*run, must_succeed=True)
    states = {task["task_id"]: task["state"] for task in site.airflow.task_instances(*run)}
    assert states["ask"] == "skipped"
    assert states["create_project"] == "success"
