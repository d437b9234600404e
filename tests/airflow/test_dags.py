from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DAGS = Path(__file__).parents[2] / "dags"
FILES = sorted(DAGS.glob("example_*.py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    """An example DAG imports cleanly, has a docstring, and has its file's name as its id."""
    from airflow.providers.common.compat.sdk import DAG

    module = load(path)
    assert module.__doc__
    dag = getattr(module, path.stem)()
    assert isinstance(dag, DAG)
    assert dag.dag_id == path.stem


def test_all_run_in_a_real_airflow() -> None:
    """Every example DAG is run by a system test."""
    text = (DAGS.parent / "tests/system/test_main_job.py").read_text(encoding="utf-8")
    assert [path.stem for path in FILES if path.stem not in text] == []
