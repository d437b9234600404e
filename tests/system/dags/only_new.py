"""A nightly increment over a drop folder."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.upload import ListScansOperator
from airflow_360.task_groups import scan_to_project


@dag(
    schedule="@daily",  # a backfill needs a schedule
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"folder": Param("", type="string")},
)
def only_new() -> None:
    scans = ListScansOperator(
        task_id="list_scans", path="{{ params.folder }}", only_new=True, settle_seconds=60
    )
    scan_to_project.partial(deferrable=True, poke_interval=2).expand(path=scans.output)


only_new()
