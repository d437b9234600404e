"""One dated folder a night from S3, one task per file, one project.

The folder's name is the day on which the data interval began, in the site's time zone. With a cron schedule,
Airflow 3's ``{{ ds }}`` is the day that has just started. If you start a run by hand, give it the ``day``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import Param, dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFileOperator
from airflow_360.sensors.project import ProjectReadySensor

ZONE = "Europe/Berlin"
DAY = f"{{{{ params.day or (data_interval_start.in_timezone('{ZONE}') | ds) }}}}"


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"day": Param("", type="string", description="For a run by hand: the folder, such as 2026-11-25")},
    # Each retry resumes at the last byte on the server. No wait holds a worker.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2), "deferrable": True},
    tags=["360"],
)
def example_nightly_s3_scans() -> None:
    # All files of the night's folder. If there are none, the run ends as "skipped".
    files = ListFilesOperator(task_id="list_files", path=f"s3://scans/{DAY}/")

    # One upload session becomes one project. Clear this task to start over; clear any other to continue.
    session = CreateUploadSessionOperator(task_id="create_session")

    # One task per file: each has its own retries, its own log, and a button to run it again.
    uploads = UploadFileOperator.partial(task_id="upload", upload_id=session.output).expand_kwargs(
        files.output
    )

    # Nothing is created unless the session contains exactly the uploaded files and all are complete.
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=uploads.output, title=f"Scan of {DAY}"
    )

    # Waits in the triggerer, without a worker, and returns the project's record.
    ProjectReadySensor(
        task_id="ready", project_name=project.output, poke_interval=30, timeout=timedelta(hours=6)
    )

    files >> session  # don't create a session if there are no files


example_nightly_s3_scans()
