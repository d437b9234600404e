"""All failures with the key or a presigned link in memory, for a search of everything that was written."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.sensors.project import ProjectReadySensor

UPLOADS = ("refused401.e57", "refused403.e57", "refused.tar", "redirected.e57", "lost.e57", "down.e57")
CONNECTIONS = (
    "marker_plain_http",
    "marker_with_user",
    "marker_padded",
    "marker_spaced",
    "marker_nobody",
    "marker_impatient",
)
WAITS: dict[str, dict[str, Any]] = {
    "refused": {"deferrable": False, "mode": "poke"},
    "odd": {"deferrable": True, "timeout": 60},
    "faulty": {"deferrable": True, "fail_on_errors": True},
    "slow_poked": {"deferrable": False, "mode": "poke", "timeout": 2},
    "slow": {"deferrable": True, "timeout": 60},
    "polled": {"deferrable": True},
    "turned": {"deferrable": True, "three_sixty_conn_id": "marker_turned"},
}
LINK = "{{ var.value.presigned }}"


@task
def shown() -> str:
    """Print and return objects, like a careless task."""
    hook = ThreeSixtyHook("marker")
    print("hook and client:", hook, repr(hook.client), vars(hook))
    print(ThreeSixtyHook("marker_nobody").test_connection())
    return repr(hook.client)


@dag(
    schedule=None,
    params={"folder": Param("", type="string")} | {name: Param("", type="string") for name in WAITS},
    default_args={"retries": 0, "three_sixty_conn_id": "marker"},
)
def every_failure() -> None:
    shown()
    for conn_id in CONNECTIONS:
        CreateUploadSessionOperator(task_id=conn_id, three_sixty_conn_id=conn_id, deferrable=True)
    for name, more in WAITS.items():
        ProjectReadySensor(
            task_id=name, project_name=f"{{{{ params.{name} }}}}", poke_interval=1, **{"timeout": 600, **more}
        )
    session = CreateUploadSessionOperator(task_id="session")
    missing = [{"filename": "down.e57", "path": "down.e57", "size": 3000}]
    incomplete = CreateProjectOperator(
        task_id="incomplete", upload_id=session.output, uploads=missing, trigger_rule="all_done"
    )
    for name in UPLOADS:
        upload = UploadFileOperator(
            task_id=name.replace(".", "_"), upload_id=session.output, path="{{ params.folder }}/" + name
        )
        upload >> incomplete
    folder = UploadFilesOperator(
        task_id="folder", upload_id=session.output, path="{{ params.folder }}", trigger_rule="all_done"
    )
    discarded = DeleteUploadSessionOperator(
        task_id="discarded", upload_id=session.output, trigger_rule="all_done"
    )
    lost = CreateProjectOperator(task_id="link_lost", download_link=LINK, trigger_rule="all_done")
    refused = CreateProjectOperator(task_id="link_refused", download_link=LINK, trigger_rule="all_done")
    misread = CreateProjectOperator(task_id="link_misread", download_link=f" {LINK}", trigger_rule="all_done")
    incomplete >> folder >> discarded >> lost >> refused >> misread


every_failure()
