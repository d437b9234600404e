"""The list of sent files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.hooks.paths import Paths
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFileOperator, UploadFilesOperator
from airflow_360.runtime.manifest import Manifest
from harness.s3 import LocalS3
from tests.airflow.conftest import context
from tests.fakes import MemorySource


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="s").execute(context())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, one of them of several chunks."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for number, name in enumerate(("DJI_1.JPG", "DJI_2.JPG", "scan.e57")):
        (scans / name).write_bytes(bytes([number]) * (10 + 3000 * number))
    return scans


def rows(text: str) -> list[dict[str, str]]:
    return sorted(csv.DictReader(io.StringIO(text)), key=lambda row: row["filename"])


def held(emulator: Emulator, upload_id: str, folder: Path) -> list[dict[str, str]]:
    """Return the expected manifest, from the files in the emulator."""
    due = []
    for name, size in sorted(
        (name, file.total) for name, file in emulator.store.sessions[upload_id].files.items()
    ):
        content = emulator.store.file_path(upload_id, name).read_bytes()
        (path,) = [path for path in folder.iterdir() if path.name.lower() == name.lower()]
        digest = hashlib.sha256(content).hexdigest()
        due.append({"filename": name, "size": str(size), "sha256": digest, "path": path.as_uri()})
    return due


def files(upload_id: str, folder: Path, **more: Any) -> UploadFilesOperator:
    return UploadFilesOperator(task_id="f", upload_id=upload_id, path=str(folder), chunk_size=1000, **more)


def test_with_true_the_log_names_each_file(
    emulator: Emulator, upload_id: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With True the log names each file with size and SHA-256, of one file and of many."""
    one = folder / "scan.e57"
    UploadFileOperator(task_id="u", upload_id=upload_id, path=str(one), manifest=True).execute(context())
    files(upload_id, folder, manifest=True).execute(context())
    for row in held(emulator, upload_id, folder):
        assert f"Sent {row['filename']}: {row['size']} bytes, SHA-256 {row['sha256']}" in caplog.text


def test_a_manifest_has_a_row_per_file(
    emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path
) -> None:
    """A path gets one row per file, with the SHA-256 of the file on the server."""
    path = tmp_path / "made" / "manifest.csv"
    files(upload_id, folder, manifest=str(path)).execute(context())
    assert rows(path.read_text("utf-8")) == held(emulator, upload_id, folder)
    assert [file.name for file in path.parent.iterdir()] == ["manifest.csv"]


def test_a_failed_attempt_writes_no_manifest(
    emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path
) -> None:
    """A failed attempt writes no manifest, and the next one writes all rows, with those of earlier bytes."""
    path = tmp_path / "manifest.csv"
    emulator.faults.add({"on": "PUT /uploads/*/DJI_1.jpg", "do": "status", "status": 415})
    with pytest.raises(AirflowFailException):
        files(upload_id, folder, manifest=str(path)).execute(context())
    assert not path.exists()
    files(upload_id, folder, manifest=str(path)).execute(context(try_number=2))
    assert rows(path.read_text("utf-8")) == held(emulator, upload_id, folder)
    assert len(rows(path.read_text("utf-8"))) == 3


def test_a_resumed_file_is_read_again_for_its_digest(
    emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path
) -> None:
    """A file that an earlier attempt began is read again for its SHA-256, which is that of the whole file."""
    one = folder / "scan.e57"
    client = ThreeSixtyHook().client
    client.put_chunk(upload_id, "scan.e57", one.read_bytes()[:4000], f"bytes 0-3999/{one.stat().st_size}")
    task = UploadFileOperator(
        task_id="u", upload_id=upload_id, path=str(one), manifest=f"{tmp_path}/manifests/"
    )
    task.execute(context(try_number=2))
    assert rows((tmp_path / "manifests/scan.e57.csv").read_text("utf-8")) == held(emulator, upload_id, folder)


def test_folder_of_shards(emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path) -> None:
    """In a folder each shard has its own manifest, and an archive is one row."""
    for shard in (0, 1):
        files(upload_id, folder, manifest=f"{tmp_path}/m/", shards=2, shard=shard).execute(context())
    names = [f"{upload_id}-{shard}-of-2.csv" for shard in (0, 1)]
    found = [row for name in names for row in rows((tmp_path / "m" / name).read_text("utf-8"))]
    assert sorted(found, key=lambda row: row["filename"]) == held(emulator, upload_id, folder)
    files(upload_id, folder, manifest=f"{tmp_path}/m/", archive="all.zip").execute(context())
    (row,) = rows((tmp_path / "m/all.zip.csv").read_text("utf-8"))
    stored = emulator.store.file_path(upload_id, "all.zip").read_bytes()
    assert (row["size"], row["sha256"]) == (str(len(stored)), hashlib.sha256(stored).hexdigest())


