"""A folder uploaded as one zip: the task's work, its saved state, and its errors."""

from __future__ import annotations

import io
import json
import os
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFilesOperator
from airflow_360.runtime.archive_checksums import ArchiveChecksums
from airflow_360.runtime.task_state import TaskState
from airflow_360.sources import FileInfo
from airflow_360.sources.archive import ArchiveSource, Member
from tests.airflow.conftest import StateStore, context
from tests.fakes import MemorySource, Steps, held, some_bytes

FILES = {
    "100MEDIA/DJI_0001.JPG": 40_000,
    "100MEDIA/DJI_0002.JPG": 30_000,
    "model/a.mtl": 5_000,
    "b.obj": 9_000,
}
CHUNK = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo set in folders, with system files next to it."""
    for name, size in FILES.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(some_bytes(size))
    (tmp_path / "set" / "Thumbs.db").write_bytes(b"system")
    return tmp_path / "set"


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """The names of the photo set's files that were opened, in order."""
    names: list[str] = []
    original = Path.open

    def note(path: Path, *args: Any, **more: Any) -> Any:
        if path.is_relative_to(folder):
            names.append(path.name)
        return original(path, *args, **more)

    monkeypatch.setattr(Path, "open", note)
    return names


def archive_task(upload_id: str, folder: Path, **more: Any) -> UploadFilesOperator:
    settings = {"archive": "photos.zip", "chunk_size": CHUNK, "path": str(folder), **more}
    return UploadFilesOperator(task_id="upload", upload_id=upload_id, **settings)


def arrived(emulator: Emulator, upload_id: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(held(emulator, upload_id, "photos.zip"))) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


def break_off(emulator: Emulator, chunks: int) -> None:
    """Let some chunks pass, and refuse the next one permanently."""
    emulator.faults.add({"on": "PUT /uploads/*/*", "skip": chunks, "do": "status", "status": 402})


