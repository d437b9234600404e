"""Many scans a night from a dated folder: one folder and one project for each scan.

The folder's name is the day on which the data interval began, in the site's time zone. If you start a run by
hand, give it the ``day``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import Param, dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_360.operators.upload import ListScansOperator
from airflow_360.task_groups import scan_to_project

ZONE = "Europe/Berlin"
DAY = f"{{{{ params.day or (data_interval_start.in_timezone('{ZONE}') | ds) }}}}"


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"day": Param("", type="string", description="For a run by hand: the folder, such as 2026-11-25")},
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    tags=["360"],
)
def example_many_scans() -> None:
    # s3://many-scans/2026-11-23/bridge/, s3://many-scans/2026-11-23/tunnel/, …
    scans = ListScansOperator(task_id="list_scans", path=f"s3://many-scans/{DAY}/")

    # For each scan: session, upload, project and wait. A scan that fails does not stop the others.
    scan_to_project.partial(deferrable=True, poke_interval=30, timeout=6 * 3600).expand(path=scans.output)


example_many_scans()
