"""``python -m demo``: the main job, once, for real, on this machine.

An emulator of the service, a local S3 with scans, and a real Airflow. Airflow runs the nightly DAG, then a
DAG that uploads only new scans; its finished project triggers a third DAG.
Everything is in ``.demo/`` in the repository, which is created again at each start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote
from zoneinfo import ZoneInfo

import requests

from airflow_360.emulator import Emulator
from airflow_360.sources.names import is_system_file
from airflow_360.texts import count_text, size_text
from demo.report import UploadedFile, progress_line, table
from demo.scans import make_scans
from harness.airflow import REPOSITORY, LocalAirflow
from harness.airflow_api import TaskInstance
from harness.processes import HarnessError, TerminatedError, end_leftovers, endings_as_exceptions
from harness.s3 import LocalS3

STATE = REPOSITORY / ".demo"
DAG_ID = "example_nightly_s3_scans"
BUCKET = "scans"
NEW_ID, CATALOG_ID = "example_new_scans", "example_new_scans_catalog"
NEW_BUCKET = "new-scans"
_KEY = "sk_demo"
_PROCESSING_SECONDS = 8.0
_PARALLELISM = 8
_RUN_SECONDS = 900.0
_HOUR = 2  # of the DAGs' schedule
_ZONE = ZoneInfo("Europe/Berlin")  # of the DAG with dated folders
_MIN_BYTES_PER_SECOND = 1024 * 1024  # determines the time limit of a run
_PLAIN_LINE_SECONDS = 2.0
_INTERRUPTED, _TERMINATED = 130, 143  # the exit statuses that shells expect after SIGINT and SIGTERM


@dataclass(frozen=True)
class Stage:
    """The three running servers of the demo.

    :param emulator: the emulator of the service
    :param s3: contains the scans
    :param airflow: runs the DAG
    """

    emulator: Emulator
    s3: LocalS3
    airflow: LocalAirflow


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    options = _parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # do not fail on a terminal that cannot show "…"
    try:
        with endings_as_exceptions(), _only_demo(STATE):
            _run(options)
    except TerminatedError:
        return _TERMINATED
    except KeyboardInterrupt:
        print("\nStopped.")
        return _INTERRUPTED
    except (HarnessError, TimeoutError, requests.RequestException, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="upload the files of this folder")
    parser.add_argument("--no-wait", action="store_true", help="stop everything when the job is done")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _only_demo(state: Path) -> Iterator[None]:
    """Lock the state folder and empty it while the block runs.

    The lock decides, not the number in the file: however the process ends, its lock ends too.
    """
    state.mkdir(exist_ok=True)
    with (state / "pid").open("a+", encoding="utf-8") as holder:
        _lock(holder)
        _empty(state)
        holder.truncate(0)
        holder.write(str(os.getpid()))
        holder.flush()
        yield


def _lock(holder: TextIO) -> None:
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder.seek(0)
        raise HarnessError(
            f"another demo is running (process {holder.read().strip()}). Stop it with Ctrl-C first."
        ) from None


def _empty(state: Path) -> None:
    for entry in state.iterdir():
        if entry.is_dir():
            end_leftovers(entry)
            shutil.rmtree(entry)


def _run(options: argparse.Namespace) -> None:
    started = time.monotonic()
    sources = _sources(options.files)
    total = sum(file.stat().st_size for file in sources)
    parallelism = _parallelism(sources)
    _say(f"{len(sources)} files, {size_text(total)}, from {sources[0].parent}")
    # One time for folder and runs, so that a demo around that hour does not use another night's folder.
    now = datetime.now(UTC)
    began, night = _last_interval(now), _last_night(now)
    with _stage(sources, began, parallelism) as stage:
        _say(f"Airflow is up, {time.monotonic() - started:.0f} s after the start: {stage.airflow.url}")
        run_id = _start(stage.airflow, DAG_ID, began, day=f"{began:%Y-%m-%d}")
        _drive(stage, DAG_ID, run_id, total)
        files = _uploaded(stage, run_id, {file.name: file for file in sources})
        print(f"\n{table(files)}\n")
        _say(f"Project  {_project(stage, stage.airflow.xcom(DAG_ID, run_id, 'create_project'))}\n")
        _increment(stage, night, min(file.stat().st_size for file in sources))
        _conclude(stage, files, sources, time.monotonic() - started)
        if _stays_up(options):
            _stay_up(stage)


def _last_night(now: datetime) -> datetime:
    """Return the time when a nightly DAG was last due, in the time zone of `now`."""
    due = now.replace(hour=_HOUR, minute=0, second=0, microsecond=0)
    return due if due <= now else due - timedelta(days=1)


def _last_interval(now: datetime) -> datetime:
    """Return the start of the last data interval of the DAG with dated folders, in its time zone."""
    return _last_night(now.astimezone(_ZONE)) - timedelta(days=1)


def _sources(folder: Path | None) -> list[Path]:
    if folder is None:
        return make_scans(STATE / "scans")
    if not folder.exists():
        raise HarnessError(f"there is no folder {folder}.")
    if not folder.is_dir():
        raise HarnessError(f"{folder} is a file: give the folder that it lies in.")
    return _visible_files(folder.resolve())


def _visible_files(folder: Path) -> list[Path]:
    """Return the files for the demo: those directly in the folder, without system files."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not is_system_file(entry.name))
    below = [entry for entry in folder.iterdir() if entry.is_dir() and not is_system_file(entry.name)]
    if not files:
        hint = f" It has {count_text(len(below), 'folder')}: give one of them." if below else ""
        raise HarnessError(f"{folder} holds no files to upload.{hint}")
    unreadable = [file.name for file in files if not os.access(file, os.R_OK)]
    if unreadable:
        raise HarnessError(f"no permission to read {', '.join(unreadable)} in {folder}.")
    if below:
        _say(
            f"Left out: {count_text(len(below), 'folder')} in {folder}. The demo takes only the files "
            "directly in it."
        )
    return files


