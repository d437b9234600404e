"""One folder spread over two tasks, in small chunks with a quick retry."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFilesOperator
from airflow_360.sensors.project import ProjectReadySensor


@dag(
    schedule=None,
    params={"path": Param("", type="string")},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
)
def spread_upload() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")
    uploads = UploadFilesOperator.partial(
        task_id="upload",
        upload_id=session.output,
        path="{{ params.path }}",
        parallel=1,
        chunk_size=256 * 1024,
        shards=2,
    ).expand(shard=[0, 1])
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output
    )
    ProjectReadySensor(task_id="ready", project_name=project.output, deferrable=True, poke_interval=1)


spread_upload()
