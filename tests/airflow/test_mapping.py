"""Values that come out of a mapping are data and never templates."""

from __future__ import annotations

from typing import Any

import jinja2
from airflow.providers.common.compat.sdk import DAG

from airflow_360.operators.upload import UploadFileOperator
from airflow_360.sensors.project import ProjectReadySensor


def rendered(mapped: Any, values: dict[str, Any], operator_class: Any, dag: DAG) -> Any:
    """Return the task as it is after Airflow has filled in and rendered one mapped row."""
    task = mapped.unmap(values)
    task._do_render_template_fields(
        task, task.template_fields, {"ds": "2026-01-01"}, jinja2.Environment(), set()
    )
    return task


def test_a_name_is_no_template() -> None:
    """A file whose name looks like a template is that file; templates of the DAG's author are rendered."""
    evil = "s3://scans/{{ conn.three_sixty_default.password }}.e57"
    with DAG("d", schedule=None) as dag:
        mapped = UploadFileOperator.partial(task_id="u", upload_id="{{ ds }}").expand_kwargs(
            [{"path": evil, "filename": "{{ ds }}.e57"}]
        )
    task = rendered(mapped, {"path": evil, "filename": "{{ ds }}.e57"}, UploadFileOperator, dag)
    assert (task.path, task.filename, task.upload_id) == (evil, "{{ ds }}.e57", "2026-01-01")


def test_a_project_name_is_no_template() -> None:
    """The project name from a server is not rendered either."""
    with DAG("d", schedule=None) as dag:
        mapped = ProjectReadySensor.partial(task_id="r").expand(project_name=["{{ ds }}"])
    assert rendered(mapped, {"project_name": "{{ ds }}"}, ProjectReadySensor, dag).project_name == "{{ ds }}"


def test_without_mapping() -> None:
    """A task that is not mapped renders its fields as ever."""
    with DAG("d", schedule=None):
        task = UploadFileOperator(task_id="u", upload_id="x", path="/scans/{{ ds }}/a.e57")
    task._do_render_template_fields(
        task, task.template_fields, {"ds": "2026-01-01"}, jinja2.Environment(), set()
    )
    assert task.path == "/scans/2026-01-01/a.e57"
