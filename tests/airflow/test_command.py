"""The command ``airflow-360`` as a separate process, and how it finds a connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator
from tests.airflow.conftest import CONNECTION

KEYS = {"sk_MARKERboth": ("projects:read", "projects:write"), "sk_MARKERread": ("projects:read",)}
COMMAND = [str(Path(sys.executable).with_name("airflow-360"))]
MODULE = [sys.executable, "-m", "airflow_360"]
BACKEND = {"AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend"}
#: A trigger as the triggerer runs it: on a loop, in a process that reads no database.
TRIGGER = """
import asyncio, os
os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
from airflow_360.triggers.project import ProjectReadyTrigger
async def first():
    async for event in ProjectReadyTrigger("{project}", "from_file", 1).run():
        return event
print("EVENT", asyncio.run(first()).payload["status"])
"""


@pytest.fixture
def server() -> Iterator[Emulator]:
    with Emulator(keys=KEYS, processing_seconds=0) as emulator:
        yield emulator


def run(command: list[str], home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AIRFLOW_HOME": str(home), **env}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=120
    )


def connection(server: Emulator, key: str) -> dict[str, str]:
    return {"conn_type": "three_sixty", "host": server.url, "password": key}


@pytest.mark.parametrize(
    "command",
    [COMMAND, pytest.param(MODULE, marks=pytest.mark.long)],
    ids=["command", "module"],
)
def test_a_working_connection_exits_with_0(server: Emulator, tmp_path: Path, command: list[str]) -> None:
    """With a working connection from the environment it exits with 0 and prints the result, not the key."""
    if not Path(command[0]).exists():
        pytest.skip("The package is on the path here, but not installed.")
    done = run([*command, "check"], tmp_path, **{CONNECTION: json.dumps(connection(server, "sk_MARKERboth"))})
    assert done.returncode == 0, done.stderr
    assert f"three_sixty_default: {server.url} answers, and accepts the key" in done.stdout
    assert "MARKER" not in done.stdout + done.stderr


@pytest.mark.long
def test_a_key_without_a_scope_exits_with_1(server: Emulator, tmp_path: Path) -> None:
    """With a key without a scope it exits with 1 and names the scope on stderr, without the key."""
    uri = f"three-sixty://:sk_MARKERread@{server.url.removeprefix('http://')}/http"
    done = run([*MODULE, "check", "--conn-id", "other"], tmp_path, AIRFLOW_CONN_OTHER=uri)
    assert done.returncode == 1
    assert "other: " in done.stderr
    assert "lacks the scope projects:write" in done.stderr
    assert "MARKER" not in done.stdout + done.stderr


def test_no_command_exits_with_2(tmp_path: Path) -> None:
    """Without a command it exits with 2 and lists the commands."""
    done = run(MODULE, tmp_path)
    assert done.returncode == 2
    assert "check" in done.stderr


@pytest.fixture
def in_file(server: Emulator, tmp_path: Path) -> dict[str, str]:
    """Settings of an Airflow whose secrets backend is a file."""
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"from_file": connection(server, "sk_MARKERboth")}), "utf-8")
    return {**BACKEND, "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)})}


@pytest.mark.long
def test_a_connection_in_a_secrets_backend_is_found(
    server: Emulator, tmp_path: Path, in_file: dict[str, str]
) -> None:
    """A connection that only a secrets backend knows is found."""
    done = run([*MODULE, "check", "--conn-id", "from_file"], tmp_path, **in_file)
    assert done.returncode == 0, done.stderr
    assert "from_file: " in done.stdout


@pytest.mark.long
def test_secrets_backend_in_a_trigger(server: Emulator, tmp_path: Path, in_file: dict[str, str]) -> None:
    """A trigger finds a connection that only a secrets backend knows, on its event loop."""
    project = server.store.create_project({"download_link": "https://example.com/scan.e57"})["name"]
    done = run([sys.executable, "-c", TRIGGER.format(project=project)], tmp_path, **in_file)
    assert "EVENT ready" in done.stdout, done.stdout + done.stderr
    assert "MARKER" not in done.stdout + done.stderr
