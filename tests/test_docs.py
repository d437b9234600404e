"""Code that people copy from the pages works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_360.get_provider_info import CONN_FIELDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DAGS = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
    if "@dag" in block
]


@pytest.mark.parametrize("block", DAGS)
def test_dags_in_pages(block: str) -> None:
    """A DAG in a page is complete: copied into a file, it makes a DAG with tasks."""
    from airflow.providers.common.compat.sdk import DAG

    names: dict[str, object] = {}
    exec(compile(block, "page", "exec"), names)
    (made,) = re.findall(r"^(\w+)\(\)$", block, re.MULTILINE)
    dag = names[made]()  # type: ignore[operator]
    assert isinstance(dag, DAG)
    assert dag.task_dict


def test_connection_fields() -> None:
    """The page about the connection has a row for each field of the form, and for no other."""
    page = (ROOT / "docs" / "connection.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `\w+` \| [^|]+ \| `[^|]*` \|", line)]
    assert rows == [
        f"| `{name}` | {field['label']} | `{field['schema']['default']}` | {field['description']} |"  # type: ignore[index]
        for name, field in CONN_FIELDS.items()
    ]


def test_named_tests_exist() -> None:
    """Every test that a page names is there."""
    named = {
        reference
        for page in PAGES
        for reference in re.findall(r"`(tests/[\w/]+\.py::\w+)`", page.read_text("utf-8"))
    }
    assert named
    missing = [
        reference
        for reference in sorted(named)
        if f"def {reference.rpartition('::')[2]}("
        not in (ROOT / reference.partition("::")[0]).read_text("utf-8")
    ]
    assert missing == []
