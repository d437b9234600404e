"""A folder on the worker's disk, uploaded in one task: use this for thousands of photos."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFilesOperator


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={
        "folder": Param("/data/photos", type="string", description="A folder that the worker can see"),
        "title": Param("Photo set", type="string"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2), "deferrable": True},
    tags=["360"],
)
def example_local_files() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")

    # Several files at a time. Folders become part of the names: 100MEDIA_DJI_0001.jpg.
    uploads = UploadFilesOperator(task_id="upload", upload_id=session.output, path="{{ params.folder }}")

    # Creates the project, and waits for it without holding a worker.
    CreateProjectOperator(
        task_id="create_project",
        upload_id=session.output,
        uploads=uploads.output,
        title="{{ params.title }}",
        wait_for_completion=True,
        poll_interval=30,
        timeout=timedelta(hours=6),
    )


example_local_files()
