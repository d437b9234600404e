"""The output about a run: one line while it runs, one table at the end.

Separate because it is pure: task instances and numbers in, lines out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_360.texts import size_text
from harness.airflow_api import TaskInstance


@dataclass(frozen=True)
class UploadedFile:
    """One line of the table.

    :param name: the file's own name
    :param size: its bytes
    :param stored_name: its name on the server
    :param identical: whether the server's copy has the same SHA-256
    """

    name: str
    size: int
    stored_name: str
    identical: bool


def progress_line(
    instances: Sequence[TaskInstance], received: int, total: int, width: int | None = None
) -> str:
    """Return the states of all started tasks, and the bytes that have arrived, on one line.

    :param total: bytes in total; 0 for a DAG that uploads nothing
    :param width: the maximum columns of the line. If it is longer, finished tasks are only counted, the
        earliest first, so that the running task is visible. None for no limit.
    """
    tasks: dict[str, list[str]] = {}
    for instance in sorted(instances, key=_start):
        if instance["state"]:
            tasks.setdefault(instance["task_id"], []).append(instance["state"])
    parts = [f"{task_id} {_states(states)}" for task_id, states in tasks.items()]
    finished = [set(states) <= {"success", "skipped"} for states in tasks.values()]
    arrived = [f"{size_text(received)} of {size_text(total)}"] if total else []
    line, counted = " · ".join(parts + arrived), 0
    while width is not None and len(line) > width and True in finished:
        done = finished.index(True)
        del finished[done], parts[done]
        counted += 1
        line = " · ".join([f"{counted} ✓", *parts, *arrived])
    return line


def _start(instance: TaskInstance) -> tuple[bool, str]:
    """Return the sort key by start; tasks that have not started come last."""
    start = instance.get("start_date")
    return start is None, start or ""


def _states(states: Sequence[str]) -> str:
    if len(states) == 1:
        return "✓" if states[0] == "success" else states[0]
    others = Counter(state for state in states if state != "success")
    counts = [f"{count} {state}" for state, count in sorted(others.items())]
    return ", ".join([f"{states.count('success')} of {len(states)} done", *counts])


def table(files: Iterable[UploadedFile]) -> str:
    """Return a table of the uploaded files."""
    header = ("file", "size", "stored as", "identical")
    rows = [
        (file.name, size_text(file.size), file.stored_name, "yes" if file.identical else "NO")
        for file in files
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_table_row(row, widths) for row in (header, rule, *rows))


def _table_row(row: Sequence[str], widths: Sequence[int]) -> str:
    name, size, stored, identical = row
    return (
        f"{name:<{widths[0]}}  {size:>{widths[1]}}  {stored:<{widths[2]}}  {identical:<{widths[3]}}".rstrip()
    )
