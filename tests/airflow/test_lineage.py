"""The lineage for collectors, tested in a separate process, because a process has one collector."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.runtime.lineage import collapsed, dataset_of, uri_of
from tests.airflow.conftest import context

ROOT = Path(__file__).parents[2]
PLUGIN = """
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import HookLineageReader

class Reads(AirflowPlugin):
    name = "reads"
    hook_lineage_readers = [HookLineageReader]
"""
PROGRAM = """
import json, sys
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFileOperator, UploadFilesOperator
from tests.airflow.conftest import context

folder = sys.argv[1]
upload_id = CreateUploadSessionOperator(task_id="s").execute(context())
manifest = folder + "/manifests/"
one = UploadFileOperator(task_id="f", upload_id=upload_id, path=folder + "/one.e57", manifest=manifest)
many = UploadFilesOperator(task_id="m", upload_id=upload_id, path=folder + "/many")
project = CreateProjectOperator(task_id="p", upload_id=upload_id)
name = [task.execute(context()) for task in (one, many, project)][-1]
import airflow_360.runtime.lineage as lineage
asked = "airflow.providers.common.compat.lineage.hook" in sys.modules
told = {"upload_id": upload_id, "name": name, "asked": asked}
if asked:
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
    collected = get_hook_lineage_collector().collected_assets
    told["sha256"] = {
        item.asset.uri: item.asset.extra["sha256"]
        for item in [*collected.inputs, *collected.outputs] if item.asset.extra
    }
    told["inputs"] = [item.asset.uri for item in collected.inputs]
    told["outputs"] = [item.asset.uri for item in collected.outputs]
facets = [task.get_openlineage_facets_on_complete(None) for task in (one, many, project)]
told["facets"] = [
    f and [[(data.namespace, data.name) for data in side] for side in (f.inputs, f.outputs)] for f in facets
]
told["versions"] = {
    data.name: data.facets["version"].datasetVersion
    for f in facets if f for data in [*f.inputs, *f.outputs] if data.facets
}
print("TOLD " + json.dumps(told))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "many").mkdir()
    for number in range(30):
        (tmp_path / "many" / f"DJI {number}.jpg").write_bytes(b"x")
    (tmp_path / "one.e57").write_bytes(b"y")
    return tmp_path


def told(folder: Path, plugins: Path) -> Any:
    """Upload and create a project in a new process, and return the collected lineage."""
    env = {**os.environ, "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], env=env, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("TOLD ")]
    return json.loads(line.removeprefix("TOLD "))


def test_hook_lineage(emulator: Emulator, folder: Path) -> None:
    """A reader of hook lineage finds the way from files over session to project; many are one folder."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "reads.py").write_text(PLUGIN, "utf-8")
    seen = told(folder, plugins)
    session = f"{emulator.url}/api/v1/uploads/{seen['upload_id']}"
    # Airflow removes the slash at the end of an asset's URL.
    assert list(dict.fromkeys(seen["inputs"])) == [
        f"file://{folder}/one.e57",
        f"file://{folder}/many",
        session,
    ]
    manifest = folder / "manifests" / "one.e57.csv"
    assert list(dict.fromkeys(seen["outputs"])) == [
        session,
        manifest.as_uri(),
        f"{emulator.url}/projects/{seen['name']}",
    ]
    files = (folder / "one.e57", manifest)
    assert seen["sha256"] == {file.as_uri(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_without_a_reader(emulator: Emulator, folder: Path) -> None:
    """Without a reader, Airflow's collector, which costs half a second, is not created.

    OpenLineage gets the same from each task at its end, under its own names.
    """
    seen = told(folder, folder / "none")
    assert seen["asked"] is False
    pytest.importorskip("airflow.providers.openlineage")
    session = [emulator.url, f"api/v1/uploads/{seen['upload_id']}"]
    manifest = folder / "manifests" / "one.e57.csv"
    assert seen["facets"] == [
        [[["file", f"{folder}/one.e57"]], [session, ["file", str(manifest)]]],
        [[["file", f"{folder}/many/"]], [session]],
        [[session], [[emulator.url, f"projects/{seen['name']}"]]],
    ]
    assert seen["versions"] == {
        str(file): f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in (folder / "one.e57", manifest)
    }


@pytest.mark.parametrize(
    ("origin", "inputs"),
    [
        ({"download_from": "s3://my_aws@scans/bridge.zip"}, ["s3://scans/bridge.zip"]),
        ({"download_link": "https://example.com/secret"}, []),
    ],
    ids=["object", "link"],
)
def test_what_the_server_fetches(emulator: Emulator, origin: dict[str, Any], inputs: list[str]) -> None:
    """An object that the server fetches from S3 is a source of the project, and a link is not named."""
    task = CreateProjectOperator(task_id="p", wait_for_completion=True, **origin)
    task.execute_complete(context(), {"status": "ready", "record": {"name": "x", "status": 100}})
    assert task.hook.lineage.inputs == inputs
    assert task.hook.lineage.outputs == [f"{emulator.url}/projects/x"]


@pytest.mark.parametrize(
    ("path", "uri", "dataset"),
    [
        ("s3://my_aws@scans/a b/x.e57", "s3://scans/a b/x.e57", ("s3://scans", "a b/x.e57")),
        ("s3://scans", "s3://scans", ("s3://scans", "/")),
        ("/data/a b.e57", "file:///data/a%20b.e57", ("file", "/data/a b.e57")),
        ("gs://scans/x", "gs://scans/x", ("gs://scans", "x")),
        ("https://u:p@h.org/x?Signature=s", "https://h.org/x", ("https://h.org", "x")),
    ],
)
def test_urls_contain_no_connection_and_no_secret(path: str, uri: str, dataset: tuple[str, str]) -> None:
    """A source's URL contains no connection, no password and no signature."""
    assert uri_of(path) == uri
    assert dataset_of(uri) == dataset


def test_many_become_their_folder() -> None:
    """Thousands of files of one bucket are one folder, and the few of another are named."""
    many = [f"s3://scans/2026/bridge-{number % 2}/DJI_{number}.jpg" for number in range(5000)]
    assert collapsed([*many, "s3://other/x", "s3://other/x"]) == ["s3://scans/2026/", "s3://other/x"]
    assert collapsed(many[:20]) == many[:20]
    assert collapsed(f"file:///a/b{number}" for number in range(21)) == ["file:///a/"]
