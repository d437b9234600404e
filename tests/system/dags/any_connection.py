"""Wait for a project over a connection that the run names."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.sensors.project import ProjectReadySensor


@dag(schedule=None, params={"connection": Param("", type="string"), "project": Param("", type="string")})
def any_connection() -> None:
    ProjectReadySensor(
        task_id="ready",
        three_sixty_conn_id="{{ params.connection }}",
        project_name="{{ params.project }}",
        deferrable=True,
        poke_interval=1,
    )


any_connection()
