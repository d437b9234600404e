"""The cost of an upload: memory that does not grow with the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_360.emulator import Emulator
from tests.fakes import client_for, requests_of, strict_emulator
from tests.upload import peak

MIB = 1 << 20
GIB = 1 << 30

LINUX = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc"
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied after the test: pytest would keep gigabytes of it for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@contextmanager
def forgotten(path: Path) -> Iterator[None]:
    """Drop the page cache of the files: finding room for gigabytes costs far more than reading them."""
    done = threading.Event()

    def forget() -> None:
        with path.open("rb") as file:
            while not done.wait(0.2):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def upload_in_a_process(emulator: Emulator, upload_id: str, path: Path, archive: str = "") -> dict[str, Any]:
    """Upload in a plain process, and return its figures."""
    result = subprocess.run(
        [sys.executable, "-m", peak.__name__, emulator.url, upload_id, str(path), archive],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@LINUX
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(4 * GIB, marks=pytest.mark.long, id="4"),
        pytest.param(8 * GIB, marks=pytest.mark.soak, id="8"),
    ],
)
def test_a_huge_file_needs_little_memory(folder: Path, size: int) -> None:
    """A process that uploads a huge file needs less than 150 MiB of memory in all, without Airflow."""
    if shutil.disk_usage(folder).free < size + GIB:
        pytest.skip(f"no room for {size // GIB} GiB")
    path = folder / "huge.e57"
    marks = {0: b"first", size // 2 - 3: b"middle", size - 4: b"last"}
    with path.open("wb") as file:
        file.truncate(size)
        for offset, mark in marks.items():
            file.seek(offset)
            file.write(mark)
    with strict_emulator(data_dir=folder / "server") as emulator, forgotten(path):
        upload_id = client_for(emulator).create_upload_session().upload_id
        told = upload_in_a_process(emulator, upload_id, path)
        with emulator.store.file_path(upload_id, "huge.e57").open("rb") as arrived:
            for offset, mark in marks.items():
                arrived.seek(offset)
                assert arrived.read(len(mark)) == mark
            assert arrived.seek(0, 2) == size
        sizes = [exchange.body_bytes for exchange in emulator.exchanges if exchange.method == "PUT"]
    assert (told["complete"], told["airflow"]) == (True, False)
    assert told["peak"] < 150 * MIB
    assert sum(sizes) == size
    assert max(sizes) > 150 * MIB  # chunks larger than the memory: none is ever in memory as a whole


@pytest.mark.long
@LINUX
def test_two_thousand_files(folder: Path) -> None:
    """A process that uploads 2,000 small files needs less than 150 MiB of memory in all, without Airflow."""
    photos = folder / "photos"
    photos.mkdir()
    for number in range(2000):
        (photos / f"{number:04}.jpg").write_bytes(b"%04d" % number + bytes(30_000))
    with strict_emulator(data_dir=folder / "server") as emulator:
        upload_id = client_for(emulator).create_upload_session().upload_id
        told = upload_in_a_process(emulator, upload_id, photos)
        held = {
            file.name: emulator.store.file_path(upload_id, file.name).read_bytes()
            for file in photos.iterdir()
        }
        puts = len(requests_of(emulator, "PUT"))
    assert (told["complete"], told["airflow"], puts) == (True, False, 2000)
    assert all(held[f"{number:04}.jpg"].startswith(b"%04d" % number) for number in range(2000))
    assert told["peak"] < 150 * MIB


@pytest.mark.long
@LINUX
def test_archive_of_ten_thousand_files(folder: Path) -> None:
    """A process that uploads 10,000 files as one zip needs less than 150 MiB of memory in all."""
    photos = folder / "photos"
    for number in range(10_000):
        photo = photos / f"{number // 1000}" / f"DJI_{number:04}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(b"%d" % number * 5_000)
    with strict_emulator(data_dir=folder / "server") as emulator:
        upload_id = client_for(emulator).create_upload_session().upload_id
        told = upload_in_a_process(emulator, upload_id, photos, "photos.zip")
        path = emulator.store.file_path(upload_id, "photos.zip")
        assert path.stat().st_size > 150 * MIB
        with zipfile.ZipFile(path) as archive:
            assert len(archive.infolist()) == 10_000
            assert archive.read("7/DJI_7123.jpg") == b"7123" * 5_000
    assert (told["complete"], told["airflow"]) == (True, False)
    assert told["peak"] < 150 * MIB
