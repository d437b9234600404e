"""A folder of scans whose upload session is discarded when no project comes of it; not the default."""

from __future__ import annotations

from datetime import UTC, datetime

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
    tags=["360"],
)
def example_clean_up() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFilesOperator(task_id="upload", upload_id=session.output, path="{{ params.folder }}")
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output, title="{{ run_id }}"
    )

    # Runs whatever became of the tasks before it, and decides nothing about the run. Where there is a
    # project, it is skipped.
    DeleteUploadSessionOperator(
        task_id="discard_session", upload_id=session.output, project_name=project.output
    ).as_teardown(setups=session)


example_clean_up()
