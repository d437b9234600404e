"""What an Airflow in production has: PostgreSQL, and several machines, simulated by Celery workers.

Each worker has its own folders and home and, if the kernel allows it, cannot see those of the others.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.airflow import DATABASE, LocalAirflow
from harness.processes import LOOPBACK, Child, Part, PartFailedError, clean_environment, end, free_port

_START_SECONDS = 600


def missing() -> str:
    """Return the programs that this machine lacks for this; empty if it lacks none."""
    if importlib.util.find_spec("airflow.providers.celery") is None:
        return "the Celery provider is not installed; `make test-system` does it"
    if not shutil.which("redis-server"):
        return "redis-server is not installed; on Debian: apt-get install redis-server"
    return missing_postgres()


def missing_postgres() -> str:
    """Return the programs that this machine lacks for an Airflow on PostgreSQL; empty if it lacks none."""
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed; `make test-system` installs it"
    if not _postgres("initdb"):
        return "PostgreSQL is not installed; on Debian: apt-get install postgresql"
    if os.geteuid() == 0 and subprocess.run([*_NOT_AS_ROOT, "true"], capture_output=True).returncode:
        return "PostgreSQL refuses to run as root, and there is no user postgres"
    return ""


class _Server(Part):
    """A server in a temporary folder, on a free loopback port, gone with the ``with`` block."""

    name = ""
    ending = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path()
        self._child: Child | None = None

    def start(self) -> None:
        atexit.register(self.stop)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name.lower()}-"))
        try:
            self._child = Child(
                self.name,
                self._prepared(),
                log=self._folder / "log",
                env=clean_environment({}),
                cwd=self._folder,
            )
            _await(self.name, self._answers, self._child.check)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        atexit.unregister(self.stop)
        if self._child:
            if self._child.exit_code is None:
                os.kill(self._child.pid, self.ending)
            end([self._child])
            self._child = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepared(self) -> Sequence[str]:
        """Return the command that serves, once the folder is ready for it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class Redis(_Server):
    name = "Redis"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _prepared(self) -> Sequence[str]:
        return ["redis-server", "--bind", LOOPBACK, "--port", str(self.port), "--save", ""]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(_Server):
    name = "PostgreSQL"
    ending = signal.SIGINT  # ends connections too

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://airflow@{LOOPBACK}:{self.port}/postgres"

    def _prepared(self) -> Sequence[str]:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        data = self._folder / "data"
        initdb = [_postgres("initdb"), "-D", str(data), "-U", "airflow", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run([*_NOT_AS_ROOT, *initdb], check=True, capture_output=True, cwd=self._folder)
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        return [
            *_NOT_AS_ROOT,
            _postgres("postgres"),
            *["-D", str(data)],
            *[word for name, value in options.items() for word in ("-c", f"{name}={value}")],
        ]

    def _answers(self) -> bool:
        ask = [_postgres("pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(ask).returncode == 0


@contextlib.contextmanager
def database_env() -> Iterator[dict[str, str]]:
    """Return the environment of an Airflow with a PostgreSQL of its own; without one here, it uses SQLite.

    SQLite lets one process write at a time; on a busy machine others fail with "database is locked".
    """
    if missing_postgres():
        yield {}
        return
    with Postgres() as postgres:
        yield {DATABASE: postgres.url}


class Machines(LocalAirflow):
    """An Airflow whose tasks run on Celery workers, one task at a time on each.

    :param home: the folder for the central part's folder, and one per worker
    :param dags: folder of DAG files, of which each worker gets a copy
    :param workers: their names
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        workers: Sequence[str],
        env: Mapping[str, str],
        database: str,
        broker: str,
    ) -> None:
        distributed = {
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            DATABASE: database,
            # A worker that is gone is noticed by its silence: after five minutes by default.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        }
        super().__init__(home / "central", dags, env={**env, **distributed})
        self.workers = {name: home / name for name in workers}

    def start(self) -> None:
        super().start()
        try:
            for name in self.workers:
                self._spawn_worker(name)
            for name in self.workers:
                _await(name, functools.partial(self._is_ready, name), self.check)
        except BaseException:
            self.stop()
            raise

    def _spawn_worker(self, name: str) -> None:
        home = self.workers[name]
        shutil.copytree(self.dags, home / "dags")
        (home / "tmp").mkdir()
        own = {
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        }
        others = [self.home, *(folder for folder in self.workers.values() if folder != home)]
        command = [sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs"]
        self._children[name] = Child(
            name,
            [*_blind_to(others), *command, "--celery-hostname", name],
            log=home / "worker.log",
            env={**self.env, **own},
            cwd=home,
        )

    def _is_ready(self, name: str) -> bool:
        return f"{name} ready" in self._children[name].tail(200)


def _await(name: str, happened: Callable[[], bool], check: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not happened():
        check()
        if time.monotonic() > deadline:
            raise PartFailedError(name, "does not answer")
        time.sleep(0.1)


def _blind_to(folders: Sequence[Path]) -> list[str]:
    """Return a prefix for a command, with which it finds these folders empty; no prefix if not possible."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return []
    hide = "".join(f"mount -t tmpfs none {shlex.quote(str(folder))} && " for folder in folders)
    return ["unshare", "--mount", "sh", "-c", f'{hide}exec "$@"', "sh"]


def _postgres(program: str) -> str:
    """Return the path of one of PostgreSQL's programs, which Debian keeps off the PATH; empty without it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(program, path=os.pathsep.join(map(str, folders))) or shutil.which(program) or ""


_NOT_AS_ROOT = (
    ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
)
