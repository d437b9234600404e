"""A scheduled and a manual run upload the same dated folder, in an Airflow that starts runs by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator
from demo.__main__ import _last_interval
from harness.airflow import REPOSITORY, LocalAirflow
from harness.s3 import LocalS3
from tests.system.conftest import AIRFLOW

pytestmark = [
    pytest.mark.system,
    pytest.mark.matrix,
    pytest.mark.long,
    pytest.mark.skipif((3, 0) <= AIRFLOW < (3, 3), reason="as on 3.3, and it takes a boot of its own"),
]

NIGHTLY = "example_nightly_s3_scans"


@pytest.fixture
def night(tmp_path: Path) -> Iterator[tuple[LocalAirflow, Emulator, str]]:
    """An Airflow whose scheduler starts runs, and the folder of the last data interval with one file."""
    day = f"{_last_interval(datetime.now(UTC)):%Y-%m-%d}"
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(REPOSITORY / "dags" / f"{NIGHTLY}.py", dags)
    scan = tmp_path / "scan.e57"
    scan.write_bytes(b"scan")
    with Emulator(processing_seconds=0) as emulator, LocalS3(tmp_path / "s3") as s3:
        s3.make_bucket("scans")
        s3.put_file("scans", f"{day}/scan.e57", scan)
        connection = {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_night"}
        env = {
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        }
        with LocalAirflow(tmp_path / "airflow", dags, env=env) as airflow:
            airflow.wait_for_dag(NIGHTLY)
            yield airflow, emulator, day


def finish(airflow: LocalAirflow, run_id: str, day: str) -> None:
    """Wait for a run, and check which folder it took; one at a time, because SQLite has one writer."""
    airflow.wait(NIGHTLY, run_id, timeout=240, must_succeed=True)
    (file,) = airflow.xcom(NIGHTLY, run_id, "list_files")
    assert file["path"] == f"s3://scans/{day}/scan.e57"


def test_the_schedule_and_a_click_take_the_same_folder(night: tuple[LocalAirflow, Emulator, str]) -> None:
    """Last night's run, and manual runs with a day or with a logical date, upload the same folder."""
    airflow, emulator, day = night
    airflow.unpause(NIGHTLY)
    finish(airflow, airflow.wait_for_run(NIGHTLY, timeout=120), day)
    moment = None if AIRFLOW >= (3, 0) else datetime.now(UTC)  # a run of Airflow 2 always has one
    finish(airflow, airflow.trigger(NIGHTLY, moment, {"day": day}), day)
    finish(airflow, airflow.trigger(NIGHTLY, datetime.now(UTC).replace(microsecond=0)), day)
    titles = {project.options["title"] for project in emulator.store.projects.values()}
    assert titles == {f"Scan of {day}"}
    assert len(emulator.store.projects) == 3
