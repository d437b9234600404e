"""Child processes that never outlive this process.

Separate because Airflow and the local S3 are started, watched and ended in the same way: each child leads its
own session, writes to its own log file, and is ended with all processes that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

import psutil  # type: ignore[import-untyped,unused-ignore]

LOOPBACK = "127.0.0.1"
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.1
NOTES = "sessions.json"


class HarnessError(RuntimeError):
    """The base class of the errors of demo and tests; the message is for the person who started them."""


class PartFailedError(HarnessError):
    """Raised when a process does not start, or ends by itself.

    :param part: the part, for example ``"scheduler"``
    :param reason: the event, as the rest of a sentence that begins with the part
    :param log: the last lines of the part's log
    """

    def __init__(self, part: str, reason: str, log: str = "") -> None:
        self.part, self.reason, self.log = part, reason, log
        super().__init__(f"{part} {reason}" + (f"\n--- last lines of its log ---\n{log}" if log else ""))


class TerminatedError(KeyboardInterrupt):
    """Raised in the main thread by SIGTERM or SIGHUP, so that every ``finally`` runs as after Ctrl-C."""


def free_port() -> int:
    """Return a free loopback port.

    It is below the range that Linux and macOS use for outgoing connections: such a connection could take the
    port in the seconds between this call and the start of a server on it.
    """
    for _ in range(200):
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port
    raise PartFailedError("network", "has no free loopback port between 20000 and 32000")


def check_free(part: str, port: int) -> None:
    """Raise :class:`PartFailedError` if a process already listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            raise PartFailedError(part, f"cannot listen on {LOOPBACK}:{port}: the port is in use.")


def clean_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment plus ``added``, without variables that point to other machines.

    Left out are the user's own Airflow (its database would be migrated), AWS profiles and endpoints, and
    proxies; also PYTHONDONTWRITEBYTECODE, with which every Airflow process compiles all of Airflow again.
    """
    kept = {name: value for name, value in os.environ.items() if not _is_unwanted(name)}
    local = {
        "NO_PROXY": "*",
        "no_proxy": "*",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }
    return {**kept, **local, **added}


def _is_unwanted(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(("AIRFLOW", "AWS_", "BOTO_")) or upper.endswith(("_PROXY", "DONTWRITEBYTECODE"))


class Part:
    """A part that starts with a ``with`` block and always stops at its end."""

    def start(self) -> None:
        """Start it; if this fails, no process is left running."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it. May be called more than once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *why: object) -> None:
        self.stop()


class Child:
    """One process that leads its own session, with its log in a file.

    Airflow's tasks move to their own process groups but stay in the session, so :func:`end` ends the session.

    :param name: its name in errors
    :param command: program and arguments
    :param log: file to which its output is appended
    :param env: its whole environment
    :param cwd: its working folder
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path
    ) -> None:
        self.name, self.log, self.cwd = name, log, cwd
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id, which is also that of its session and process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 25) -> str:
        """Return the last lines of its log."""
        return tail(self.log, lines)

    def check(self) -> None:
        """Raise :class:`PartFailedError` if it has ended."""
        if self.exit_code is not None:
            raise PartFailedError(
                self.name, f"ended by itself with exit status {self.exit_code}", self.tail()
            )

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return its exit status.

        :param timeout: seconds; then :class:`PartFailedError`
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PartFailedError(
                self.name, f"was not done after {timeout:.0f} seconds", self.tail()
            ) from None

    def reap(self) -> None:
        """Collect its exit status after it was ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def end(children: Iterable[Child], grace: float = 8.0) -> None:
    """End the children and all processes in their sessions: SIGTERM to all, then SIGKILL to the rest.

    Ctrl-C and SIGTERM are ignored for the few seconds that this takes, because an interruption here would
    leave processes behind.

    :param grace: seconds between the two; 0 sends SIGKILL at once
    """
    ending = list(children)
    with _undisturbed():
        end_sessions({child.pid for child in ending}, grace)
        for child in ending:
            child.reap()


def end_sessions(sessions: set[int], grace: float) -> None:
    """End the processes of the given sessions: SIGTERM to their leaders' groups, SIGKILL to the rest."""
    deadline = time.monotonic() + grace
    if grace:
        for session in sessions:
            _signal_group(session, signal.SIGTERM)
    while _members(sessions) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    # Three rounds, because a process may fork after it was listed and before it is killed.
    for _ in range(3):
        for pid in _members(sessions):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _members(sessions: set[int]) -> list[int]:
    return [pid for pid in psutil.pids() if _session_of(pid) in sessions and not _is_zombie(pid)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended but was not reaped by its parent (which may never happen)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def tail(path: Path, lines: int = 25) -> str:
    """Return the last lines of a text file, or an empty text if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def endings_as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`TerminatedError` while the block runs.

    Only if they have no other handler, and only in the main thread, because no other may set handlers.
    """
    taken = [number for number in _ENDING_SIGNALS if _is_ours(number)]
    for number in taken:
        signal.signal(number, _raise_terminated)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _is_ours(number: signal.Signals) -> bool:
    return _in_main_thread() and signal.getsignal(number) is signal.SIG_DFL


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    del frame
    raise TerminatedError(f"ended by {signal.Signals(number).name}")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    # getsignal returns None for a handler that Python did not set; it could not be restored.
    numbers = [number for number in (signal.SIGINT, *_ENDING_SIGNALS) if signal.getsignal(number) is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def note_sessions(folder: Path, children: Iterable[Child]) -> None:
    """Write the running sessions into a folder, for :func:`end_leftovers` if this process is killed."""
    notes = [{"session": child.pid, "cwd": str(child.cwd)} for child in children]
    (folder / NOTES).write_text(json.dumps(notes), encoding="utf-8")


def end_leftovers(folder: Path) -> None:
    """End the processes that an earlier, killed run left behind, from its notes in ``folder``.

    Only processes that are in a noted session and still work in that run's folder, because ids are reused.
    """
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for note in notes:
        members = _members({note["session"]})
        if members and all(_works_in(pid, note["cwd"]) for pid in members):
            end_sessions({note["session"]}, grace=3.0)


def _works_in(pid: int, folder: str) -> bool:
    try:
        return str(psutil.Process(pid).cwd()).startswith(folder)
    except psutil.Error:
        return False
