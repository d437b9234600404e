"""What Airflow does with the package because it is a provider."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from airflow_360.get_provider_info import get_provider_info
from tests.airflow.conftest import AIRFLOW

PROGRAM = """
from airflow.dag_processing.bundles.manager import DagBundlesManager
print([bundle.name for bundle in DagBundlesManager().get_all_dag_bundles()])
"""


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Older Airflows look for example DAGs only in themselves.")
def test_airflow_with_its_examples_starts_without_a_traceback() -> None:
    """With its default settings, Airflow looks for example DAGs of this package and logs no error."""
    env = {**os.environ, "AIRFLOW__CORE__LOAD_EXAMPLES": "True"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=120
    )
    assert "example_dags" in done.stdout
    assert "airflow_provider_360" not in done.stdout + done.stderr


def test_the_package_has_one_name() -> None:
    """The module with the distribution's name contains no second copy of each class."""
    get_provider_info()
    importlib.import_module("airflow_provider_360")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("airflow_provider_360.exceptions")
