"""Interruptions of an upload from a real store: kills, replacements, a lost connection."""

from __future__ import annotations

import io
import random
import threading
import zipfile

import pytest

from airflow_360.emulator import Fault
from tests.stores.attempts import Outcome
from tests.stores.conftest import Site
from tests.stores.table import shows

pytestmark = pytest.mark.long

MIB = 1 << 20
SIZE = 24 * MIB
CHUNK = MIB
#: Chunks that have arrived at a kill: a part of the file, with any amount read ahead.
ARRIVED_CHUNKS = 3
#: Bytes per second for a file whose connection is lost.
RATE = 16 * MIB

OLD, NEW = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)


def interrupted(site: Site, operator: str, name: str, **parameters: object) -> dict[str, object]:
    """Run an attempt, kill it in the middle of a file, and return the parameters of the next attempt."""
    parameters = {"state": site.new_state(), "chunk_size": CHUNK, **parameters}
    faults, on = site.emulator.faults, f"PUT /uploads/*/{name}"
    faults.add(Fault(on, "stall", when="before_body", seconds=3600, skip=ARRIVED_CHUNKS))
    first = site.start(operator, **parameters)  # type: ignore[arg-type]
    site.wait_until(lambda: faults.counts["stall"], first)
    first.kill()
    file = site.file(name)
    assert file
    assert file.received == ARRIVED_CHUNKS * CHUNK < file.total
    return parameters


def check_old_new_or_nothing(site: Site, outcome: Outcome, name: str) -> None:
    """Make sure that the server has no mixture, and that a change is reported as one."""
    held = site.held(name)
    if outcome.errors:
        assert outcome.is_change, outcome
        assert held is None
    else:
        assert held in (OLD, NEW)


@shows("`kill -9` in the middle of a file, resume")
def test_kill(site: Site) -> None:
    """An upload that is killed in the middle resumes where it stopped, and the file arrives unchanged."""
    site.put("a.e57", OLD)
    parameters = interrupted(site, "UploadFileOperator", "a.e57", path=site.url("a.e57"))
    outcome = site.start("UploadFileOperator", again=True, **parameters).outcome()  # type: ignore[arg-type]
    assert not outcome.errors, outcome
    assert site.held("a.e57") == OLD
    assert site.sent() <= SIZE + 2 * CHUNK


@shows("`kill -9` in the middle of a zip, resume")
def test_kill_archive(site: Site) -> None:
    """An archive that is killed in the middle resumes where it stopped, and is complete."""
    parts = {f"{number}.jpg": OLD[number * 4 * MIB : (number + 1) * 4 * MIB] for number in range(4)}
    for name, data in parts.items():
        site.put(name, data)
    parameters = interrupted(site, "UploadFilesOperator", "all.zip", path=site.url(), archive="all.zip")
    outcome = site.start("UploadFilesOperator", again=True, **parameters).outcome()  # type: ignore[arg-type]
    assert not outcome.errors, outcome
    with zipfile.ZipFile(io.BytesIO(site.held("all.zip") or b"")) as archive:
        assert {info.filename: archive.read(info) for info in archive.infolist()} == parts
    assert site.sent() <= 16 * MIB + 3 * CHUNK


@shows("replaced at the same size: between listing and upload")
def test_replaced_after_listing(site: Site) -> None:
    """A file that was replaced after it was listed is not uploaded, whichever task uploads it."""
    site.put("a.e57", OLD[:1_000], age=5)
    (file,) = site.listed()
    site.replace("a.e57", NEW[:1_000])
    outcome = site.upload(**file)
    assert outcome.is_change, outcome
    assert site.sent() == 0


@shows("replaced at the same size: between two attempts")
def test_replaced_between_attempts(site: Site) -> None:
    """A file that was replaced after an attempt that was killed is not continued."""
    site.put("a.e57", OLD, age=5)
    parameters = interrupted(site, "UploadFileOperator", "a.e57", path=site.url("a.e57"))
    site.replace("a.e57", NEW)
    outcome = site.start("UploadFileOperator", again=True, **parameters).outcome()  # type: ignore[arg-type]
    assert outcome.is_change, outcome
    assert site.held("a.e57") is None


@shows("replaced at the same size: a file of a zip, between two attempts")
def test_replaced_in_archive(site: Site) -> None:
    """A zip is not continued once a file of it was replaced."""
    site.put("1.jpg", OLD[: 8 * MIB], age=5)
    site.put("2.jpg", OLD[8 * MIB : 16 * MIB], age=5)
    parameters = interrupted(site, "UploadFilesOperator", "all.zip", path=site.url(), archive="all.zip")
    site.replace("1.jpg", NEW[: 8 * MIB])
    outcome = site.start("UploadFilesOperator", again=True, **parameters).outcome()  # type: ignore[arg-type]
    assert outcome.is_change, outcome
    assert site.held("all.zip") is None


def replaced_while_read(site: Site, *, cut: bool) -> Outcome:
    """Upload a file that is replaced in the middle; perhaps the line to the store is lost as well."""
    site.put("a.e57", OLD, age=5)
    replaced = threading.Event()

    def replace() -> None:
        site.replace("a.e57", NEW)
        replaced.set()
        if cut:
            site.store.line.cut()

    site.store.line.call_after(SIZE // 3, replace)
    upload = site.start(
        "UploadFileOperator",
        site.new_state(),
        path=site.url("a.e57"),
        chunk_size=CHUNK,
    )
    outcome = upload.outcome()
    assert replaced.is_set()
    return outcome


@shows("replaced at the same size: while it is read")
def test_replaced_while_read(site: Site, request: pytest.FixtureRequest) -> None:
    """A file that is replaced while it is read arrives as it was, or not at all."""
    outcome = replaced_while_read(site, cut=False)
    check_old_new_or_nothing(site, outcome, "a.e57")
    if not outcome.errors:
        assert site.held("a.e57") == OLD
        assert site.store.keeps_old_bytes
    request.node.user_properties.append(("cell", "noticed" if outcome.errors else "old bytes, whole"))


@shows("replaced at the same size: while the line to the store is lost")
def test_replaced_while_cut(site: Site, request: pytest.FixtureRequest) -> None:
    """A file that is replaced, and has to be opened again, arrives as it was or not at all."""
    outcome = replaced_while_read(site, cut=True)
    check_old_new_or_nothing(site, outcome, "a.e57")
    if site.store.tells_changes:
        assert outcome.is_change, outcome
    request.node.user_properties.append(("cell", "noticed" if outcome.errors else "old bytes, whole"))


@shows("line to the store lost in the middle: continues in the same attempt")
def test_lost_line(site: Site) -> None:
    """An upload whose connection to the store breaks twice continues in the same attempt."""
    site.put("a.e57", OLD)
    site.store.line.cut_after(SIZE // 4, SIZE // 4)
    upload = site.start(
        "UploadFileOperator", site.new_state(), rate=RATE, path=site.url("a.e57"), chunk_size=CHUNK
    )
    outcome = upload.outcome()
    assert not outcome.errors, outcome
    assert site.held("a.e57") == OLD
    assert site.store.line.cuts == 2
