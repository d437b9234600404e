"""A real Airflow on this machine: SQLite, LocalExecutor, loopback only, all state in one folder.

Separate because the demo and the system tests both use it, and neither should know how to set up an Airflow.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import importlib.metadata
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from harness.airflow_api import AirflowApi
from harness.processes import (
    LOOPBACK,
    Child,
    Part,
    PartFailedError,
    check_free,
    clean_environment,
    end,
    end_leftovers,
    endings_as_exceptions,
    free_port,
    note_sessions,
)

REPOSITORY = Path(__file__).resolve().parent.parent
#: Airflow 2 has a web server and another API; otherwise it starts in the same way.
IS_AIRFLOW_2 = importlib.metadata.version("apache-airflow").startswith("2.")
MIGRATION = "migration"
API_SERVER = "api-server"
#: Component -> its name in the health report. The API server has none: if it answers, it is healthy.
HEARTBEATS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
if IS_AIRFLOW_2:  # its scheduler reads the DAG files itself; with SQLite no other process may
    del HEARTBEATS["dag-processor"]
# Log servers would listen on every interface; the API server reads the files in the same folder anyway.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    MIGRATION: ("db", "migrate"),
    API_SERVER: ("webserver",) if IS_AIRFLOW_2 else ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
COMPONENTS = (API_SERVER, *HEARTBEATS)  # started in this order, because the API server takes longest
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_LOCK_SECONDS = 30
_POLL_SECONDS = 0.2
#: Files that did not change are not parsed again, which takes a fifth of a core; changed ones are anyway.
_NEVER = "86400"


class LocalAirflow(Part, AirflowApi):
    """A local Airflow that can be started, used through its API, and ended with all its processes.

    A context manager: ``with LocalAirflow(home, dags) as airflow``. Airflow ends with the block, also after
    an exception, Ctrl-C, SIGTERM, or the end of the interpreter.

    :param home: folder for its configuration, database and logs; created if missing, otherwise reused
    :param dags: folder of DAG files
    :param env: more environment for every component, mainly ``AIRFLOW_CONN_…``; overrides the defaults
    :param port: port of UI and API; 0 selects a free one
    :param parallelism: task processes at a time
    :param boot_timeout: seconds within which a component must start
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        parallelism: int = 8,
        boot_timeout: float = 600,
    ) -> None:
        self.home, self.dags = home.resolve(), dags.resolve()
        self.port = port or free_port()
        super().__init__(f"http://{LOOPBACK}:{self.port}", version="v1" if IS_AIRFLOW_2 else "v2")
        self.env = clean_environment({**self._settings(parallelism), **(env or {})})
        self._boot_timeout = boot_timeout
        self._children: dict[str, Child] = {}
        self._signals = contextlib.ExitStack()

    def _settings(self, parallelism: int) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        return {
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": path,
            **_network_settings(self.port, self.url),
            **_core_settings(self.dags, parallelism),
            **_SNAPPY_SETTINGS,
            **(_airflow_2_settings(self.port, self.url) if IS_AIRFLOW_2 else {}),
        }

    def start(self) -> None:
        """Migrate the database, start the four components in parallel, and wait until all are healthy.

        :raises PartFailedError: if one of them ended or did not start; no process is left running
        """
        self.home.mkdir(parents=True, exist_ok=True)
        end_leftovers(self.home)
        check_free(API_SERVER, self.port)
        atexit.register(self.stop)
        self._signals.enter_context(endings_as_exceptions())
        try:
            if IS_AIRFLOW_2:
                (self.home / "webserver_config.py").write_text(
                    'AUTH_ROLE_PUBLIC = "Admin"\n', encoding="utf-8"
                )
            self._migrate()
            self._bring_up(COMPONENTS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every component and all processes that they started. May be called more than once."""
        atexit.unregister(self.stop)
        end(self._children.values())
        self._children.clear()
        self._signals.close()

    def pid(self, component: str) -> int:
        """Return the process id of a component, which is also that of its session.

        :param component: one of :data:`COMPONENTS`
        """
        return self._children[component].pid

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the components that have been started and not killed."""
        return {name: child.pid for name, child in self._children.items()}

    @property
    def database(self) -> str:
        """The address of its database, in which SQLite waits longer than by default."""
        return self.env.get(DATABASE, f"sqlite:///{self.home}/airflow.db?timeout={_LOCK_SECONDS}")

    def component_env(self, component: str) -> dict[str, str]:
        """Return the environment of a component.

        If SQLite is locked for longer than its usual 5 seconds, Airflow's parts end, so they wait longer. The
        API server does not: its requests can wait for each other in a circle until one of them fails.
        """
        if component == API_SERVER:
            return self.env
        return {**self.env, DATABASE: self.database}

    def component_log(self, component: str) -> Path:
        """Return the file with a component's output."""
        return self.home / f"{component}.log"

    def kill(self, component: str) -> None:
        """Kill a component with SIGKILL, like a power cut; with the scheduler also all running tasks."""
        end([self._children.pop(component)], grace=0)

    def restart(self, component: str) -> None:
        """End a component if it runs, start it again, and wait until it is healthy."""
        running = self._children.pop(component, None)
        if running:
            end([running])
        self._bring_up([component])

    def check(self) -> None:
        """Raise :class:`PartFailedError` if a component has ended by itself."""
        for child in self._children.values():
            child.check()

    def _migrate(self) -> None:
        self._spawn(MIGRATION)
        child = self._children[MIGRATION]
        status = child.wait(self._boot_timeout)
        if status != 0:
            raise PartFailedError(MIGRATION, f"ended with exit status {status}", child.tail())
        del self._children[MIGRATION]

    def _bring_up(self, components: Iterable[str]) -> None:
        since = datetime.now(UTC)
        for component in components:
            self._spawn(component)
        self._await(components, since)

    def _await(self, components: Iterable[str], since: datetime) -> None:
        missing = set(components)
        deadline = time.monotonic() + self._boot_timeout
        while missing := missing - self._up(since):
            self.check()
            if time.monotonic() > deadline:
                late = min(missing)
                log = self._children[late].tail()
                raise PartFailedError(late, f"did not come up within {self._boot_timeout:.0f} seconds", log)
            time.sleep(_POLL_SECONDS)

    def _spawn(self, name: str) -> None:
        command = [sys.executable, "-m", "airflow", *COMMANDS[name]]
        log = self.component_log(name)
        self._children[name] = Child(name, command, log=log, env=self.component_env(name), cwd=self.home)
        note_sessions(self.home, self._children.values())

    def _up(self, since: datetime) -> set[str]:
        """Return the components with a heartbeat since then.

        The status in the health report is not enough: a heartbeat from before the start is healthy there too.
        """
        try:
            report = self.health()
        except (requests.RequestException, ValueError):
            return set()
        return {API_SERVER} | {name for name, key in HEARTBEATS.items() if _beat_after(report, key, since)}


def _beat_after(report: Mapping[str, Any], key: str, since: datetime) -> bool:
    beat: str | None = (report.get(key) or {}).get(f"latest_{key}_heartbeat")
    return beat is not None and datetime.fromisoformat(beat) >= since


def _network_settings(port: int, url: str) -> dict[str, str]:
    """Return the settings that keep Airflow on loopback and let its processes find and trust each other."""
    unused_ports = {
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
    }
    return {
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "harness.loopback_host",
        **unused_ports,
    }


def _airflow_2_settings(port: int, url: str) -> dict[str, str]:
    """Return settings with other names in Airflow 2, and settings that Airflow 3 does not need."""
    return {
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": LOOPBACK,
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
        "AIRFLOW__WEBSERVER__BASE_URL": url,
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        # Never: on a busy machine it took its worker, which served requests, for missing, and ended.
        "AIRFLOW__WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "0",
        "AIRFLOW__WEBSERVER__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
        "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": _NEVER,
        "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
        # Otherwise tasks schedule too. SQLite locks no rows: two expand one mapped task, the scheduler ends.
        "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False",
        # It allows SQLite only with one task at a time, except in its own tests.
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
    }


def _core_settings(dags: Path, parallelism: int) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        **_PATIENCE,
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
    }


#: On a busy machine a request may take longer than Airflow's own limits for it, and then a task fails.
_PATIENCE = {
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
    "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "300",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "100",
}
_SNAPPY_SETTINGS = {
    # The database has just been migrated, and for the check every process would import alembic.
    "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": _NEVER,
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    # Runs start only when they are triggered. Otherwise unpausing a nightly DAG would also start last night's
    # run, on the same folder of scans. (This also disables runs that assets trigger: the demo sets True.)
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
}
