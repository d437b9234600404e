"""Setup for all tests: Airflow has its own folder and reads no settings of the developer."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

# Before anything imports Airflow, which reads these at import and writes its configuration file.
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-360-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

from hypothesis import settings  # noqa: E402  (Airflow's folder comes first)

#: System tests that start an Airflow of their own.
OWN_AIRFLOW = ("test_composed.py", "test_demo.py", "test_machines.py", "test_right_night.py")
#: Long system tests that share the second of two real Airflows, chosen so that both need equally long.
SECOND_AIRFLOW = (
    "test_archive.py",
    "test_failures.py",
    "test_odd_replies.py",
    "test_only_new.py",
    "test_project_creation.py",
    "test_retry_and_clear.py",
)

# The time of an example depends more on the machine's other work than on the code.
settings.register_profile("360", deadline=None)
settings.load_profile("360")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the system tests first, since they wait most, and of these the ones that share an Airflow."""
    items.sort(key=lambda item: (not _is_system(item.nodeid), item.path.name in OWN_AIRFLOW))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each file's tests in one worker, and system tests that share an Airflow too."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped,unused-ignore]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if not _is_system(file) or file.endswith(OWN_AIRFLOW):
                return file
            is_second = config.option.markexpr == "long" and file.endswith(SECOND_AIRFLOW)
            return "second Airflow" if is_second else "first Airflow"

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def _is_system(nodeid: str) -> bool:
    return nodeid.startswith("tests/system/")


@pytest.fixture(autouse=True)
def forget_secrets() -> Iterator[None]:
    """Secrets that a test registered for masking slow down all later tests, so they are removed."""
    yield
    for name, module in list(sys.modules.items()):
        if name.endswith(".secrets_masker") and hasattr(module, "_secrets_masker"):
            masker = module._secrets_masker()
            masker.patterns, masker.replacer = set(), None
