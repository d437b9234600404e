"""One real Airflow for all system tests, with an emulator and a local S3."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_360.emulator import Emulator, Exchange
from demo.scans import make_scans
from harness.airflow import REPOSITORY, LocalAirflow
from harness.s3 import LocalS3
from tests.browser import browser
from tests.system.machines import database_env

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
if TYPE_CHECKING:
    from playwright.sync_api import Page

#: For what a browser shows on a busy machine.
SECONDS = 300.0
#: What Airflow logs if a task gives its slot back; a busy machine may miss the state itself.
PAUSED = re.compile(r"(?:Pausing task as|marking task as) (DEFERRED|UP_FOR_RESCHEDULE)")
SAMPLES = REPOSITORY.parent / "shared" / "samples"


@dataclass
class Site:
    """The servers and helpers of a system test."""

    airflow: LocalAirflow
    emulator: Emulator
    s3: LocalS3
    folder: Path
    days: int = 0

    def next_day(self) -> datetime:
        """Return a date that no other test has used, so that each has its own folder."""
        self.days += 1
        return datetime(2026, 6, 1, tzinfo=UTC) + timedelta(days=self.days)

    def run(self, dag_id: str, date: datetime | None = None, **conf: Any) -> tuple[str, str]:
        """Start a run of a DAG and return its DAG and run id."""
        self.airflow.unpause(dag_id)
        return dag_id, self.airflow.trigger(dag_id, date or self.next_day(), conf)

    def exchanges(self, method: str, ending: str) -> list[Exchange]:
        """Return the emulator's replies to one method on paths with one ending."""
        return [e for e in self.emulator.exchanges if e.method == method and e.path.endswith(ending)]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    dags = folder / "dags"
    dags.mkdir()
    for source in (REPOSITORY / "dags", Path(__file__).parent / "dags"):
        for file in source.glob("*.py"):
            shutil.copy(file, dags)
    in_file = folder / "connections.json"
    with Emulator(processing_seconds=8) as emulator, LocalS3(folder / "s3") as s3, database_env() as database:
        connection = {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_system_test"}
        in_file.write_text(json.dumps({"three_sixty_in_file": connection}), "utf-8")
        env = {
            **database,
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(in_file)}),
        }
        with LocalAirflow(folder / "airflow", dags, env=env) as airflow:
            yield Site(airflow, emulator, s3, folder)


@pytest.fixture(scope="module")
def hasty(site: Site) -> Iterator[None]:
    """A connection whose tasks wait for no rate limit themselves."""
    connection = {
        "connection_id": "three_sixty_hasty",
        "conn_type": "three_sixty",
        "host": site.emulator.url,
        "password": "sk_hasty",
        "extra": '{"rate_limit_wait": 1}',
    }
    site.airflow.request("POST", "/connections", json=connection)
    yield
    site.airflow.request("DELETE", "/connections/three_sixty_hasty")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of the machine's own browser."""
    with browser() as started:
        page = started.new_page(viewport={"width": 1100, "height": 1400})
        page.set_default_timeout(1000 * SECONDS)
        yield page


@pytest.fixture(scope="session")
def samples(site: Site) -> Path:
    """Return a folder of real scans; of made ones on a machine that has none."""
    if SAMPLES.is_dir():
        return SAMPLES
    made = site.folder / "samples"
    make_scans(made / "scans", pictures=2)
    make_scans(made / "photoset")
    return made


@pytest.fixture(autouse=True)
def faults_happened(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose scripted faults did not all happen, or whose run broke a rule of the contract."""
    yield
    if "site" in request.fixturenames:
        emulator = request.getfixturevalue("site").emulator
        unused, violations = emulator.faults.unused(), list(emulator.violations)
        emulator.faults.clear()  # they are this test's, and not the next one's
        emulator.violations.clear()
        assert not unused
        assert not violations
