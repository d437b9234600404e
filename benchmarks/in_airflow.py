"""The cost of an upload as a task of a real Airflow, compared with a task that does nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from benchmarks.measure import Sample, interleaved, median
from benchmarks.peers import BUCKET, KEY
from benchmarks.report import MIB, US, Result, Row
from benchmarks.serving import started
from benchmarks.stage import GIB, Stage, new_session
from harness.airflow import LocalAirflow
from harness.processes import LOOPBACK

NOTHING = "a task that does nothing"
LEAST = "a task that sends the file with requests (the limit)"
DAGS = Path(__file__).parent / "dags"
#: Fields after the name in ``/proc/…/stat``: session; user and system time, own and of reaped children.
SESSION, TIMES = 3, slice(11, 15)
PARALLELISM = os.cpu_count() or 2  # tasks at a time: one per processor


def time_of_a_task(stage: Stage) -> Result:
    """Mapped uploads of small files, compared with mapped tasks that do nothing, in a real Airflow."""
    paths = [str(path) for path in stage.small_files(stage.sizes.tasks, 1000)]
    with _airflow(stage, BENCH_PATHS=json.dumps(paths)) as (airflow, sink):
        dags = {US: "bench_upload", LEAST: "bench_requests", NOTHING: "bench_nothing"}
        peers = {who: partial(_mapped, airflow, dag_id, sink) for who, dag_id in dags.items()}
        samples = interleaved(peers, stage.sizes.runs, stage.say)
    each = 1000 / stage.sizes.tasks
    rows = [Row(who, [each * run.cpu for run in runs]) for who, runs in samples.items()]
    title = f"a mapped task of {stage.sizes.tasks}, {PARALLELISM} at a time"
    result = Result(title, "CPU ms", rows, more_is_better=False)
    ratio = rows[0].median / rows[-1].median
    result.want(f"an upload of 1 KB ÷ {NOTHING}", ratio, 1.3, at_least=False)
    for who, runs in samples.items():
        seconds = median([run.seconds for run in runs])
        result.notes.append(
            f"{who}: {seconds:.1f} s from the first start to the last end, the scheduler's pauses included"
        )
    return result


def memory_of_a_task(stage: Stage) -> Result:
    """The memory of an upload as a task, compared with a task that only imports the same modules."""
    path = stage.file(stage.sizes.task_file)
    rows, goals = [], []
    with _airflow(stage) as (airflow, sink):
        for kind, source in (("a local file", str(path)), ("S3", f"s3://{BUCKET}/{path.name}")):
            peaks: dict[str, list[float]] = {"upload": [], "imports": []}
            for number in range(stage.sizes.runs):
                conf = {"upload_id": new_session(sink), "path": source}
                run_id = _run(airflow, "bench_memory", conf)
                for task_id, values in peaks.items():
                    values.append(airflow.xcom("bench_memory", run_id, task_id)["peak"] / MIB)
                    stage.say(f"run {number + 1}, {task_id}, {kind}: {values[-1]:.0f} MiB")
            rows += [
                Row(f"upload of {kind}", peaks["upload"]),
                Row(f"a task that imports what that does, for {kind}", peaks["imports"]),
            ]
            goals.append((kind, median(peaks["upload"]) - median(peaks["imports"])))
    title = f"memory of a task, {stage.sizes.task_file / GIB:.3g} GiB"
    result = Result(title, "MiB", rows, more_is_better=False)
    for kind, more in goals:
        result.want(f"MiB more than the imports, from {kind}", more, 40, at_least=False)
    return result


@contextlib.contextmanager
def _airflow(stage: Stage, **more: str) -> Iterator[tuple[LocalAirflow, int]]:
    with started("benchmarks.sink") as sink, started("benchmarks.objects", stage.folder) as objects:
        conn = {"conn_type": "three_sixty", "host": f"http://{LOOPBACK}:{sink}", "password": KEY}
        extra = {"endpoint_url": f"http://{LOOPBACK}:{objects}", "region_name": "us-east-1"}
        aws = {"conn_type": "aws", "login": "demo", "password": "demo-secret", "extra": extra}
        env = {
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(conn),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "BENCH_PATHS": "[]",
            "BENCH_SERVER": str(conn["host"]),
            **more,
        }
        stage.say("starting Airflow")
        with LocalAirflow(stage.folder / "airflow", DAGS, env=env, parallelism=PARALLELISM) as airflow:
            yield airflow, sink


def _mapped(airflow: LocalAirflow, dag_id: str, sink: int) -> Sample:
    """Run a DAG of mapped tasks, and return their seconds and processor seconds.

    Processor seconds are those of the task processes and their supervisors, without the scheduler: its pauses
    between two tasks vary from run to run by more than the time of a task.
    """
    before = _cpu_of_tasks(airflow)
    run_id = _run(airflow, dag_id, {"upload_id": new_session(sink)})
    cpu = _cpu_of_tasks(airflow) - before
    instances = airflow.task_instances(dag_id, run_id)
    begins = [datetime.fromisoformat(instance["start_date"]) for instance in instances]
    ends = [datetime.fromisoformat(instance["end_date"]) for instance in instances]
    return Sample((max(ends) - min(begins)).total_seconds(), cpu)


def _cpu_of_tasks(airflow: LocalAirflow) -> float:
    """Return the processor seconds of all processes that the scheduler started, reaped children included."""
    scheduler, ticks = airflow.pid("scheduler"), 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != scheduler:
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[SESSION]) == scheduler:
                    ticks += sum(map(int, fields[TIMES]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _run(airflow: LocalAirflow, dag_id: str, conf: dict[str, str]) -> str:
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id, conf=conf)
    airflow.wait(dag_id, run_id, timeout=300, must_succeed=True, poll=2.0)
    return run_id
