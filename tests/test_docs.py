"""Code that people copy from the pages works."""

from __future__ import annotations

import importlib.util
import re
from datetime import datetime
from pathlib import Path

import pytest

from airflow_360.get_provider_info import CONN_FIELDS
from tests.airflow.conftest import AIRFLOW

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
#: The modules that are public, and those among them that only the package itself uses.
KINDS = ("hooks", "links", "operators", "sensors", "triggers")
CORE = ("api/backoff.py", "api/client.py", "api/records.py", "exceptions.py", "task_groups.py")
SKIN = (*CORE, "retry_policy.py", *(f"{kind}/*.py" for kind in KINDS))
INNER = {
    *(
        f"airflow_360.hooks.{name}"
        for name in ("clients", "connection", "errors", "parameters", "project_polls", "task_mixin")
    ),
    "airflow_360.triggers.poll_queue",
}
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
    """A DAG in a page is complete: copied into a file, it defines a DAG with tasks."""
    from airflow.providers.common.compat.sdk import DAG

    if "ThreeSixtyRetryPolicy" in block and AIRFLOW < (3, 3):
        pytest.skip("retry policies came with 3.3")
    if AIRFLOW < (3, 0):  # the three changes that docs/compatibility.md names
        block = block.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
        block = block.replace("@dag\n", "@dag(schedule=None)\n")
        block = block.replace("catchup=False", "catchup=False, start_date=datetime(2026, 1, 1)")
    names: dict[str, object] = {"datetime": datetime}
    exec(compile(block, "page", "exec"), names)
    made = re.findall(r"^(\w+)\(\)$", block, re.MULTILINE)
    assert made
    for name in made:
        dag = names[name]()  # type: ignore[operator]
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


def test_everything_public_has_a_page() -> None:
    """Each public module is part of the reference, and each module there exists in the code."""
    pages = "".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    described = set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE))
    paths = [path for floor in SKIN for path in (ROOT / "airflow_360").glob(floor)]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    packages = {name for name in modules if name.endswith(".__init__")}
    assert described >= modules - packages - INNER
    assert all(importlib.util.find_spec(name) for name in described)


def test_every_example_is_shown() -> None:
    """Each example DAG is on the page of examples, included from its file."""
    page = (DOCS / "examples.md").read_text("utf-8")
    assert set(re.findall(r"\.\./dags/(\w+\.py)", page)) == {
        path.name for path in (ROOT / "dags").glob("*.py")
    }
