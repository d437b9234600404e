"""A mapped upload that refuses damaged files, and takes the coordinate system from the files."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFileOperator


@dag(schedule=None, params={"folder": Param("", type="string")}, default_args={"retries": 2})
def inspected_scan() -> None:
    files = ListFilesOperator(task_id="list_files", path="{{ params.folder }}", inspect="fail")
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFileOperator.partial(task_id="upload", upload_id=session.output).expand_kwargs(
        files.output
    )
    CreateProjectOperator(
        task_id="create_project",
        upload_id=session.output,
        uploads=uploads.output,
        coordinate_system="auto",
    )
    files >> session


inspected_scan()
