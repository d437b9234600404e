"""A real store for each test, and the table of each store's results."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from airflow_360.emulator import Emulator
from airflow_360.emulator.files import StoredFile
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.sources import Scan
from harness.processes import endings_as_exceptions
from tests.airflow.conftest import CONNECTION
from tests.stores import table
from tests.stores.attempts import Attempt, Order, Outcome, attempt, forget_file_systems, kill_attempts
from tests.stores.servers import STORES, NotInstalledError, Store

_FOLDERS = itertools.count(1)

# gcsfs reads it at import; otherwise it asks for each bucket's layout over gRPC, for a minute.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session", params=STORES, ids=lambda kind: kind.__name__)
def running(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store that runs for all tests, one kind after the other."""
    # Not pytest's own folder, which only its user may enter.
    home = Path(tempfile.mkdtemp(prefix="airflow-360-store-"))
    home.chmod(0o755)
    try:
        store = request.param(home)
        store.start()
    except NotInstalledError as missing:
        shutil.rmtree(home, ignore_errors=True)
        pytest.skip(str(missing))
    try:
        with endings_as_exceptions():  # so that no server outlives a test run that is ended
            yield store
    finally:
        store.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A 360 server; nothing that a client did may have been against its contract."""
    with Emulator(processing_seconds=0) as emulator:
        yield emulator
        assert not emulator.violations


@pytest.fixture
def site(
    running: Store, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A store with an empty folder, a 360 server, and an Airflow with connections to both."""
    site = Site(running, emulator, tmp_path)
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    running.reset()
    forget_file_systems()
    yield site
    kill_attempts()  # one that is left would be counted, and cut off, in the next test
    running.reset()
    forget_file_systems()


class Site:
    """A store, a 360 server, and the tasks of an Airflow between them.

    :param store: the store.
    :param emulator: the 360 server.
    :param home: a folder for saved states.
    """

    def __init__(self, store: Store, emulator: Emulator, home: Path) -> None:
        self.store = store
        self.emulator = emulator
        self.folder = f"night-{next(_FOLDERS)}/"
        self._home = home
        self._states = itertools.count()

    def environment(self, **extra: Any) -> dict[str, str]:
        """Return the connections as environment variables; ``extra`` is that of the 360 server's."""
        fields = {
            "conn_type": "three_sixty",
            "host": self.emulator.url,
            "password": "sk_test",
            "extra": extra,
        }
        return {CONNECTION: json.dumps(fields), **self.store.connections()}

    @cached_property
    def upload_id(self) -> str:
        """The upload session of the test."""
        return str(self.run("CreateUploadSessionOperator").result)

    # -- the store

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        """Put a file into the test's folder."""
        self.store.put(f"{self.folder}{name}", data, age=age)

    def replace(self, name: str, data: bytes) -> None:
        """Put another file in its place, in another second: some stores have whole seconds."""
        self.put(name, data, age=-2)

    def url(self, name: str = "", conn_id: str | None = None) -> str:
        """Return a path in the test's folder."""
        return self.store.url(f"{self.folder}{name}", conn_id)

    # -- Airflow

    def run(self, operator: str, *, again: bool = False, forget: bool = True, **parameters: Any) -> Outcome:
        """Run one attempt.

        :param again: whether it is a second attempt.
        :param forget: whether all file systems are closed first, as in a new process.
        """
        if forget:
            forget_file_systems()
        return attempt(Order(operator, parameters, None, 2 if again else 1))

    def listed(self, path: str | None = None, **parameters: Any) -> list[dict[str, Any]]:
        """Return the result of ListFilesOperator for the test's folder, or for another path."""
        outcome = self.run("ListFilesOperator", path=path or self.url(), **parameters)
        assert not outcome.errors, outcome
        listed: list[dict[str, Any]] = outcome.result
        return listed

    def upload(self, **parameters: Any) -> Outcome:
        """Run UploadFileOperator into the test's session."""
        return self.run("UploadFileOperator", upload_id=self.upload_id, **parameters)

    def look(self) -> list[Scan]:
        """Return the contents of the folders, read in this process, which may have cached them before."""
        hook = ThreeSixtyHook()
        return list(hook.paths.snapshot_scans(hook.paths.list_scans(self.url())))

    def new_state(self) -> Path:
        """Return a file for a task's saved state."""
        return self._home / f"state-{next(self._states)}.json"

    def start(
        self, operator: str, state: Path, *, again: bool = False, rate: int | None = None, **parameters: Any
    ) -> Attempt:
        """Start an attempt in a separate process.

        :param rate: the maximum bytes per second that it sends, so that there is time to interrupt it.
        """
        parameters = {"upload_id": self.upload_id, **parameters}
        extra = {"bandwidth_limit": rate} if rate else {}
        return Attempt(Order(operator, parameters, state, 2 if again else 1, self.environment(**extra)))

    # -- the 360 server

    def file(self, name: str) -> StoredFile | None:
        """Return the server's record of a file."""
        return self.emulator.store.sessions[self.upload_id].files.get(name)

    def held(self, name: str) -> bytes | None:
        """Return a file's bytes, or None if it is not complete."""
        file = self.file(name)
        return file.path.read_bytes() if file and file.complete else None

    def wait_until(self, condition: Callable[[], object], sender: Attempt) -> None:
        """Wait until a condition is met; its sender must not end before."""
        deadline = time.monotonic() + 600  # a first attempt waits for the imports of all of them
        while not condition():
            assert sender.is_alive, sender.outcomes()
            assert time.monotonic() < deadline, "the upload did not get there within 600 seconds"
            time.sleep(0.002)

    def sent(self) -> int:
        """Return how many bytes were sent to the server."""
        return sum(e.body_bytes for e in self.emulator.exchanges if e.method == "PUT")


# -- the table


def pytest_configure(config: pytest.Config) -> None:
    config.stash[table.RESULTS] = table.Results()
    config.pluginmanager.register(_Collector(config.stash[table.RESULTS]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    report.user_properties += table.properties(item)
    return report


class _Collector:
    """Collects the reports of all processes in the first one."""

    def __init__(self, results: table.Results) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._results.add(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get("STORES_TABLE")
    results = session.config.stash.get(table.RESULTS, None)
    if path and results is not None and not hasattr(session.config, "workerinput"):
        results.write(Path(path))
