"""Scans that arrive in one folder, each uploaded once; and a DAG that runs when a project is ready.

It needs no date: each night it uploads the scans that no run has made into a project.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Asset, dag, task

from airflow_360.operators.upload import ListScansOperator
from airflow_360.task_groups import scan_to_project

# A name, not a URL: with a URL, Airflow loads all providers in every task that uses the asset.
PROJECTS = Asset("360_projects")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two runs at a time would get the same scans
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    tags=["360"],
)
def example_new_scans() -> None:
    # Scans arrive in one folder over time. Each night lists those that no other run made into projects.
    scans = ListScansOperator(task_id="list_scans", path="s3://new-scans/", only_new=True)

    # Each ready project is one event of the asset.
    scan_to_project.partial(outlets=[PROJECTS], deferrable=True, poke_interval=30, timeout=6 * 3600).expand(
        path=scans.output
    )


@dag(schedule=[PROJECTS], start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["360"])
def example_new_scans_catalog() -> None:
    @task
    def enter(**context: Any) -> list[dict[str, Any]]:
        by_asset = context.get("triggering_asset_events")
        if by_asset is None:  # Airflow 2.11 uses another name
            by_asset = context["triggering_dataset_events"]
        projects = [event.extra for events in by_asset.values() for event in events]
        for project in projects:
            print(
                f"{project['title']}: {project['files']} files, {project['errors']} errors, {project['url']}"
            )
        return projects

    enter()


example_new_scans()
example_new_scans_catalog()
