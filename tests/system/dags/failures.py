"""DAGs to break on purpose: uploads with many retries, and tasks that wait for rate limits."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFileOperator, UploadFilesOperator

RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=1)}


@dag(schedule=None, params={"path": Param("", type="string")}, default_args=RETRIES)
def retried_upload() -> None:
    session = CreateUploadSessionOperator(task_id="create_session")
    UploadFileOperator(
        task_id="upload", upload_id=session.output, path="{{ params.path }}", chunk_size=256 * 1024
    )


def rate_limited(dag_id: str, deferrable: bool) -> None:
    shared = {"deferrable": deferrable, "three_sixty_conn_id": "three_sixty_hasty"}

    @dag(dag_id, schedule=None, params={"folder": Param("", type="string")}, default_args=RETRIES | shared)
    def pipeline() -> None:
        session = CreateUploadSessionOperator(task_id="create_session")
        uploads = UploadFilesOperator(task_id="upload", upload_id=session.output, path="{{ params.folder }}")
        CreateProjectOperator(task_id="create_project", upload_id=session.output, uploads=uploads.output)

    pipeline()


retried_upload()
rate_limited("rate_limited_deferred", deferrable=True)
rate_limited("rate_limited_rescheduled", deferrable=False)
