"""Which folder a night takes: by the timetable, the template and the `day` of the examples."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_360.operators.upload import ListFilesOperator

DAGS = Path(__file__).parents[2] / "dags"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def folder(template: str, **context: Any) -> str:
    """Return the rendered path of a task."""
    with DAG("dates", schedule=None):
        task = ListFilesOperator(task_id="list", path=template)
    given: Any = {"params": {"day": ""}, **context}
    return str(task.render_template(template, given))


@pytest.mark.parametrize("name", ["example_nightly_s3_scans", "example_many_scans"])
@pytest.mark.parametrize(
    ("zone", "cron", "runs_at", "day"),
    [
        ("Asia/Tokyo", "0 2 * * *", "2026-07-01T02:00:00", "2026-06-30"),
        ("Europe/Berlin", "0 1 * * *", "2026-07-01T01:00:00", "2026-06-30"),
        ("Europe/Berlin", "0 2 * * *", "2026-12-01T02:00:00", "2026-11-30"),
        ("America/New_York", "0 23 * * *", "2026-07-01T23:00:00", "2026-06-30"),
    ],
    ids=["Tokyo", "Berlin in summer", "Berlin in winter", "New York"],
)
def test_a_scheduled_run_takes_the_day_that_ended(
    name: str, zone: str, cron: str, runs_at: str, day: str
) -> None:
    """A nightly run takes the folder of the day on which its data interval began, by the site's clock."""
    when = pendulum.parse(runs_at, tz=zone)
    assert isinstance(when, pendulum.DateTime)
    timetable = CronDataIntervalTimetable(cron, timezone=zone)
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(earliest=when.subtract(days=1), latest=None, catchup=True),
    )
    assert info
    assert info.data_interval
    assert info.run_after == when
    template = example(name).DAY.replace(example(name).ZONE, zone)
    assert folder(template, data_interval_start=info.data_interval.start) == day


@pytest.mark.parametrize("name", ["example_nightly_s3_scans", "example_many_scans"])
def test_a_run_by_hand_takes_the_day_that_it_is_given(name: str) -> None:
    """A run without a logical date takes its `day`, and fails without one."""
    template = example(name).DAY
    assert folder(template, params={"day": "2026-06-30"}) == "2026-06-30"
    with pytest.raises(jinja2.UndefinedError, match=r"data_interval_start|None"):
        folder(template)


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_fit_for_a_night(path: Path) -> None:
    """Each example has retries, waits without a worker, and sets the hours of its wait."""
    text = path.read_text("utf-8")
    assert '"retries": 3' in text
    assert '"deferrable": True' in text or "deferrable=True" in text
    assert "{{ ds }}/" not in text
    if "ProjectReadySensor(" in text or "scan_to_project" in text or "wait_for_completion" in text:
        assert "timeout=" in text
    if "only_new=True" in text:
        assert "max_active_runs=1" in text
