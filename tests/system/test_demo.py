"""The output of ``make demo``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from harness.airflow import REPOSITORY

pytestmark = [pytest.mark.system, pytest.mark.long]


def test_the_whole() -> None:
    """The nightly scan and the new one become projects, and the asset of the second starts a DAG."""
    command = [sys.executable, "-m", "demo", "--no-wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True) as demo:
        try:
            shown, errors = demo.communicate(timeout=1200)
        except subprocess.TimeoutExpired:
            demo.terminate()  # it ends its Airflow; if it were killed, that would stay
            raise
    assert demo.returncode == 0, f"{shown}\n{errors}"
    nightly, told = re.findall(r"^Project  (\S+): http|^It was told .* is ready: (\S+): http", shown, re.M)
    assert nightly[0]
    assert told[1]
    assert nightly[0] != told[1]
    assert re.search(r"^example_new_scans_catalog runs: \S+asset_triggered", shown, re.M)
    assert not re.search(r"\bNO\b", shown)
