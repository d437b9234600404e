"""A night in minutes: many sessions in one process, on a network and a server that keep failing."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from airflow_360.emulator import Emulator
from airflow_360.emulator.chaos import MENU, Chaos
from airflow_360.exceptions import ProjectError, RateLimitedError, ThreeSixtyError
from airflow_360.projects.creation import MAX_MORE_POSTS, Pause
from airflow_360.upload.engine import upload
from airflow_360.upload.many import Job, upload_many
from airflow_360.upload.ranges import ChunkSizer
from tests.fakes import MemorySource, client_for, held, some_bytes, strict_emulator
from tests.reliability.creations import MemoryRecords, creation_of

T = TypeVar("T")
PARALLEL = 4
MIB = 1024 * 1024

#: How often a task is tried.
ATTEMPTS = 4

#: A task sends three POSTs. With this many sessions all three may fail; only then a person must clear it.
POSTS_SPENT = f"sent {1 + MAX_MORE_POSTS} times"

#: A status that goes backwards only shows in replies that are rare here: make them more frequent.
OFTEN_BACKWARDS = MENU + 9 * tuple(fault for fault in MENU if fault.do == "alter")


def retried(task: Callable[[int], T]) -> T:
    """Run a task like Airflow: again after a retryable error, as often as it has attempts."""
    for attempt in range(1, ATTEMPTS):
        try:
            return task(attempt)
        except ThreeSixtyError as error:
            if not error.retryable:
                raise
    return task(ATTEMPTS)


def hardly(seconds: float) -> None:
    """Wait, but not for long."""
    time.sleep(min(seconds, 0.001))


# -- failures, and no limits


@dataclass(frozen=True)
class Usage:
    """The resources of this process, including the emulator's end of each connection."""

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        with contextlib.suppress(AttributeError):  # glibc keeps freed memory of earlier tests in use
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), threading.active_count(), descriptors)


class Night:
    """Bring one session after another to its project."""

    def __init__(self, emulator: Emulator, seed: int) -> None:
        self._emulator = emulator
        self._client = client_for(emulator, sleep=hardly)
        self._dice = random.Random(seed)

    def session(self) -> str:
        """Upload some files into their own session and create the project; return its name."""
        chunk = self._dice.choice([700, 5_000, 30_000])
        files = self._files(chunk)
        upload_id = retried(lambda attempt: self._client.create_upload_session().upload_id)
        jobs = [self._job(name, data) for name, data in files.items()]
        retried(
            lambda attempt: upload_many(
                self._client, upload_id, jobs, parallel=PARALLEL, chunks=ChunkSizer(chunk)
            )
        )
        assert self._project(upload_id) == upload_id
        while not retried(lambda attempt: self._client.get_project(upload_id)).ready:
            pass  # a status that went backwards
        assert {name: held(self._emulator, upload_id, name) for name in files} == files
        return upload_id

    def _files(self, chunk: int) -> dict[str, bytes]:
        sizes = [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 8 * chunk + 1]
        return {f"{size}.e57": self._dice.randbytes(size) for size in self._dice.sample(sizes, 5)}

    def _job(self, name: str, data: bytes) -> Job:
        return Job(name, len(data), lambda: MemorySource(data))

    def _project(self, upload_id: str) -> str:
        """Create the project; its hours of waiting take no time."""
        clock = VirtualClock()
        creation = creation_of(self._client, upload_id, MemoryRecords(), clock=clock, sleep=clock.sleep)
        while True:
            try:
                done = creation.run()
            except ProjectError as error:
                if POSTS_SPENT not in str(error):
                    raise
                creation.clears += " cleared"
            else:
                if not isinstance(done, Pause):
                    return done.name
                clock.sleep(done.seconds)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what is in use is read from Linux's /proc")
@pytest.mark.parametrize("keep_cut_bytes", [True, False], ids=["cut bytes count", "cut bytes are dropped"])
@pytest.mark.parametrize("sessions", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_a_night_of_failures(sessions: int, keep_cut_bytes: bool, caplog: pytest.LogCaptureFixture) -> None:
    """With one request in ten failing, each session arrives as one project, and nothing piles up."""
    # Otherwise pytest keeps each warning, and with it the error, its frames and the bytes being sent.
    caplog.set_level(logging.CRITICAL, logger="airflow_360")
    chaos = Chaos(sessions, rate=0.1, menu=OFTEN_BACKWARDS)
    with Emulator(
        chaos=chaos,
        processing_seconds=0,
        max_exchanges=100,
        keep_cut_bytes=keep_cut_bytes,
        session_consumed=keep_cut_bytes,
    ) as emulator:
        night = Night(emulator, sessions)
        done = [night.session() for _ in range(sessions // 4)]
        early = Usage.now()
        done += [night.session() for _ in range(sessions - len(done))]
        late = Usage.now()
        assert list(emulator.store.projects) == done
        assert not emulator.violations
    assert chaos.counts.total() > sessions
    assert sessions < 200 or set(chaos.counts) == {fault.do for fault in MENU}
    assert late.memory < early.memory + 8 * MIB
    # Each upload has a connection with two ends here and a thread at one of them, or not yet.
    assert late.threads <= early.threads + PARALLEL
    assert late.descriptors <= early.descriptors + 2 * PARALLEL


# -- limits, and no failures


class VirtualClock:
    """A clock that only waits advance."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.waits: list[float] = []
        self.deferred: list[float | None] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)

    def wait_out_rate_limits(self, task: Callable[[], T]) -> T:
        """Run a task as the operators do: a limit that is too long to be waited for in place defers it."""
        while True:
            try:
                return task()
            except RateLimitedError as error:
                self.now += error.retry_after or 0
                self.deferred.append(error.retry_after)


def test_a_night_within_the_limits() -> None:
    """Under the contract's limits everything completes, and each refusal costs one wait of its own length."""
    clock = VirtualClock()
    with strict_emulator(limits="real", clock=clock, processing_seconds=0) as emulator:
        client = client_for(emulator, sleep=clock.sleep)

        def send(upload_id: str, data: bytes) -> None:
            upload(client, upload_id, MemorySource(data), "a.e57", chunks=ChunkSizer(1))

        def make(upload_id: str) -> str:
            creation = creation_of(client, upload_id, MemoryRecords(), clock=clock, sleep=clock.sleep)
            done = creation.run()
            if isinstance(done, Pause):
                raise done.rate_limit or AssertionError(done)
            return done.name

        sessions = [clock.wait_out_rate_limits(client.create_upload_session).upload_id for _ in range(31)]
        files = {upload_id: some_bytes(1) for upload_id in sessions} | {sessions[-1]: some_bytes(1_300)}
        for upload_id, data in files.items():
            clock.wait_out_rate_limits(partial(send, upload_id, data))
        made = [clock.wait_out_rate_limits(partial(make, upload_id)) for upload_id in sessions]
        assert made == list(emulator.store.projects) == sessions
        assert {upload_id: held(emulator, upload_id, "a.e57") for upload_id in sessions} == files
    refused = [(e.method, e.path.split("/")[1]) for e in emulator.exchanges if e.status == 429]
    # 31 sessions (limit: 30 an hour), 1,330 PUTs (limit: 1,200 a minute), 31 projects (limit: 10 an hour).
    assert refused == [("POST", "uploads"), ("PUT", "uploads")] + 3 * [("POST", "projects")]
    assert clock.waits == [60]
    assert clock.deferred == 4 * [3600]
