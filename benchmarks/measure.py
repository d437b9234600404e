"""Run a program as a process and measure its time and memory; repeat several programs in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import REPOSITORY
from harness.processes import clean_environment

PEAK_SECONDS = 0.02


@dataclass(frozen=True)
class Sample:
    """The time and memory of one run.

    :param seconds: from the start of the process to its end.
    :param cpu: processor seconds of the process, in user and system mode.
    :param peak: its peak memory in bytes.
    :param output: its output.
    """

    seconds: float
    cpu: float = 0.0
    peak: int = 0
    output: str = ""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Sample:
    """Run a command to its end.

    :raises RuntimeError: if it failed, because its figures would be meaningless.
    """
    env = clean_environment(environment or {})
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, env=env)
    assert process.stdout
    peak = _Peak(process.pid)
    try:
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:  # we were interrupted
            process.kill()
            process.wait()
        process.stdout.close()
        peak.stop()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}.")
    return Sample(seconds, usage.ru_utime + usage.ru_stime, peak.bytes, output)


def peer(name: str, *arguments: object) -> Sample:
    """Run one of :mod:`benchmarks.peers`."""
    return run([sys.executable, "-m", "benchmarks.peers", name, *map(str, arguments)])


class _Peak:
    """A thread that reads the peak memory of a process until it ends.

    It does not use ``ru_maxrss``, because that starts at the memory of the parent process.
    """

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._path = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PEAK_SECONDS):
            self.bytes = max(self.bytes, peak_bytes(self._path))


def peak_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the peak memory of a process; 0 if it is not known."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def interleaved(
    peers: Mapping[str, Callable[[], Sample]], runs: int, say: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Run each program once, then each again, and so on, so that a busy minute affects all of them."""
    samples: dict[str, list[Sample]] = {name: [] for name in peers}
    for number in range(runs):
        for name, once in peers.items():
            sample = once()
            samples[name].append(sample)
            say(f"run {number + 1} of {runs}, {name}: {sample.seconds:.2f} s")
    return samples


def median(values: Iterable[float]) -> float:
    return statistics.median(values)
