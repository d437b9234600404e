"""A folder on the worker's disk, one task per file; a test opens and closes their pool."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFileOperator
from airflow_360.sensors.project import ProjectReadySensor

PARAMS = {"folder": Param("", type="string"), "title": Param("", type="string")}


@dag(schedule=None, params=PARAMS)
def wide_upload() -> None:
    files = ListFilesOperator(task_id="list_files", path="{{ params.folder }}", inspect="off")
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFileOperator.partial(
        task_id="upload",
        upload_id=session.output,
        chunk_size=1024 * 1024,
        pool="gate",
        inspect="off",
    ).expand_kwargs(files.output)
    project = CreateProjectOperator(
        task_id="create_project",
        upload_id=session.output,
        uploads=uploads.output,
        title="{{ params.title }}",
    )
    ProjectReadySensor(task_id="ready", project_name=project.output, deferrable=True, poke_interval=1)
    files >> session


wide_upload()
