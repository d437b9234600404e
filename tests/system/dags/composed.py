"""The outputs of an upload for others: a manifest, lineage, an asset; and a project without an upload."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AssetAlias, Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.task_groups import scan_to_project


@dag(schedule=None, params={"folder": Param("", type="string")})
def recorded() -> None:
    scan_to_project(
        path="{{ params.folder }}",
        manifest="s3://records/",
        deferrable=True,
        poke_interval=1,
        outlets=[AssetAlias("projects")],
    )


@dag(schedule=None)
def fetched() -> None:
    CreateProjectOperator(
        task_id="create_project",
        download_from="s3://records/bridge.e57",
        wait_for_completion=True,
        deferrable=True,
    )


recorded()
fetched()
