"""The benchmarks run: each scenario once, on sizes that say nothing about speed. No figure is asserted."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import SCENARIOS
from benchmarks.report import text
from benchmarks.stage import MIB, Sizes, stage

TINY = Sizes(
    runs=1,
    one_file=9 * MIB,  # more than a first chunk
    yardstick=MIB,
    long_link=9 * MIB,
    s3=9 * MIB,
    files=5,
    file_size=1000,
    tasks=2,
    task_file=9 * MIB,
)
IN_AIRFLOW = ("task-time", "task-memory")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.system] * (name in IN_AIRFLOW)
            + [pytest.mark.soak if name in IN_AIRFLOW else pytest.mark.long],
        )
        for name in SCENARIOS
    ],
)
def test_scenario(name: str) -> None:
    """A scenario measures all its programs, and its goals are in the table."""
    with stage(name, TINY) as where:
        result = SCENARIOS[name](where)
        left = where.folder
    assert not left.exists()
    assert result.rows
    assert all(len(row.values) == 1 and row.values[0] > 0 for row in result.rows)
    assert result.goals
    table = text([result])
    assert all(row.who in table for row in result.rows)
    assert all(goal.what in table for goal in result.goals)