STRANGE_NAMES = {
    "up": "../../x",
    "absolute": "/etc/x",
    "folders": "a/b/../../../c",
    "backslashes": "..\\..\\x",
    "only dots": "..",
    "hidden": ".x",
    "empty": "",
    "NUL": "a\0b",
    "line break": "a\nb",
    "other script": "büro",
    "lone surrogate": "a\udcff",
    "long": "x" * 4000,
    "long file name": "x" * 251 + ".e57",
}


@pytest.mark.parametrize("name", STRANGE_NAMES.values(), ids=STRANGE_NAMES.keys())
def test_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    """A manifest stays in its folder, for any id of a session."""
    folder = tmp_path / "a" / "b" / "manifests"
    manifest = Manifest(f"{folder}/", json.loads)
    manifest.add("x", manifest.digested(MemorySource(b"x")))
    manifest.finish(name)
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert written.parent == folder
    assert written.name.isascii()
    assert not written.name.startswith(".")


def test_each_session_has_its_own_manifest(tmp_path: Path) -> None:
    """Two sessions whose names are alike once they are flat have two manifests; a flat name is kept."""
    for name in ("a/b", "a_b", "a:b"):
        manifest = Manifest(f"{tmp_path}/", json.loads)
        manifest.add("x", manifest.digested(MemorySource(b"x")))
        manifest.finish(name)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3
    assert "a_b.csv" in names


def test_a_file_that_is_added_twice_has_one_row(tmp_path: Path) -> None:
    """A file that is reported as complete twice, also by two threads, has one row."""
    manifest = Manifest(str(tmp_path / "manifest.csv"), json.loads)
    manifest.add("a.e57", manifest.digested(MemorySource(b"x")))
    manifest.add("a.e57", manifest.digested(MemorySource(b"x")))
    together = Barrier(4)

    class SlowSource(MemorySource):
        def open(self, offset: int) -> Any:
            together.wait(timeout=10)
            return super().open(offset)

    with ThreadPoolExecutor(4) as threads:
        for added in [
            threads.submit(manifest.add, "b.e57", manifest.digested(SlowSource(b"x"))) for _ in range(4)
        ]:
            added.result()
    manifest.finish("m")
    assert [row["filename"] for row in rows((tmp_path / "manifest.csv").read_text("utf-8"))] == [
        "a.e57",
        "b.e57",
    ]


def test_a_manifest_can_be_written_to_s3(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path
) -> None:
    """A manifest can be written to S3 too, with the connection in the path."""
    with LocalS3(tmp_path / "s3") as s3:
        monkeypatch.setenv("AIRFLOW_CONN_LISTS", s3.connection_json)
        s3.make_bucket("lists")
        files(upload_id, folder, manifest="s3://lists@lists/2026/manifest.csv").execute(context())
        body = Paths().s3_client("lists").get_object(Bucket="lists", Key="2026/manifest.csv")["Body"]
        assert rows(body.read().decode()) == held(emulator, upload_id, folder)


def test_cannot_be_written(emulator: Emulator, upload_id: str, folder: Path, tmp_path: Path) -> None:
    """A manifest that cannot be written fails the task, names the path, and leaves it to a retry."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        AirflowException, match=r"file/manifest.csv could not be written.*are complete"
    ) as caught:
        files(upload_id, folder, manifest=f"{tmp_path}/file/manifest.csv").execute(context())
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("wanted", [None, False, "", "None"])
def test_without_a_manifest_nothing_is_digested(wanted: Any) -> None:
    """Without a manifest a source is read directly, and nothing is digested."""
    manifest, source = Manifest(wanted, json.loads), MemorySource(b"x")
    opener = lambda: source  # noqa: E731
    assert manifest.digested(source) is source
    assert manifest.opener(opener) is opener
    manifest.add("x", source)


@pytest.mark.long
def test_many_rows_need_little_memory(tmp_path: Path) -> None:
    """Twenty thousand rows need a few mebibytes."""
    manifest = Manifest(str(tmp_path / "manifest.csv"), json.loads)
    names = [f"DJI_{number}.jpg" for number in range(20_000)]
    tracemalloc.start()
    for name in names:
        manifest.add(name, manifest.digested(MemorySource(b"x")))
    manifest.finish("m")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
    assert len(rows((tmp_path / "manifest.csv").read_text("utf-8"))) == len(names)
