"""Tasks that fail in each way, with a policy that decides which of them are retried."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.upload import CreateUploadSessionOperator
from airflow_360.retry_policy import ThreeSixtyRetryPolicy


@task
def look(name: str) -> Any:
    return ThreeSixtyHook("three_sixty_hasty").client.get_project(name).status


@task
def stumble() -> None:
    raise ValueError("no error of the package")


# An hour: only a policy that overrides it, or that stops, ends the run in a test's time.
@dag(
    schedule=None,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(hours=1),
        "retry_policy": ThreeSixtyRetryPolicy(),
    },
)
def retry_policy() -> None:
    look.override(task_id="refused")("policy-refused")
    look.override(task_id="limited")("policy-limited")
    look.override(task_id="mapped").expand(name=["policy-mapped"])
    stumble.override(retries=1, retry_delay=timedelta(seconds=1))()
    CreateUploadSessionOperator(task_id="operator")


retry_policy()
