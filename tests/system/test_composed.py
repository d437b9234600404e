"""The outputs of an upload for other data tasks, in a real Airflow whose OpenLineage writes into a file."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_360.emulator import Emulator
from harness.airflow import LocalAirflow
from harness.s3 import LocalS3
from tests.system.conftest import Site
from tests.system.machines import database_env
from tests.system.test_secrets import found_in

pytestmark = [pytest.mark.system, pytest.mark.long]

EVENTS = "events.json"


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow with a collector of lineage, which the other tests' tasks shall not pay for."""
    folder = tmp_path_factory.mktemp("composed")
    transport = {"type": "file", "log_file_path": str(folder / EVENTS), "append": True}
    with Emulator(processing_seconds=2) as emulator, LocalS3(folder / "s3") as s3, database_env() as database:
        s3.make_bucket("records")
        env = {
            **database,
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(
                {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_composed"}
            ),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
            "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "300",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        }
        with LocalAirflow(folder / "airflow", Path(__file__).parent / "dags", env=env) as airflow:
            yield Site(airflow, emulator, s3, folder)


@pytest.fixture(scope="module")
def photos(composed: Site) -> Path:
    folder = composed.folder / "photos"
    (folder / "roof").mkdir(parents=True)
    for number in range(30):
        (folder / "roof" / f"DJI {number}.jpg").write_bytes(bytes([number]) * 1000)
    return folder


@pytest.fixture(scope="module")
def recorded(composed: Site, photos: Path) -> tuple[str, str]:
    run = composed.run("recorded", folder=str(photos))
    composed.airflow.wait(*run, must_succeed=True)
    return run


def test_manifest(composed: Site, recorded: tuple[str, str], photos: Path) -> None:
    """The manifest is in S3, with name, size and SHA-256 of the files on the server."""
    upload_id = composed.airflow.xcom(*recorded, "scan_to_project.create_session")
    body = composed.s3.client().get_object(Bucket="records", Key=f"{upload_id}.csv")["Body"].read()
    rows = {row["filename"]: row for row in csv.DictReader(body.decode("utf-8").splitlines())}
    store = composed.emulator.store
    assert len(rows) == 30
    assert rows.keys() == store.sessions[upload_id].files.keys()
    for name, row in rows.items():
        copy = store.file_path(upload_id, name).read_bytes()
        assert (int(row["size"]), row["sha256"]) == (len(copy), hashlib.sha256(copy).hexdigest())
    log = composed.airflow.log(*recorded, "scan_to_project.upload")
    assert f"records/{upload_id}.csv" in log
    assert hashlib.sha256(body).hexdigest() in log


def datasets(composed: Site, run_id: str, task_id: str) -> tuple[set[str], set[str]]:
    """Wait until OpenLineage has written that a task ended, and return its inputs and outputs."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for event in map(json.loads, _lines(composed.folder / EVENTS)):
            if _says(event, run_id, task_id):
                inputs, outputs = (
                    {f"{one['namespace']}|{one['name']}" for one in event[side]}
                    for side in ("inputs", "outputs")
                )
                return inputs, outputs
        time.sleep(1)
    raise AssertionError(f"OpenLineage wrote no end of {task_id} in {run_id}.")


def _lines(file: Path) -> list[str]:
    """Return the lines that are written in full."""
    return file.read_text("utf-8").split("\n")[:-1] if file.exists() else []


def _says(event: dict[str, Any], run_id: str, task_id: str) -> bool:
    facets = event["run"].get("facets", {}).get("airflow", {})
    said = (event["eventType"], facets.get("dagRun", {}).get("run_id"), facets.get("task", {}).get("task_id"))
    return said == ("COMPLETE", run_id, task_id)


def test_lineage(composed: Site, recorded: tuple[str, str], photos: Path) -> None:
    """OpenLineage knows the way from the folder over session and manifest to the project."""
    upload_id = composed.airflow.xcom(*recorded, "scan_to_project.create_session")
    project = composed.airflow.xcom(*recorded, "scan_to_project.create_project")
    session = f"{composed.emulator.url}|api/v1/uploads/{upload_id}"
    inputs, outputs = datasets(composed, recorded[1], "scan_to_project.upload")
    assert inputs == {f"file|{photos}/roof/"}
    assert outputs == {session, f"s3://records|{upload_id}.csv"}
    inputs, outputs = datasets(composed, recorded[1], "scan_to_project.create_project")
    assert inputs == {session}
    assert outputs == {f"{composed.emulator.url}|projects/{project}"}


def test_alias(composed: Site, recorded: tuple[str, str]) -> None:
    """The project is its own asset, whose event names it."""
    project = composed.airflow.xcom(*recorded, "scan_to_project.create_project")
    host = composed.emulator.url.removeprefix("http://")
    everything = {"only_active": "false"}  # no DAG names it itself, and Airflow calls that inactive
    assets = {
        one["uri"]: one for one in composed.airflow.request("GET", "/assets", params=everything)["assets"]
    }
    asset = assets[f"x-360://{host}/projects/{project}"]
    assert [alias["name"] for alias in asset["aliases"]] == ["projects"]
    ours = {"asset_id": asset["id"]}
    (event,) = composed.airflow.request("GET", "/assets/events", params=ours)["asset_events"]
    extra = event["extra"]
    assert (extra["name"], extra["files"], extra["errors"]) == (project, 30, 0)
    assert extra["url"] == f"{composed.emulator.url}/projects/{project}"


def test_fetched_by_the_server(composed: Site, tmp_path: Path) -> None:
    """The server gets a link that opens the object, and Airflow keeps nothing of it."""
    scan = tmp_path / "bridge.e57"
    scan.write_bytes(b"scan" * 1000)
    composed.s3.put_file("records", scan.name, scan)
    sessions = len(composed.emulator.store.sessions)
    run = composed.run("fetched")
    composed.airflow.wait(*run, must_succeed=True)
    assert len(composed.emulator.store.sessions) == sessions
    name = composed.airflow.xcom(*run, "create_project")
    link = str(composed.emulator.store.projects[name].options["download_link"])
    assert requests.get(link, timeout=10).content == scan.read_bytes()
    (signature,) = [value for key, (value,) in parse_qs(urlsplit(link).query).items() if "ignature" in key]
    assert found_in(composed.airflow, signature) == []
    inputs, outputs = datasets(composed, run[1], "create_project")
    assert inputs == {"s3://records|bridge.e57"}
    assert outputs == {f"{composed.emulator.url}|projects/{name}"}
    assert signature not in (composed.folder / EVENTS).read_text("utf-8")
