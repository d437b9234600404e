"""The table of stores in the documentation shows the results of the tests of real stores."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from tests.stores.servers import STORES

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "howto" / "object-stores-table.md").read_text("utf-8")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_table_has_each_store_and_each_behaviour() -> None:
    """The table has a column for each store and a row for each behaviour that the tests show; all hold."""
    head, _, *rows = [cells(line) for line in TABLE.splitlines() if line.startswith("|")]
    assert set(head[1:]) == {store.name for store in STORES}
    modules = [
        import_module(f"tests.stores.{path.stem}") for path in (ROOT / "tests/stores").glob("test_*.py")
    ]
    behaviours = {
        test.behaviour for module in modules for test in vars(module).values() if hasattr(test, "behaviour")
    }
    assert {row[0] for row in rows} == behaviours
    assert not [row for row in rows if {"**no**", "not run"} & set(row[1:])]
