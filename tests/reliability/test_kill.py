"""A worker that is killed, again and again, at any moment: nothing is lost and nothing is created twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator
from tests.fakes import client_for, held, requests_of, some_bytes, strict_emulator
from tests.reliability import task

#: Seconds after its first line within which an upload is killed if there is no request to wait for.
SOON = 0.05

#: Chunks of the file for each kill: three times as many as can be sent until then.
CHUNKS_PER_KILL = 20

#: Seconds for which the chosen request is stalled: far longer than the kill needs.
STILL = 30.0

POST = "POST /projects"

#: A task sends three POSTs at most, and the last one must have its effect.
MAX_POSTS_WITHOUT_EFFECT = 2

#: The moment when a part of a chunk has arrived.
MIDDLE = "in the middle of a PUT"


@dataclass(frozen=True)
class Moment:
    """The time at which a task is killed.

    :param delay: seconds after ``wait_for``.
    :param wait_for: a request that is stalled, or ``MIDDLE``; None for the first line of the process.
    :param when: whether the server has carried the request out by then.
    :param skip: how many such requests pass first.
    """

    delay: float
    wait_for: str | None = None
    when: str = "before_body"
    skip: int = 0


def upload_moments(dice: random.Random, count: int) -> Iterator[Moment]:
    """Yield moments during connecting and asking, in a PUT, between two PUTs, and before a reply."""
    for number in range(count):
        match dice.choice(["any", "GET /uploads/*/*", "PUT /uploads/*/*", MIDDLE]) if number else MIDDLE:
            case "any":
                yield Moment(dice.uniform(0, SOON))
            case "PUT /uploads/*/*" as request:
                when = dice.choice(["before_body", "after_body"])
                yield Moment(dice.uniform(0, 0.01), request, when, skip=dice.randrange(5))
            case "GET /uploads/*/*" as request:
                yield Moment(dice.uniform(0, 0.01), request)
            case _:
                yield Moment(0, MIDDLE)


def project_moments(dice: random.Random, count: int) -> Iterator[Moment]:
    """Yield moments before, while and after the project is created; it is created during one of them."""
    created = dice.randrange(1, count)
    lost = set(dice.sample(range(created), dice.randint(1, min(MAX_POSTS_WITHOUT_EFFECT, created))))
    for number in range(count):
        request, when = "GET /projects/*", dice.choice(["before_body", "after_body"])
        if number == created:
            request, when = POST, "after_body"
        elif number in lost:
            request, when = POST, "before_body"
        yield Moment(dice.uniform(0, 0.01), request, when)


class Night:
    """Run tasks as Airflow would, each attempt in a process."""

    def __init__(self, emulator: Emulator, upload_id: str, folder: Path) -> None:
        self._emulator = emulator
        self._upload_id = upload_id
        self._folder = folder
        self._attempts = Counter[str]()

    def killed(self, name: str, moment: Moment) -> None:
        """Run a task and kill it at a moment; it must not have ended before."""
        if moment.wait_for not in (None, MIDDLE):
            stall = {"do": "stall", "when": moment.when, "skip": moment.skip, "seconds": STILL}
            self._emulator.faults.add({"on": moment.wait_for, **stall})
        before = len(self._emulator.exchanges)
        process = self._start(name)
        while process.poll() is None and not self._has_come(moment, before):
            time.sleep(0.0005)
        time.sleep(moment.delay)
        process.kill()
        _, complaint = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, complaint

    def _has_come(self, moment: Moment, before: int) -> bool:
        if moment.wait_for == MIDDLE:
            return any(e.body_bytes and e.status is None for e in self._emulator.exchanges[before:])
        return moment.wait_for is None or not self._emulator.faults.unused()

    def finished(self, name: str) -> str:
        """Run a task to its end and return its output."""
        process = self._start(name)
        said, complaint = process.communicate(timeout=120)
        assert process.returncode == 0, complaint
        return said.strip()

    def _start(self, name: str) -> subprocess.Popen[str]:
        self._attempts[name] += 1
        told = (name, self._emulator.url, self._upload_id, self._folder, self._attempts[name])
        process = subprocess.Popen(
            [sys.executable, "-m", task.__name__, *map(str, told)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        return process


SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    ("kills", "keep_cut_bytes", "session_consumed"),
    [
        pytest.param(8, True, False, id="8 kills-cut bytes count-session lives on"),
        pytest.param(
            8,
            False,
            True,
            id="8 kills-cut bytes are dropped-session is consumed",
            marks=pytest.mark.long,
        ),
        pytest.param(50, True, False, id="50 kills-cut bytes count-session lives on", marks=SOAK),
        pytest.param(50, True, True, id="50 kills-cut bytes count-session is consumed", marks=SOAK),
        pytest.param(50, False, False, id="50 kills-cut bytes are dropped-session lives on", marks=SOAK),
        pytest.param(50, False, True, id="50 kills-cut bytes are dropped-session is consumed", marks=SOAK),
    ],
)
def test_killed_at_any_moment(
    kills: int, keep_cut_bytes: bool, session_consumed: bool, tmp_path: Path
) -> None:
    """However often it is killed, a scan arrives whole in one project; a kill costs at most one chunk."""
    dice = random.Random(kills)
    of_upload = list(upload_moments(dice, kills * 5 // 8))
    of_project = list(project_moments(dice, kills - len(of_upload)))
    scan = some_bytes(len(of_upload) * CHUNKS_PER_KILL * task.CHUNK + 1)
    (tmp_path / "scan.e57").write_bytes(scan)
    with strict_emulator(keep_cut_bytes=keep_cut_bytes, session_consumed=session_consumed) as emulator:
        upload_id = client_for(emulator).create_upload_session().upload_id
        night = Night(emulator, upload_id, tmp_path)
        for moment in of_upload:
            night.killed("upload", moment)
        assert night.finished("upload") == str(len(scan))
        for moment in of_project:
            night.killed("project", moment)
        assert night.finished("project") == upload_id
        assert list(emulator.store.projects) == [upload_id]
        assert held(emulator, upload_id, "scan.e57") == scan
        puts = requests_of(emulator, "PUT")
    unknown = [m for m in of_project if (m.wait_for, m.when) == (POST, "before_body")]
    assert len(requests_of(emulator, "POST", "/projects")) == len(unknown) + 1
    assert all(put.start == put.received_before for put in puts)
    assert max(put.body_bytes for put in puts) <= task.CHUNK
    sent_again = sum(put.body_bytes for put in puts) - len(scan)
    assert 0 <= sent_again <= (0 if keep_cut_bytes else task.CHUNK * len(of_upload))
    # The moments hit their aim: some PUT was cut off in its middle.
    assert any(put.status is None and 0 < put.body_bytes < task.CHUNK for put in puts)
