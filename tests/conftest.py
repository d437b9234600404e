"""What holds for every test: Airflow lives in a folder of its own and reads no developer's settings."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports Airflow, which reads these at import and writes its configuration file.
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-360-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

from hypothesis import settings  # noqa: E402  (Airflow's folder comes first)

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("360", deadline=None)
settings.load_profile("360")

#: A real Airflow boots once for all system tests of a worker of pytest-xdist. So that there are two of them, which
#: wait side by side, and not one in each worker, the files are dealt to two groups.
AIRFLOWS = 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the system tests first, since they wait most, and keep each file in one worker."""
    items.sort(key=lambda item: "tests/system/" not in item.nodeid)
    files = sorted({item.path for item in items if _is_system(item.path)})
    for item in items:
        group = f"airflow {files.index(item.path) % AIRFLOWS}" if _is_system(item.path) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def _is_system(path: Path) -> bool:
    return path.parent.name == "system"


@pytest.fixture(autouse=True)
def forget_secrets() -> Iterator[None]:
    """What a test asked Airflow to mask slows the masking of all that come after it."""
    yield
    for name, module in list(sys.modules.items()):
        if name.endswith(".secrets_masker") and hasattr(module, "_secrets_masker"):
            masker = module._secrets_masker()
            masker.patterns, masker.replacer = set(), None
