"""Children of the demo end with everything that they started, and a failure shows their log."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.processes import (
    LOOPBACK,
    Child,
    PartFailedError,
    TerminatedError,
    check_free,
    clean_environment,
    end,
    end_leftovers,
    endings_as_exceptions,
    free_port,
    note_sessions,
    tail,
)

# A slow component: it starts a process in another process group, as Airflow does for each task, and
# both ignore SIGTERM.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
task = os.fork()
if task == 0:
    os.setpgid(0, 0)
else:
    print("task", task, flush=True)
time.sleep(600)
"""

Run = Callable[[str], Child]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    children: list[Child] = []

    def start(code: str) -> Child:
        command = [sys.executable, "-c", code]
        children.append(Child("part", command, log=tmp_path / "log", env=clean_environment({}), cwd=tmp_path))
        return children[-1]

    yield start
    end(children, grace=0)


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def task_of(child: Child) -> int:
    assert eventually(lambda: "task" in child.tail())
    return int(child.tail().split()[1])


def is_running(pid: int) -> bool:
    """Return whether a process runs; an orphan that has ended may stay in the table as a zombie."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").is_dir()


@pytest.mark.parametrize("grace", [0, 0.3], ids=["at once", "after SIGTERM"])
def test_ending_a_child_ends_its_tasks(run: Run, grace: float) -> None:
    """A child that ignores SIGTERM ends, and so does its task in another process group."""
    child = run(STUBBORN)
    task = task_of(child)
    end([child], grace=grace)
    assert child.exit_code == -signal.SIGKILL
    assert eventually(lambda: not is_running(task))


def test_tasks_of_a_dead_child_are_ended(run: Run) -> None:
    """The task of a child that another process killed is ended too."""
    child = run(STUBBORN)
    task = task_of(child)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    assert is_running(task)
    end([child], grace=0)
    assert eventually(lambda: not is_running(task))


def test_death_names_the_part_and_shows_its_log(run: Run) -> None:
    """A child that ends by itself is an error with its name, its exit status and its last lines."""
    child = run("print('no such table'); raise SystemExit(3)")
    child.wait(20)
    with pytest.raises(PartFailedError) as caught:
        child.check()
    assert caught.value.part == "part"
    assert "exit status 3" in str(caught.value)
    assert "no such table" in str(caught.value)


def test_wait_has_an_end(run: Run) -> None:
    """Waiting for a child that does not end is an error, not a wait for ever."""
    with pytest.raises(PartFailedError):
        run("import time; time.sleep(600)").wait(0.1)


def test_leftovers_of_a_killed_run_are_ended(run: Run, tmp_path: Path) -> None:
    """Processes that an earlier run noted and left behind are ended at the next start."""
    child = run(STUBBORN)
    task = task_of(child)
    note_sessions(tmp_path, [child])
    end_leftovers(tmp_path)
    child.wait(10)
    assert eventually(lambda: not is_running(task))


def test_a_reused_id_is_left_alone(run: Run, tmp_path: Path) -> None:
    """A process that has a noted id but works elsewhere is not ours, and survives."""
    child = run("import os, time; os.chdir('/'); print('task 0', flush=True); time.sleep(600)")
    task_of(child)
    note_sessions(tmp_path, [child])
    end_leftovers(tmp_path)
    assert child.exit_code is None


def test_nothing_to_end_without_notes(tmp_path: Path) -> None:
    """A folder without notes, or with half of them, ends nothing and is not an error."""
    end_leftovers(tmp_path)
    (tmp_path / "sessions.json").write_text('[{"sess')
    end_leftovers(tmp_path)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def ending(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal with its default handler, also if the tests run under nohup."""
    number: signal.Signals = request.param
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


def test_endings_raise(ending: signal.Signals) -> None:
    """A signal that would end the process silently raises an exception; then its old handler is back."""
    with pytest.raises(TerminatedError), endings_as_exceptions():
        signal.raise_signal(ending)
    assert signal.getsignal(ending) is signal.SIG_DFL


def test_an_ignored_ending_stays_ignored(ending: signal.Signals) -> None:
    """Under nohup, which ignores a signal, it ends nothing here either."""
    signal.signal(ending, signal.SIG_IGN)
    with endings_as_exceptions():
        signal.raise_signal(ending)
    assert signal.getsignal(ending) is signal.SIG_IGN


def test_environment_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's Airflow, AWS profile and proxies do not reach the children; added variables do."""
    unwanted = (
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW_CONN_AWS_DEFAULT",
        "AWS_PROFILE",
        "HTTPS_PROXY",
        "http_proxy",
        "PYTHONDONTWRITEBYTECODE",
    )
    for name in unwanted:
        monkeypatch.setenv(name, "theirs")
    environment = clean_environment({"AIRFLOW_HOME": "ours"})
    assert not set(unwanted) & set(environment)
    assert environment["AIRFLOW_HOME"] == "ours"
    assert environment["PATH"] == os.environ["PATH"]


def test_free_port_is_free_and_a_taken_one_is_named() -> None:
    """A free port can be bound, and then the check names it as in use."""
    port = free_port()
    check_free("part", port)
    with socket.create_server((LOOPBACK, port)):
        with pytest.raises(PartFailedError) as caught:
            check_free("part", port)
    assert str(port) in str(caught.value)


def test_tail_of_a_long_and_of_a_missing_log(tmp_path: Path) -> None:
    """The tail of a log is its last lines, and of a missing log nothing."""
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(100_000)))
    assert tail(log, 2) == "99998\n99999"
    assert tail(tmp_path / "missing") == ""
