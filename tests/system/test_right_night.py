"""A scheduled and a manual run upload the same dated folder, in an Airflow that starts runs by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator
from demo.__main__ import _last_interval
from harness.airflow import REPOSITORY, LocalAirflow
from harness.s3 import LocalS3
from tests.system.conftest import AIRFLOW
from tests.system.machines import database_env

pytestmark = [
    pytest.mark.system,
    pytest.mark.matrix,
    pytest.mark.long,
    pytest.mark.skipif(AIRFLOW not in ((2, 11), (3, 3)), reason="as on 3.3, and it takes boots of its own"),
]

#: The DAGs with dated folders: the bucket, the file's place in the folder, the listing task, and its result.
LISTINGS = {
    "example_nightly_s3_scans": ("scans", "scan.e57", "list_files"),
    "example_many_scans": ("many-scans", "bridge/scan.e57", "list_scans"),
}


@dataclass
class Night:
    """An Airflow whose scheduler starts runs of one DAG, and the folder of the last data interval."""

    airflow: LocalAirflow
    emulator: Emulator
    dag_id: str
    day: str

    def finish(self, run_id: str) -> None:
        """Wait for a run, and check which folder it took; one at a time, because SQLite has one writer."""
        self.airflow.wait(self.dag_id, run_id, must_succeed=True)
        bucket, name, task_id = LISTINGS[self.dag_id]
        (found,) = self.airflow.xcom(self.dag_id, run_id, task_id)
        path = found["path"] if isinstance(found, dict) else f"{found.rstrip('/')}/scan.e57"
        assert path == f"s3://{bucket}/{self.day}/{name}"


@pytest.fixture(params=LISTINGS)
def night(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Night]:
    """An Airflow with one of the DAGs, and a bucket with one file of the last data interval."""
    bucket, name, _ = LISTINGS[request.param]
    day = f"{_last_interval(datetime.now(UTC)):%Y-%m-%d}"
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(REPOSITORY / "dags" / f"{request.param}.py", dags)
    scan = tmp_path / "scan.e57"
    scan.write_bytes(b"scan")
    with (
        Emulator(processing_seconds=0) as emulator,
        LocalS3(tmp_path / "s3") as s3,
        database_env() as database,
    ):
        s3.make_bucket(bucket)
        s3.put_file(bucket, f"{day}/{name}", scan)
        connection = {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_night"}
        env = {
            **database,
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        }
        with LocalAirflow(tmp_path / "airflow", dags, env=env) as airflow:
            airflow.wait_for_dag(request.param)
            yield Night(airflow, emulator, request.param, day)


def test_the_schedule_and_a_click_take_the_same_folder(night: Night) -> None:
    """Last night's run, and manual runs with a day or with a logical date, upload the same folder."""
    airflow, dag_id = night.airflow, night.dag_id
    airflow.unpause(dag_id)
    night.finish(airflow.wait_for_run(dag_id))
    moment = None if AIRFLOW >= (3, 0) else datetime.now(UTC)  # a run of Airflow 2 always has one
    night.finish(airflow.trigger(dag_id, moment, {"day": night.day}))
    night.finish(airflow.trigger(dag_id, datetime.now(UTC).replace(microsecond=0)))
    titles = {project.options["title"] for project in night.emulator.store.projects.values()}
    assert titles == {f"Scan of {night.day}" if dag_id == "example_nightly_s3_scans" else "bridge"}
    assert len(night.emulator.store.projects) == 3
