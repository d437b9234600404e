"""Uploads in small chunks, to break and clear: mapped ones with a quick retry, and one of an archive."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
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


@dag(schedule=None, params={"folder": Param("", type="string")})
def chunked_archive() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")
    upload = UploadFilesOperator(
        task_id="upload",
        upload_id=session.output,
        path="{{ params.folder }}",
        archive="photos.zip",
        chunk_size=256 * 1024,
    )
    CreateProjectOperator(task_id="create_project", upload_id=session.output, uploads=upload.output)


chunked_upload()
chunked_archive()
