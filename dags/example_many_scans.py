"""Many scans a night: one folder each, one project each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import dag

from airflow_360.operators.upload import ListScansOperator
from airflow_360.task_groups import scan_to_project


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    tags=["360"],
)
def example_many_scans() -> None:
    # s3://many-scans/2026-11-23/bridge/, s3://many-scans/2026-11-23/tunnel/, …
    scans = ListScansOperator(task_id="list_scans", path="s3://many-scans/{{ ds }}/")

    # Session, upload, project and wait for each of them. A scan that fails does not touch the others.
    scan_to_project.partial(deferrable=True, poke_interval=30).expand(path=scans.output)


example_many_scans()
