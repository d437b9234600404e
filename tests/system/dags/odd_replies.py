"""Parallel waits for many projects, some of which get odd replies."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, get_current_context, task

from airflow_360.projects.times import WaitTimes
from airflow_360.sensors.project import ProjectReadySensor


class HastySensor(ProjectReadySensor):
    """A sensor that gives up at the third failed poll in a row, after any time."""

    times = WaitTimes(failure_tolerance=0.0, tolerated_failures=2)


@task
def waits() -> list[dict[str, Any]]:
    """Return the arguments of each wait."""
    return list(get_current_context()["params"]["waits"])


@dag(schedule=None, params={"waits": Param([], type="array")}, default_args={"retries": 0})
def odd_replies() -> None:
    HastySensor.partial(task_id="ready", deferrable=True, poke_interval=1, timeout=600).expand_kwargs(waits())


odd_replies()
