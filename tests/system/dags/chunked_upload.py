"""Mapped uploads in small chunks with a quick retry, to break and clear."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFileOperator
from airflow_360.sensors.project import ProjectReadySensor


@dag(
    schedule=None,
    params={"folder": Param("", type="string")},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
)
def chunked_upload() -> None:
    files = ListFilesOperator(task_id="list_files", path="{{ params.folder }}")
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFileOperator.partial(
        task_id="upload", upload_id=session.output, chunk_size=256 * 1024
    ).expand_kwargs(files.output)
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output
    )
    ProjectReadySensor(task_id="ready", project_name=project.output, deferrable=True, poke_interval=1)
    files >> session


chunked_upload()
