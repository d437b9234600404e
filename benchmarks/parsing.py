"""The cost of importing this package's operators in a DAG file."""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.measure import Sample, interleaved, median, run
from benchmarks.report import US, Result, Row
from benchmarks.stage import Stage

AMAZON = "the amazon provider's S3 operators and sensors"
AIRFLOW = "from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, dag, task, task_group"
MODULES = {
    US: ("operators.upload", "operators.project", "sensors.project", "task_groups"),
    AMAZON: ("operators.s3", "sensors.s3"),
}
PACKAGES = {US: "airflow_360", AMAZON: "airflow.providers.amazon.aws"}


def imports(stage: Stage) -> Result:
    """The import of all operators and sensors, after that of Airflow."""
    home = {"AIRFLOW_HOME": str(stage.folder)}
    for who in MODULES:  # first once without measuring, so that everything is compiled
        run(_command(who), home)
    peers = {who: partial(run, _command(who), home) for who in MODULES}
    samples = interleaved(peers, stage.sizes.runs, stage.say)
    rows = [Row(who, [_milliseconds(sample) for sample in runs]) for who, runs in samples.items()]
    result = Result("import of all operators and sensors", "ms", rows, more_is_better=False)
    result.want("ms", median(rows[0].values), 30, at_least=False)
    return result


def _command(who: str) -> list[str]:
    names = [f"{PACKAGES[who]}.{module}" for module in MODULES[who]]
    program = (
        f"import importlib, time\n{AIRFLOW}\nbegan = time.perf_counter()\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(1000 * (time.perf_counter() - began))"
    )
    return [sys.executable, "-c", program]


def _milliseconds(sample: Sample) -> float:
    return float(sample.output.splitlines()[-1])
