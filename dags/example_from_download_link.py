"""A scan on a web server: the 360 server fetches it, and no byte passes through Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.sensors.project import ProjectReadySensor


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={
        "link": Param("https://example.com/scan.e57", type="string", description="What the server fetches")
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2), "deferrable": True},
    tags=["360"],
)
def example_from_download_link() -> None:
    project = CreateProjectOperator(
        task_id="create_project",
        download_link="{{ params.link }}",
        title="Fetched {{ run_id }}",
        privacy_mode="link",
        coordinate_system="EPSG:25832",
    )
    ProjectReadySensor(
        task_id="ready", project_name=project.output, poke_interval=30, timeout=timedelta(hours=6)
    )


example_from_download_link()
