"""A folder of scans whose upload session is deleted if no project is created from it; not the default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    UploadFilesOperator,
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"folder": Param("/data/scans", type="string", description="A folder that the worker can see")},
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2), "deferrable": True},
    tags=["360"],
)
def example_clean_up() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFilesOperator(task_id="upload", upload_id=session.output, path="{{ params.folder }}")
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output, title="{{ run_id }}"
    )

    # Always runs, and does not change the result of the run. It is skipped if there is a project, or if there
    # may be one.
    DeleteUploadSessionOperator(
        task_id="discard_session", upload_id=session.output, project_name=project.output
    ).as_teardown(setups=session)


example_clean_up()
