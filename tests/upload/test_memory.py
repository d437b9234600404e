"""What an upload costs: memory that does not grow with the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import client_for, strict_emulator
from tests.upload import peak

MIB = 1 << 20
SIZE = 4 << 30
MARKS = {0: b"first", SIZE // 2 - 3: b"middle", SIZE - 4: b"last"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest would keep gigabytes of it for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@contextmanager
def forgotten(path: Path) -> Iterator[None]:
    """Let the system forget what was read: finding room for 4 GiB costs far more than reading them."""
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_four_gibibytes(folder: Path) -> None:
    """A process that uploads a file of 4 GiB needs less than 150 MiB of memory in all, without Airflow."""
    if shutil.disk_usage(folder).free < SIZE + (1 << 30):
        pytest.skip("no room for 4 GiB")
    path = folder / "huge.e57"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, mark in MARKS.items():
            file.seek(offset)
            file.write(mark)
    with strict_emulator(data_dir=folder / "server") as emulator, forgotten(path):
        upload_id = client_for(emulator).create_upload_session().upload_id
        result = subprocess.run(
            [sys.executable, "-m", peak.__name__, emulator.url, upload_id, str(path)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        told = json.loads(result.stdout)
        with emulator.store.file_path(upload_id, "huge.e57").open("rb") as arrived:
            for offset, mark in MARKS.items():
                arrived.seek(offset)
                assert arrived.read(len(mark)) == mark
            assert arrived.seek(0, 2) == SIZE
        sizes = [exchange.body_bytes for exchange in emulator.exchanges if exchange.method == "PUT"]
    assert (told["complete"], told["airflow"]) == (True, False)
    assert told["peak"] < 150 * MIB
    assert sum(sizes) == SIZE
    assert max(sizes) > 150 * MIB  # chunks larger than the memory: nothing holds one whole
