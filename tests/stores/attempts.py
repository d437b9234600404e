"""One attempt of a task, as in Airflow: in this process, or in a separate one that may be killed.

The processes are forked from one that has imported Airflow and the libraries of the stores, as Airflow's own
workers do. The state that Airflow saves between attempts is a file.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.airflow.conftest import StateStore, context

__all__ = ["Attempt", "Order", "Outcome", "attempt", "forget_file_systems", "kill_attempts"]

_SECONDS = 1200.0


@dataclass(frozen=True)
class Order:
    """The task to run.

    :param operator: its name in ``airflow_360.operators.upload``.
    :param parameters: its parameters.
    :param state: the file of the task's saved state; None for an Airflow that saves none.
    :param try_number: from 1.
    :param environment: variables that are set first.
    """

    operator: str
    parameters: Mapping[str, Any]
    state: Path | None = None
    try_number: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The end of an attempt: a result or an error.

    :param result: the operator's result.
    :param errors: the class of its error, and those of the causes.
    :param message: the error's message.
    :param seconds: its duration.
    :param grown: bytes of memory at its peak, above those that the process had before.
    """

    result: Any = None
    errors: Sequence[str] = ()
    message: str = ""
    seconds: float = 0.0
    grown: int = 0

    @property
    def is_permanent(self) -> bool:
        """Return whether Airflow would use no retry for the error."""
        return "AirflowFailException" in self.errors

    @property
    def is_change(self) -> bool:
        """Return whether the error reports a changed source."""
        return self.is_permanent and "SourceChangedError" in self.errors


class Attempt:
    """An attempt in a separate process.

    :param orders: the tasks to run, one after the other.
    """

    def __init__(self, *orders: Order) -> None:
        methods = multiprocessing.get_context("forkserver")
        methods.set_forkserver_preload(["tests.stores.preload"])
        self._receiver, sender = methods.Pipe(duplex=False)
        self._process = methods.Process(target=_run, args=(orders, sender), daemon=True)
        self._process.start()
        sender.close()

    @property
    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.is_alive, f"it ended before it could be killed: {self.outcomes()}"
        self._process.kill()
        self._process.join(30)

    def outcomes(self) -> list[Outcome]:
        """Wait for its end, and return how each order ended."""
        if not self._receiver.poll(_SECONDS):
            self._process.kill()
            raise AssertionError(f"no result after {_SECONDS:.0f} seconds")
        try:
            outcomes: list[Outcome] = self._receiver.recv()
        except EOFError:
            self._process.join(30)
            raise AssertionError(f"the process ended with {self._process.exitcode}") from None
        self._process.join(30)
        return outcomes

    def outcome(self) -> Outcome:
        """Wait for its end, and return how its last order ended."""
        return self.outcomes()[-1]


def attempt(order: Order) -> Outcome:
    """Run one attempt here."""
    from airflow_360.operators import upload

    store = _FileState(order.state) if order.state else None
    given = context(order.try_number, store)
    began = time.monotonic()
    try:
        task = getattr(upload, order.operator)(task_id="task", **order.parameters)
        result = task.execute(given)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return Outcome(
            errors=_classes(error), message=str(error), seconds=time.monotonic() - began, result=None
        )
    return Outcome(result, seconds=time.monotonic() - began)


def kill_attempts() -> None:
    """Kill every attempt that still runs in a separate process."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join(30)


def forget_file_systems() -> None:
    """Forget every open file system, as a new process would know none."""
    import fsspec  # type: ignore[import-untyped]
    from airflow.sdk.io import store

    store._STORE_CACHE.clear()
    kinds = [fsspec.AbstractFileSystem]
    while kinds:
        kind = kinds.pop()
        kind.clear_instance_cache()
        kinds += kind.__subclasses__()
    with contextlib.suppress(ImportError):
        import smbclient  # type: ignore[import-not-found,unused-ignore]

        with contextlib.suppress(Exception):  # the line may be dead by now
            smbclient.reset_connection_cache(fail_on_error=False)


def _run(orders: Sequence[Order], sender: Connection) -> None:
    outcomes = []
    for order in orders:
        os.environ.update(order.environment)
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
        outcome = attempt(order)
        grown = _memory("VmHWM") - before
        outcomes.append(Outcome(outcome.result, outcome.errors, outcome.message, outcome.seconds, grown))
    sender.send(outcomes)


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def _classes(error: BaseException | None) -> list[str]:
    names = []
    while error:
        names.append(type(error).__name__)
        error = error.__cause__
    return names


class _FileState(StateStore):
    """Airflow's saved state of one task, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text()) if path.exists() else {})
        self._path = path

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(self))
        draft.replace(self._path)
