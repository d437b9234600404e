"""Code that people copy from the pages works."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
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
        for name in (
            "clients",
            "connection",
            "errors",
            "file_upload",
            "inspections",
            "parameters",
            "project_polls",
            "projects",
            "task_mixin",
        )
    ),
    "airflow_360.triggers.poll_queue",
    "airflow_360.triggers.project_wait",
}
#: Names in the pages' DAGs that an older Airflow does not have.
NEWER = {"ThreeSixtyRetryPolicy": (3, 3), "DeadlineAlert": (3, 1), "ApprovalOperator": (3, 1)}
DAGS = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
    if "@dag" in block
]


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of all rows of the tables in a page, without the lines below their heads."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


@pytest.mark.parametrize("block", DAGS)
def test_dags_in_pages(block: str) -> None:
    """A DAG in a page is complete: copied into a file, it defines a DAG with tasks."""
    from airflow.providers.common.compat.sdk import DAG

    for name, version in NEWER.items():
        if name in block and version > AIRFLOW:
            pytest.skip(f"{name} came with Airflow {version[0]}.{version[1]}")
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
        for reference in re.findall(r"`(\w[\w./]*::[\w:]+)`", page.read_text("utf-8"))
    }
    assert named
    missing = []
    for reference in sorted(named):
        path, *classes, test = reference.split("::")
        source = (ROOT / path).read_text("utf-8") if (ROOT / path).is_file() else ""
        wanted = [f"def {test}(", *(f"class {name}" for name in classes)]
        if not all(text in source for text in wanted):
            missing.append(reference)
    assert missing == []


def test_every_failure_has_its_tests() -> None:
    """The page with the tests per failure has the rows of the page of failures, each with a test."""
    page = (DOCS / "project" / "tests-per-failure.md").read_text("utf-8")
    rows = rows_of(page.split("## Clears")[0])
    assert [row[0] for row in rows] == [
        row[0] for row in rows_of((DOCS / "reliability.md").read_text("utf-8"))
    ]
    assert [row[0] for row in rows if row[0] != "failure" and "`tests/" not in row[1]] == []


def test_tests_are_named_for_maintainers_only() -> None:
    """No page for users names a test: those of the project and its decisions do."""
    users = [path for path in PAGES if not {"project", "decisions"} & set(path.parts)]
    assert [path.name for path in users if re.search(r"`tests/[\w./]+::", path.read_text("utf-8"))] == []


def test_everything_public_has_a_page() -> None:
    """Each public module is part of the reference, and each module there exists in the code."""
    pages = "".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    described = set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE))
    described |= {name.rpartition(".")[0] for name in classes_in(pages)}
    paths = [path for floor in SKIN for path in (ROOT / "airflow_360").glob(floor)]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    packages = {name for name in modules if name.endswith(".__init__")}
    assert described >= modules - packages - INNER
    assert all(importlib.util.find_spec(name) for name in described)


def classes_in(page: str) -> list[str]:
    """Return the classes that a page describes one by one."""
    return re.findall(r"^\.\. autoclass:: (\S+)$", page, re.MULTILINE)


def test_every_operator_has_a_page() -> None:
    """Each operator and the sensor have one page, with an example and the other sections."""
    sections = ["Example", "Parameters", "XCom", "On retry", "On clear", "Errors"]
    described = []
    for path in (DOCS / "reference").glob("*.md"):
        page = path.read_text("utf-8")
        title = page.splitlines()[0].removeprefix("# ")
        if title.endswith(("Operator", "Sensor")):
            (name,) = classes_in(page)
            described.append(name)
            assert [
                line for line in re.findall(r"^## (.+)$", page, re.MULTILINE) if line != "Options"
            ] == sections
            fields = re.search(r"^Templated fields: ([^.]+)\.$", page, re.MULTILINE)
            module = importlib.import_module(name.rpartition(".")[0])
            assert fields
            assert tuple(re.findall(r"`(\w+)`", fields[1])) == getattr(module, title).template_fields
    modules = ("operators.upload", "operators.project", "sensors.project")
    assert sorted(described) == sorted(
        f"airflow_360.{module}.{name}"
        for module in modules
        for name in importlib.import_module(f"airflow_360.{module}").__all__
    )


def test_slices_of_examples() -> None:
    """Each example that a page includes in part has the lines at which the part begins and ends."""
    for page in PAGES:
        included = re.findall(r"```\{literalinclude\} (\S+)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for file, options in included:
            source = (page.parent / file).read_text("utf-8")
            for mark in re.findall(r'^:(?:start-at|end-before): "(.+)"$', options, re.MULTILINE):
                assert mark in source, f"{page.name}: {mark}"


def test_every_example_is_shown() -> None:
    """Each example DAG is on the page of examples, included from its file."""
    page = (DOCS / "examples.md").read_text("utf-8")
    assert set(re.findall(r"\.\./dags/(\w+\.py)", page)) == {
        path.name for path in (ROOT / "dags").glob("*.py")
    }


def test_links_of_the_readme() -> None:
    """Each link of the README is absolute; one to the repository has its address and leads to a file."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link.removeprefix(address) for link in links if link.startswith(address)]
    assert ours
    paths = [re.sub(r"^/(blob|tree)/main/", "", link) for link in ours]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_decision_table() -> None:
    """The table that helps to choose an operator is the same in the README and on the front page."""
    tables = [
        re.findall(r"\| you have \| use \|\n(?:\|.*\n)+", path.read_text("utf-8"))
        for path in (ROOT / "README.md", DOCS / "index.md")
    ]
    assert len(tables[0]) == 1
    assert tables[0] == tables[1]


def test_changelog_of_the_first_release() -> None:
    """As long as nothing was released, the changelog has one section, Added, of at most 40 lines."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Unreleased"]:
        assert re.findall(r"^### (.+)$", text, re.MULTILINE) == ["Added"]
        assert len(text.split("### Added\n")[1].strip().splitlines()) <= 40
