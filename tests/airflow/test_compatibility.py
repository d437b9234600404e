"""The statements of the page about versions are true."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_360.operators import base
from tests.airflow.conftest import AIRFLOW

ROOT = Path(__file__).parents[2]
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "compatibility.md").read_text("utf-8").splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
VERSIONS = TABLE[0][1:]


def said(feature: str) -> str:
    """Return the page's statement about a feature on this Airflow."""
    (row,) = [row for row in TABLE if row[0].startswith(feature)]
    return row[1:][VERSIONS.index("{}.{}".format(*AIRFLOW))]


def test_versions_are_those_of_the_matrix() -> None:
    """The table has a column for each version that the matrix runs on, each of which has its pins."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.findall(r"^AIRFLOWS := (.*)$", makefile, re.MULTILINE) == [" ".join(VERSIONS)]
    for version in VERSIONS:
        pins = (ROOT / "constraints" / f"airflow-{version}.txt").read_text("utf-8")
        assert re.search(rf"^apache-airflow=={re.escape(version)}\.\d+(b\d+|rc\d+)?$", pins, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "constraints").iterdir()), ids=lambda path: path.stem)
def test_pins_are_plain(path: Path) -> None:
    """A constraints file has a name and a version on each line, and no URL."""
    for line in path.read_text("utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.!+-]+( ; [\w\s.*'\"=<>!()-]+)?", line), line


def test_rescheduling() -> None:
    """If the page says that a long rate limit is rescheduled, it is."""
    assert (said("a long rate limit, not deferrable") == "yes") == base.DATES_ARE_OBEYED


def test_memory() -> None:
    """If the page says that a task saves state, Airflow's context has the store for it."""
    found = importlib.util.find_spec("airflow.sdk") and importlib.util.find_spec(
        "airflow.sdk.definitions.context"
    )
    context = Path(found.origin).read_text("utf-8") if found and found.origin else ""
    assert ("task_state_store" in context) == (said("what a task remembers") == "yes")


def test_python() -> None:
    """The newest Python that the page names is the newest of ours that Airflow takes."""
    newest = said("Python").split()[-1]
    taken = SpecifierSet(importlib.metadata.metadata("apache-airflow")["Requires-Python"])
    assert [python for python in ("3.11", "3.12", "3.13") if python in taken][-1] == newest
