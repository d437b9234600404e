"""The distributions: the wheel and the sdist, and an Airflow with the wheel and without a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from airflow_360 import __version__
from airflow_360.emulator import Emulator
from demo.scans import make_scans
from harness.processes import clean_environment
from tests.packaging.conftest import BIN, PINS, ROOT, Built, run, uv

pytestmark = pytest.mark.long


def test_a_registry_would_take_them(built: Built) -> None:
    """Twine finds no fault with the metadata and the long description of both."""
    said = run([str(BIN / "twine"), "check", "--strict", str(built.wheel), str(built.sdist)], ROOT)
    assert said.count("PASSED") == 2


def test_metadata(built: Built) -> None:
    """The wheel's metadata: its licence as SPDX, its kind, its Python versions and its requirements."""
    metadata = built.metadata
    assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-360", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier", [])
    assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider"} <= set(classifiers)
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in needed if re.search(r"<|==|~=", line)], "a ceiling"
    assert all(">=" in line for line in needed), "no floor"


def test_wheel_holds_the_package_and_no_more(built: Built) -> None:
    """The wheel contains every file of the package, its types' marker and its licence, and nothing else."""
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    info = f"airflow_provider_360-{__version__}.dist-info/"
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "airflow_360").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "airflow_360/py.typed" in package
    assert {name for name in names if not name.startswith(info)} == package
    assert f"{info}licenses/LICENSE" in names
    assert f"{info}entry_points.txt" in names


def test_sdist_is_light_and_knows_no_machine(built: Built) -> None:
    """The sdist has no file over 1 MiB, less than 3 MiB in all, and no path of its builder's machine."""
    with tarfile.open(built.sdist) as sdist:
        files = {member.name: member for member in sdist.getmembers() if member.isfile()}
        assert max(member.size for member in files.values()) <= 1024 * 1024
        assert built.sdist.stat().st_size < 3 * 1024 * 1024
        here = [str(ROOT).encode(), str(Path.home()).encode() + b"/"]
        found = []
        for name, member in files.items():
            opened = sdist.extractfile(member)
            assert opened is not None
            content = opened.read()
            found += [name for path in here if path in content]
    assert not found
    tops = {name.split("/")[1] for name in files}
    assert {"airflow_360", "CHANGELOG.md", "LICENSE", "README.md", "dags", "docs", "tests"} <= tops
    assert not tops & {".venv", ".matrix", ".demo", "dist"}


def test_an_example_runs_from_the_wheel(built: Built, tmp_path: Path) -> None:
    """In an Airflow with only the wheel, the provider is listed and an example DAG creates a project."""
    uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "env"))
    python = tmp_path / "env" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", str(python), "--constraint", str(PINS), str(built.wheel))

    dags, photos = tmp_path / "dags", tmp_path / "photos"
    dags.mkdir()
    shutil.copy(ROOT / "dags" / "example_local_files.py", dags)
    made = make_scans(photos)
    with Emulator(processing_seconds=0) as emulator:
        connection = {"conn_type": "three_sixty", "host": emulator.url, "password": "sk_wheel"}
        env = clean_environment(
            {
                "AIRFLOW_HOME": str(tmp_path / "home"),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": json.dumps(connection),
                "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            }
        )
        env.pop("PYTHONPATH", None)

        def airflow(*arguments: str) -> str:
            return run([str(python), "-m", "airflow", *arguments], tmp_path, env)

        where = run([str(python), "-c", "import airflow_360; print(airflow_360.__file__)"], tmp_path, env)
        assert Path(where.strip()).is_relative_to(tmp_path / "env")
        airflow("db", "migrate")
        providers = json.loads(airflow("providers", "list", "--output", "json"))
        assert ("airflow-provider-360", __version__) in {
            (provider["package_name"], provider["version"]) for provider in providers
        }
        airflow(
            "dags", "test", "example_local_files", "--conf", json.dumps({"folder": str(photos), "title": "W"})
        )
        (project,) = emulator.store.projects
        stored = emulator.store.sessions[project].files
    assert len(stored) == len(made)
