"""From a file to a project, with a project task that waits for seconds instead of minutes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag

from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    UploadFileOperator,
)
from airflow_360.projects.creation import CreationRecord, Stage
from airflow_360.projects.times import CreationTimes

#: For a project that appears sooner or later, however slow the machine is.
PATIENT = CreationTimes(
    in_place=0.5,
    shortest=4.0,
    longest=6.0,
    after_break=600.0,
    after_timeout=600.0,
    without_session=600.0,
    record=600.0,
    missing=0.2,
)
#: For a request that must be sent again.
HASTY = replace(PATIENT, after_break=8.0, after_timeout=8.0)


class CreateFilledSessionOperator(CreateUploadSessionOperator):
    """A session task that also uploads a file, because each task costs a process.

    :param path: the file (templated).
    """

    template_fields = (*CreateUploadSessionOperator.template_fields, "path")

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def execute(self, context: Any) -> str:
        """Create the session and upload the file."""
        upload_id = super().execute(context)
        self.hook.upload(upload_id, str(self.path))
        return upload_id


class DiesBeforeItSaves(CreateProjectOperator):
    """A project task whose first attempt dies after the reply, before it saves the project's name."""

    def _records(self, context: Any, *args: Any) -> Any:
        records = super()._records(context, *args)
        save = records.save

        def save_or_die(record: CreationRecord) -> None:
            if record.stage is Stage.CREATED and context["ti"].try_number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            save(record)

        records.save = save_or_die  # type: ignore[method-assign]
        return records


def define(
    dag_id: str,
    times: CreationTimes,
    *,
    operator: type[CreateProjectOperator] = CreateProjectOperator,
    deferrable: bool = True,
    teardown: bool = False,
) -> None:
    """Define one DAG. Its connection is a parameter, so that each run has its own server."""
    defaults = {
        "retries": 3,
        "retry_delay": timedelta(seconds=1),
        "three_sixty_conn_id": "{{ params.conn_id }}",
        "deferrable": deferrable,
    }
    params = {name: Param("", type="string") for name in ("path", "conn_id")}

    @dag(dag_id, schedule=None, params=params, default_args=defaults)
    def pipeline() -> None:
        session = CreateFilledSessionOperator(task_id="create_session", path="{{ params.path }}")
        project = operator(task_id="create_project", upload_id=session.output, title="{{ run_id }}")
        project.creation_times = times
        if teardown:
            discard = DeleteUploadSessionOperator(
                task_id="discard_session", upload_id=session.output, project_name=project.output
            )
            discard.as_teardown(setups=session)

    pipeline()


@dag(
    schedule=None,
    params={name: Param("", type="string") for name in ("path", "conn_id")},
    default_args={"three_sixty_conn_id": "{{ params.conn_id }}"},
)
def project_of_an_upload() -> None:
    """The usual tasks, to clear them."""
    session = CreateUploadSessionOperator(task_id="create_session")
    upload = UploadFileOperator(task_id="upload", upload_id=session.output, path="{{ params.path }}")
    project = CreateProjectOperator(
        task_id="create_project", upload_id=session.output, uploads=upload.output, title="{{ run_id }}"
    )
    project.creation_times = PATIENT


define("project", PATIENT)
define("project_sent_again", HASTY)
define("project_rescheduled", PATIENT, deferrable=False)
define("project_rescheduled_sent_again", HASTY, deferrable=False)
define("project_dies", PATIENT, operator=DiesBeforeItSaves)
define("project_teardown", HASTY, teardown=True)
project_of_an_upload()
