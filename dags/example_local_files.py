"""A folder on the worker's disk, all of it in one task: right for thousands of photos."""

from __future__ import annotations

from datetime import UTC, datetime

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
    tags=["360"],
)
def example_local_files() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")

    # Several files at a time. names="path" keeps 100MEDIA/DJI_0001.JPG and 101MEDIA/DJI_0001.JPG apart.
    uploads = UploadFilesOperator(
        task_id="upload", upload_id=session.output, path="{{ params.folder }}", recursive=True, names="path"
    )

    # Creates the project, and waits for it without holding a worker.
    CreateProjectOperator(
        task_id="create_project",
        upload_id=session.output,
        uploads=uploads.output,
        title="{{ params.title }}",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=30,
    )


example_local_files()
