"""One upload on two machines that share nothing but the server and the store."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator
from airflow_360.sources.names import shard_of
from harness.s3 import LocalS3
from tests.system.machines import Machines, Postgres, Redis, missing
from tests.system.test_failures import pids, title_of

pytestmark = [pytest.mark.system, pytest.mark.long]

CHUNK = 256 * 1024
FILES = {f"IMG_{n:04d}.jpg": random.Random(n).randbytes(CHUNK * 5 + 17 + n) for n in range(8)}
WORKERS = ("one", "two")


@dataclass
class Night:
    airflow: Machines
    emulator: Emulator
    s3: LocalS3


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    if reason := missing():
        pytest.skip(f"No Airflow on several machines here: {reason}.")
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "spread_upload.py", dags)
    with (
        Emulator(processing_seconds=0.5) as emulator,
        LocalS3(tmp_path / "s3") as s3,
        Postgres() as postgres,
        Redis() as redis,
    ):
        connection = {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_machines"}
        env = {
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
        }
        with Machines(tmp_path, dags, WORKERS, env, postgres.url, redis.url) as airflow:
            yield Night(airflow, emulator, s3)


def until(night: Night, what: str, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not happened():
        night.airflow.check()
        assert time.monotonic() < deadline, f"It never came to this: {what}"
        time.sleep(0.1)


def worker_of(night: Night, title: str) -> str:
    """Return the worker in whose session a task's process runs."""
    (pid,) = [pid for pid in pids() if title_of(pid) == title]
    (worker,) = [name for name in WORKERS if night.airflow.pid(name) == os.getsid(pid)]
    return worker


def test_another_machine_finishes_the_upload(night: Night) -> None:
    """A worker dies in the middle of its shard; the other one continues at that byte, to one project."""
    for name, content in FILES.items():
        night.s3.make_bucket("scans")
        night.s3.client().put_object(Bucket="scans", Key=f"night/{name}", Body=content)
    broken = min(name for name in FILES if shard_of(name, 2) == 0)
    night.emulator.faults.add(
        {"on": f"PUT /uploads/*/{broken}", "skip": 2, "do": "stall", "seconds": 300, "when": "before_body"}
    )
    airflow = night.airflow
    airflow.unpause("spread_upload")
    run = "spread_upload", airflow.trigger("spread_upload", conf={"path": "s3://scans/night/"})
    until(night, "a stalled PUT", lambda: any(e.fault == "stall" for e in night.emulator.exchanges))
    until(night, "the other shard", lambda: airflow.task_instance(*run, "upload", 1)["state"] == "success")
    dying = worker_of(night, f"airflow worker -- {airflow.task_instance(*run, 'upload', 0)['id']}")
    (living,) = set(WORKERS) - {dying}
    airflow.kill(dying)
    airflow.wait(*run, must_succeed=True)

    # Each machine has the logs of its own tasks, and no others.
    logs = {
        name: sorted(path.name for path in (home / "logs").rglob("*task_id=upload/map_index=0/*.log"))
        for name, home in airflow.workers.items()
    }
    assert logs == {dying: ["attempt=1.log"], living: ["attempt=2.log"]}
    (second,) = airflow.workers[living].glob("logs/*/*/task_id=upload/map_index=0/attempt=2.log")
    assert f"{broken}: resumes at 512.0 KiB" in second.read_text()
    puts = [e for e in night.emulator.exchanges if e.method == "PUT" and e.path.endswith(f"/{broken}")]
    gap = next(i for i, put in enumerate(puts) if put.fault == "stall")
    assert puts[gap + 1].start == puts[gap + 1].received_before == 2 * CHUNK

    (project,) = night.emulator.store.projects.values()
    assert project.session
    assert project.name == airflow.xcom(*run, "create_project")
    held = {
        name: hashlib.sha256(night.emulator.store.file_path(project.session.upload_id, name).read_bytes())
        for name in project.session.files
    }
    assert {name: digest.hexdigest() for name, digest in held.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }
    labels = [i["rendered_map_index"] for i in airflow.task_instances(*run) if i["task_id"] == "upload"]
    assert sorted(labels) == [f"s3://scans/night/, shard {shard} of 2" for shard in (0, 1)]
    assert not night.emulator.faults.unused()
    assert not night.emulator.violations
