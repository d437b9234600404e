"""One scan a night from S3, one task per file, one project."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFileOperator
from airflow_360.sensors.project import ProjectReadySensor


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Each retry resumes where the server stands.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    tags=["360"],
)
def example_nightly_s3_scans() -> None:
    # Every file of the night's folder. A night without files ends in "skipped".
    files = ListFilesOperator(task_id="list_files", path="s3://scans/{{ ds }}/")

    # One upload session becomes one project. Clear this task to start over; clear any other to carry on.
    session = CreateUploadSessionOperator(task_id="create_session")

    # One task per file: each has its own retries, its own log, and a button to run it again.
    uploads = UploadFileOperator.partial(task_id="upload", upload_id=session.output).expand_kwargs(
        files.output
    )

    # Nothing is created unless the session holds exactly what was uploaded, complete.
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output, title="Scan of {{ ds }}"
    )

    # Waits in the triggerer, without a worker, and returns the project's record.
    ProjectReadySensor(task_id="ready", project_name=project.output, deferrable=True, poke_interval=30)

    files >> session  # a night without files spends no session


example_nightly_s3_scans()