def _parallelism(files: Sequence[Path]) -> int:
    """Return the number of parallel uploads that fit in memory: the local S3 keeps whole objects in it."""
    largest = max(file.stat().st_size for file in files)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if largest * 3 > memory:
        raise HarnessError(
            f"the largest file has {size_text(largest)}. The demo's local S3 keeps whole objects in memory, "
            f"of which this machine has {size_text(memory)}: take smaller files. (The package itself has no "
            "such limit.)"
        )
    return max(1, min(_PARALLELISM, memory // 2 // max(1, largest)))


@contextlib.contextmanager
def _stage(sources: Sequence[Path], night: datetime, parallelism: int) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        data = STATE / "emulator"
        data.mkdir()
        emulator = stack.enter_context(
            Emulator(port=0, data_dir=data, processing_seconds=_PROCESSING_SECONDS, limits="real")
        )
        s3 = stack.enter_context(LocalS3(STATE / "s3"))
        _fill(s3, sources, night)
        _say("Starting Airflow: API server, scheduler, DAG processor and triggerer …")
        env = {
            "AIRFLOW_CONN_THREE_SIXTY_DEFAULT": _connection(emulator.url),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.connection_json,
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",  # otherwise no asset starts a run
        }
        airflow = LocalAirflow(STATE / "airflow", REPOSITORY / "dags", env=env, parallelism=parallelism)
        stack.enter_context(airflow)
        yield Stage(emulator, s3, airflow)


def _connection(url: str) -> str:
    return json.dumps({"conn_type": "three_sixty", "host": url, "password": _KEY})


def _fill(s3: LocalS3, sources: Sequence[Path], night: datetime) -> None:
    s3.make_bucket(BUCKET)
    for file in sources:
        s3.put_file(BUCKET, f"{night:%Y-%m-%d}/{file.name}", file)
    _say(f"A local S3 holds them in s3://{BUCKET}/{night:%Y-%m-%d}/")
    s3.make_bucket(NEW_BUCKET)
    smallest = min(sources, key=lambda file: file.stat().st_size)
    s3.put_file(NEW_BUCKET, f"bridge/{smallest.name}", smallest)


def _start(airflow: LocalAirflow, dag_id: str, night: datetime, **conf: str) -> str:
    """Start the run that was due last night, and return its id.

    It is triggered before the DAG is unpaused: the scheduler then finds a run for this night and starts no
    second one for the same folder.
    """
    airflow.wait_for_dag(dag_id)
    run_id = airflow.trigger(dag_id, logical_date=night, conf=conf)
    airflow.unpause(dag_id)
    return run_id


def _drive(stage: Stage, dag_id: str, run_id: str, total: int) -> None:
    """Show a run's progress until it is over; a run that failed ends the demo.

    :param total: the bytes that the run uploads
    """
    airflow, screen = stage.airflow, Screen()
    _say(f"{dag_id} runs: {airflow.url}/dags/{dag_id}/runs/{quote(run_id)}")
    before = _received(stage.emulator)
    instances: list[TaskInstance] = []
    for snapshot in airflow.watch(dag_id, run_id, _RUN_SECONDS + total / _MIN_BYTES_PER_SECOND, poll=1.0):
        instances = snapshot.instances
        received = _received(stage.emulator) - before
        screen.show(progress_line(instances, received, total, screen.width), last=snapshot.ended)
    if any(instance["state"] != "success" for instance in instances):
        raise HarnessError(f"the run of {dag_id} failed.\n{airflow.failures(dag_id, run_id)}")


def _increment(stage: Stage, night: datetime, total: int) -> None:
    """Run the DAG that uploads only new scans, and the DAG that its asset event triggers."""
    airflow = stage.airflow
    airflow.unpause(CATALOG_ID)
    _drive(stage, NEW_ID, _start(airflow, NEW_ID, night), total)
    run_id = airflow.wait_for_run(CATALOG_ID)
    _drive(stage, CATALOG_ID, run_id, 0)
    for project in airflow.xcom(CATALOG_ID, run_id, "enter"):
        _say(f"It was told  {project['title']!r} is ready: {_project(stage, project['name'])}")


def _received(emulator: Emulator) -> int:
    return sum(int(session["received"]) for session in emulator.store.state()["sessions"])


def _project(stage: Stage, name: str) -> str:
    return f"{name}: {stage.emulator.url}/projects/{quote(name)}"


def _conclude(stage: Stage, files: Sequence[UploadedFile], sources: Sequence[Path], seconds: float) -> None:
    print()
    _say(f"Service  {stage.emulator.url} (its emulator)")
    _say(f"Airflow  {stage.airflow.url}")
    _say(f"Took {seconds:.0f} s.")
    wrong = [file.name for file in files if not file.identical]
    if wrong:
        raise HarnessError(f"the server's copy differs from the source: {', '.join(wrong)}.")
    if len(files) != len(sources):
        raise HarnessError(f"{len(sources)} files were to be uploaded, {len(files)} were.")


def _uploaded(stage: Stage, run_id: str, sources: dict[str, Path]) -> list[UploadedFile]:
    """Compare the results of the upload tasks with the files on the emulator's disk."""
    airflow, found = stage.airflow, []
    upload_id = airflow.xcom(DAG_ID, run_id, "create_session")
    for instance in airflow.task_instances(DAG_ID, run_id):
        if instance["task_id"] == "upload":
            result: dict[str, Any] = airflow.xcom(DAG_ID, run_id, "upload", instance["map_index"])
            source = sources[result["path"].rpartition("/")[2]]
            copy = stage.emulator.store.file_path(upload_id, result["filename"])
            identical = _sha256(source) == _sha256(copy)
            found.append(
                UploadedFile(source.name, source.stat().st_size, result["filename"], identical=identical)
            )
    return found


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _stays_up(options: argparse.Namespace) -> bool:
    return not options.no_wait and sys.stdin.isatty() and sys.stdout.isatty()


def _stay_up(stage: Stage) -> None:
    _say("All of it stays up until Ctrl-C.")
    try:
        while True:
            stage.airflow.check()
            time.sleep(1)
    except TerminatedError:
        raise
    except KeyboardInterrupt:  # the normal end of a demo
        _say("\nStopping …")


class Screen:
    """A progress display: one changing line on a terminal, otherwise a new line for each change."""

    def __init__(self) -> None:
        self._shown = ""
        self._at = 0.0

    @property
    def width(self) -> int | None:
        """Return the maximum columns of a line; None if there is no terminal."""
        return shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None

    def show(self, line: str, *, last: bool = False) -> None:
        """Show a line if it is new; without a terminal, at most every two seconds.

        :param last: whether this is the last line, which is always shown
        """
        if self.width is not None:
            print(f"\r\033[K{line[: self.width]}", end="\n" if last else "", flush=True)
        elif line != self._shown and (last or time.monotonic() - self._at > _PLAIN_LINE_SECONDS):
            _say(line)
            self._shown, self._at = line, time.monotonic()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
