"""A new user who follows the quickstart exactly."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.processes import LOOPBACK, Child, clean_environment, end, free_port
from tests.packaging.conftest import PINS, ROOT, Built, run, uv

pytestmark = pytest.mark.soak

PAGE = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
KEY = {"Authorization": "Bearer sk_demo"}


@dataclass
class Newcomer:
    """A user with a home folder and an environment with an Airflow 3.3 and nothing of ours.

    Only the emulator's port is not taken from the page, because another program may use it.
    """

    home: Path
    env: dict[str, str]
    port: int = field(default_factory=free_port)
    terminals: list[Child] = field(default_factory=list)

    def types(self, command: str) -> str:
        """Type one command and wait for its end."""
        return run(["bash", "-euc", self._here(command)], self.home, self.env)

    def opens(self, command: str) -> Child:
        """Type a command that keeps running, in its own terminal."""
        words = shlex.split(self._here(command))
        log = self.home / f"{len(self.terminals)}.log"
        child = Child(command, ["env", *words], log=log, env=self.env, cwd=self.home)
        self.terminals.append(child)
        return child

    def asks(self, path: str) -> Any:
        """Ask the emulator."""
        return requests.get(f"http://{LOOPBACK}:{self.port}/api/v1{path}", headers=KEY, timeout=10).json()

    def _here(self, command: str) -> str:
        return command.replace("8360", str(self.port))


def until(what: str, done: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(1)


@pytest.fixture
def newcomer(built: Built, tmp_path: Path) -> Iterator[Newcomer]:
    environment, airflow_port = tmp_path / "env", free_port()
    uv("venv", "--quiet", "--seed", "--python", sys.executable, str(environment))
    pins = ["--constraint", str(PINS), "apache-airflow"]
    uv("pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), *pins)
    home = tmp_path / "home"
    home.mkdir()
    url = f"http://{LOOPBACK}:{airflow_port}"
    env = clean_environment(
        {
            "HOME": str(home),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(PINS),
            "PIP_FIND_LINKS": str(built.wheel.parent),
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__PORT": str(airflow_port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
    )
    env.pop("PYTHONPATH", None)
    person = Newcomer(home, env)
    try:
        yield person
    finally:
        end(person.terminals)


def test_quickstart(newcomer: Newcomer) -> None:
    """If you type the commands of the page, you have a finished project at the end."""
    commands = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    install, emulator, connect, *scan, reserialize, unpause, trigger, look = commands
    assert "emulator" in emulator

    newcomer.types(install)
    newcomer.opens("airflow standalone")
    health = f"{newcomer.env['AIRFLOW__API__BASE_URL']}/api/v2/monitor/health"
    until("Airflow is up", lambda: _answers(health))
    newcomer.opens(emulator)
    newcomer.types(connect)
    for command in scan:
        newcomer.types(command)
    (dag,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    folder = newcomer.home / "airflow" / "dags"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "first_scan.py").write_text(dag)
    for command in (reserialize, unpause, trigger):
        newcomer.types(command)

    def states() -> list[str]:
        runs = json.loads(newcomer.types(f"{look} --output json").splitlines()[-1])  # warnings come first
        return [run["state"] for run in runs]

    until("the run has ended", lambda: not {"queued", "running"} & set(states()))
    assert states() == ["success"]
    (project,) = newcomer.asks("/projects")["projects"]
    record = newcomer.asks(f"/projects/{project['name']}")
    assert (record["status"], record["title"]) == (100, "Town hall")
    logs = [log.read_text("utf-8") for log in (newcomer.home / "airflow" / "logs").rglob("attempt=*.log")]
    assert len(logs) >= 4
    assert not [log for log in logs if "Traceback" in log or "Could not load" in log]


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except (requests.ConnectionError, requests.ReadTimeout):
        return False