def test_all_files_below_arrive_in_one_zip(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """All files below the path arrive in one zip with their folders, and become a project."""
    summary = archive_task(upload_id, folder, inspect="off").execute(context())
    assert arrived(emulator, upload_id) == {name: some_bytes(size) for name, size in FILES.items()}
    assert summary == {"files": 1, "bytes": len(held(emulator, upload_id, "photos.zip"))}
    CreateProjectOperator(task_id="project", upload_id=upload_id, uploads=summary).execute(context())
    assert upload_id in emulator.store.projects


def test_a_second_run_costs_one_request(
    emulator: Emulator, upload_id: str, folder: Path, opened: list[str]
) -> None:
    """A second run costs one request, and opens no file."""
    archive_task(upload_id, folder).execute(context())
    before, opened[:] = len(emulator.exchanges), []
    archive_task(upload_id, folder).execute(context(try_number=2))
    assert [e.method for e in emulator.exchanges[before:]] == ["GET"]
    assert opened == []


@pytest.mark.parametrize("remembers", [True, False], ids=["Airflow 3.3", "before"])
def test_a_retry_sends_only_missing_bytes(
    emulator: Emulator, upload_id: str, folder: Path, opened: list[str], remembers: bool
) -> None:
    """A retry sends only missing bytes; it reads the sent bytes again only if Airflow keeps no checksums."""
    store = StateStore() if remembers else None
    break_off(emulator, chunks=8)
    with pytest.raises(AirflowFailException):
        archive_task(upload_id, folder).execute(context(store=store))
    before, opened[:] = len(emulator.exchanges), []
    archive_task(upload_id, folder).execute(context(try_number=2, store=store))
    first = next(e for e in emulator.exchanges[before:] if e.method == "PUT")
    assert first.start == 8 * CHUNK
    assert arrived(emulator, upload_id) == {name: some_bytes(size) for name, size in FILES.items()}
    again = [] if remembers else ["DJI_0001.JPG", "DJI_0002.JPG", "b.obj"]
    assert opened == [*again, "a.mtl"]


def test_changed_between_attempts(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """If a file was changed or added since the first attempt, nothing more is sent."""
    store = StateStore()
    break_off(emulator, chunks=2)
    with pytest.raises(AirflowFailException):
        archive_task(upload_id, folder).execute(context(store=store))
    os.utime(folder / "b.obj", (1, 1))
    before = len(emulator.exchanges)
    with pytest.raises(
        AirflowFailException, match=r"The content of photos\.zip changed since this upload started"
    ):
        archive_task(upload_id, folder).execute(context(try_number=2, store=store))
    assert len(emulator.exchanges) == before


@pytest.mark.parametrize(
    ("archive", "error"),
    [
        ("photos.rar", "archive must be a file name that ends in .zip, not 'photos.rar'"),
        ("None", "archive is 'None'"),
        ("", "archive is ''"),
    ],
)
def test_a_name_without_zip_is_refused(
    emulator: Emulator, upload_id: str, folder: Path, archive: str, error: str
) -> None:
    """A name that does not end in .zip is refused before any request about it."""
    before = len(emulator.exchanges)
    with pytest.raises(AirflowFailException, match=error):
        archive_task(upload_id, folder, archive=archive).execute(context())
    assert len(emulator.exchanges) == before


def test_several_paths_keep_the_names_of_their_folders(
    emulator: Emulator, upload_id: str, folder: Path
) -> None:
    """With several paths each keeps the name of its folder, also if a glob selects the files."""
    paths = [f"{folder}/100MEDIA/*.JPG", f"{folder}/model/"]
    archive_task(upload_id, folder, path=None, paths=paths).execute(context())
    assert list(arrived(emulator, upload_id)) == [name for name in FILES if "/" in name]


def test_the_name_of_the_zip_is_made_flat(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """The zip's own name is made flat."""
    archive_task(upload_id, folder, archive="Bäume/2026.ZIP").execute(context())
    assert list(emulator.store.sessions[upload_id].files) == ["Baume_2026.zip"]


def test_not_in_shards(upload_id: str, tmp_path: Path) -> None:
    """An archive in shards is refused before anything is listed, since it is one file."""
    with pytest.raises(AirflowFailException, match="An archive is one file"):
        archive_task(upload_id, tmp_path, shards=2).execute(context())


def test_a_folder_without_files_is_skipped(emulator: Emulator, upload_id: str, tmp_path: Path) -> None:
    """A folder without files is skipped; no empty archive is sent."""
    with pytest.raises(AirflowSkipException):
        archive_task(upload_id, tmp_path).execute(context())
    assert emulator.store.sessions[upload_id].files == {}


class TestArchiveChecksums:
    def archive(self, files: int) -> ArchiveSource:
        source = MemorySource(b"x")
        listed = [FileInfo(f"/photos/{n}", str(n), 1) for n in range(files)]
        return ArchiveSource("photos.zip", [Member(file, partial(_same, source)) for file in listed])

    def test_many_checksums_come_back_from_several_values(self) -> None:
        """25,000 checksums come back from three values, each of which Airflow's store takes."""
        store, first, later = StateStore(), self.archive(25_000), self.archive(25_000)
        state = TaskState(context(store=store))
        kept = ArchiveChecksums(state, "s photos.zip", first)
        first.catch_up(first.size)
        kept.save()
        assert len(store) == 3
        assert max(len(json.dumps(value)) for value in store.values()) < 65_535
        ArchiveChecksums(state, "s photos.zip", later)
        assert later.checksums == first.checksums
        assert len(later.checksums) == 100_000

    def test_only_what_is_new(self) -> None:
        """A save writes only the value that was not full, and nothing if nothing is new."""
        first, archive = self.archive(15_000), self.archive(20_001)
        first.catch_up(first.size)
        store = Written()
        kept = ArchiveChecksums(TaskState(context(store=store)), "s photos.zip", archive)
        archive.remember(first.checksums)
        kept.save()
        assert store.numbers() == ["0", "1"]
        archive.catch_up(archive.size)
        kept.save()
        assert store.numbers() == ["1", "2"]
        kept.save()
        assert store.numbers() == []

    def test_a_store_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        """If saving the checksums fails, this is logged, the upload continues, and the next save has them."""
        store, archive, later = Written(failures=1), self.archive(5), self.archive(5)
        kept = ArchiveChecksums(TaskState(context(store=store)), "s photos.zip", archive, Steps(11.0))
        archive.catch_up(archive.size)
        kept.update()
        assert "The checksums of s photos.zip could not be saved" in caplog.text
        assert store == {}
        kept.update()
        ArchiveChecksums(TaskState(context(store=store)), "s photos.zip", later)
        assert later.checksums == archive.checksums

    def test_of_something_else(self) -> None:
        """The checksums of other files are not used."""
        store, first, other = StateStore(), self.archive(5), self.archive(6)
        state = TaskState(context(store=store))
        kept = ArchiveChecksums(state, "s photos.zip", first)
        first.catch_up(first.size)
        kept.save()
        ArchiveChecksums(state, "s photos.zip", other)
        assert other.checksums == b""

    def test_now_and_then(self) -> None:
        """The checksums are saved every ten seconds, not with each chunk."""
        store, archive = StateStore(), self.archive(5)
        clock = Steps(4.0)
        kept = ArchiveChecksums(TaskState(context(store=store)), "s photos.zip", archive, clock)
        archive.catch_up(archive.size)
        saved = []
        for _ in range(4):
            kept.update()
            saved.append(len(store))
        assert saved == [0, 0, 1, 1]


class Written(StateStore):
    """A store that remembers which values were written.

    :param failures: how many of the first writes fail.
    """

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self._failures = failures
        self._keys: list[str] = []

    def set(self, key: str, value: Any) -> None:
        if self._failures:
            self._failures -= 1
            raise ConnectionError("Airflow's API does not answer")
        self._keys.append(key)
        super().set(key, value)

    def numbers(self) -> list[str]:
        """Return the last word of each key that was written since the last call."""
        keys, self._keys = self._keys, []
        return [key.rpartition(" ")[2] for key in keys]


def _same(source: MemorySource) -> MemorySource:
    return source
