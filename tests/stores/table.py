"""The table store × behaviour, as the tests showed it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

__all__ = ["RESULTS", "Results", "properties", "shows", "value"]

Test = TypeVar("Test", bound=Callable[..., Any])

#: The key of the results in pytest's session.
RESULTS: pytest.StashKey[Results] = pytest.StashKey()

#: The order of the rows: that of the files in which their tests are.
_FILES = ("test_uploads", "test_interruptions", "test_refusals", "test_names", "test_costs")

_YES, _NO, _SKIPPED = "yes", "**no**", "not run"
_HEAD = """\
<!-- Written by `STORES_TABLE=docs/howto/object-stores-table.md make test-stores`; do not edit. -->
"""


def shows(behaviour: str) -> Callable[[Test], Test]:
    """Set the row of the table that a test fills; several tests may share a row."""

    def decorate(test: Test) -> Test:
        test.behaviour = behaviour  # type: ignore[attr-defined]
        return test

    return decorate


def value(request: pytest.FixtureRequest, text: str) -> None:
    """Set the text of the cell, instead of "yes", for a test that passes."""
    request.node.user_properties.append(("cell", text))


def properties(item: pytest.Item) -> list[tuple[str, str]]:
    """Return what a report must carry to fill a cell; it may come from another process."""
    behaviour = getattr(getattr(item, "function", None), "behaviour", None)
    if behaviour is None:
        return []
    store = getattr(item, "callspec").params["running"].name  # noqa: B009
    return [("behaviour", behaviour), ("store", store), ("file", item.path.stem)]


class Results:
    """Collects the results of the tests."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._columns: set[str] = set()
        self._files: dict[str, int] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Add one test's report, if it fills a cell."""
        said: dict[str, str] = {str(name): str(text) for name, text in report.user_properties}
        if "behaviour" not in said or (report.when != "call" and report.passed):
            return
        self._columns.add(said["store"])
        self._files[said["behaviour"]] = _FILES.index(said["file"])
        if report.failed:
            cell = _NO
        elif report.skipped:
            cell = _SKIPPED
        else:
            cell = said.get("cell", _YES)
        self._rows[said["behaviour"]][said["store"]].append(cell)

    def write(self, path: Path) -> None:
        """Write a Markdown table, or JSON if the path ends so."""
        in_order = sorted(self._rows.items(), key=lambda row: self._files[row[0]])
        rows = {
            row: {store: _one(cells[store]) for store in sorted(self._columns)} for row, cells in in_order
        }
        if path.suffix == ".json":
            path.write_text(json.dumps(rows, indent=1) + "\n")
            return
        lines = [
            "| | " + " | ".join(sorted(self._columns)) + " |",
            "|---" * (len(self._columns) + 1) + "|",
            *(f"| {row} | " + " | ".join(cells.values()) + " |" for row, cells in rows.items()),
        ]
        path.write_text(_HEAD + "\n" + "\n".join(lines) + "\n")


def _one(cells: list[str]) -> str:
    """Return the combined result of all tests of a cell."""
    for worst in (_NO, _SKIPPED):
        if worst in cells:
            return worst
    return "; ".join(dict.fromkeys(cells)) if cells else _SKIPPED
