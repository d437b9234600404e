"""Retries and clears in Airflow's UI after a nightly run has failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import AIRFLOW, Site

pytestmark = [pytest.mark.system, pytest.mark.matrix]

CHUNK = 256 * 1024


@pytest.fixture
def folder(site: Site, tmp_path: Path) -> Path:
    for name in ("one.e57", "two.e57", "three.e57"):
        (tmp_path / name).write_bytes((name.encode() * CHUNK)[: CHUNK * 5 + 17])
    return tmp_path


@pytest.mark.long  # it waits a minute
def test_clear_one_upload(site: Site, folder: Path) -> None:
    """An upload that failed permanently continues at the server's mark once cleared; the run completes."""
    broken = "PUT /uploads/*/two.e57"
    # Two chunks pass; then nothing gets through until the first try has given up, and the second is refused.
    site.emulator.faults.add({"on": broken, "skip": 2, "times": 7, "do": "status", "status": 503})
    site.emulator.faults.add({"on": broken, "skip": 2, "do": "status", "status": 402})
    dag_id, run_id = site.run("chunked_upload", folder=str(folder))
    assert site.airflow.wait(dag_id, run_id) == "failed"
    instances = {
        i["map_index"]: i for i in site.airflow.task_instances(dag_id, run_id) if i["task_id"] == "upload"
    }
    (failed,) = [i for i in instances.values() if i["state"] == "failed"]
    assert site.airflow.xcom(dag_id, run_id, "list_files")[failed["map_index"]]["filename"] == "two.e57"
    assert failed["try_number"] == 2

    before = len(site.exchanges("PUT", "/two.e57"))
    others = len(site.exchanges("PUT", "/one.e57")) + len(site.exchanges("PUT", "/three.e57"))
    site.airflow.clear(dag_id, run_id, [("upload", failed["map_index"])])
    site.airflow.wait(dag_id, run_id, must_succeed=True)

    first = site.exchanges("PUT", "/two.e57")[before]
    assert first.start == first.received_before == 2 * CHUNK
    assert len(site.exchanges("PUT", "/one.e57")) + len(site.exchanges("PUT", "/three.e57")) == others
    project = site.airflow.xcom(dag_id, run_id, "create_project")
    for path in folder.iterdir():
        assert site.emulator.store.file_path(project, path.name).read_bytes() == path.read_bytes()
    log = site.airflow.log(dag_id, run_id, "upload", map_index=failed["map_index"])
    assert "two.e57: resumes at 512.0 KiB of 1.3 MiB" in log


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow saves the state of tasks from 3.3 on.")
def test_clear_keeps_or_deletes_saved_state(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear keeps or deletes the saved state on request; by default 3.3 keeps it and 3.4 deletes it."""
    monkeypatch.setattr(site.emulator.store, "processing_seconds", 0.5)
    run = site.run("chunked_upload", folder=str(folder))
    site.airflow.wait(*run, must_succeed=True)
    marker = f"/dags/{run[0]}/dagRuns/{run[1]}/taskInstances/upload/state-store/marker"

    def keeps(keep_state: bool | None) -> bool:
        """Clear the first upload and return whether the state that it had is still there afterwards."""
        site.airflow.request("PUT", marker, json={"value": "kept"}, params={"map_index": 0})
        site.airflow.clear(*run, [("upload", 0)], include_downstream=False, keep_state=keep_state)
        site.airflow.wait(*run, must_succeed=True)
        return "marker" in site.airflow.saved_state(*run, "upload", 0)

    assert [keeps(True), keeps(False), keeps(None)] == [True, False, AIRFLOW < (3, 4)]
    other = site.airflow.saved_state(*run, "upload", 1)
    site.airflow.delete_state(*run, "upload", 0)
    assert site.airflow.saved_state(*run, "upload", 0) == {}
    assert site.airflow.saved_state(*run, "upload", 1) == other != {}
