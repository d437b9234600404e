"""One folder spread over several tasks, which may run on as many machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFilesOperator
from airflow_360.sources.names import shard_of
from tests.airflow.conftest import StateStore, context

SHARDS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / f"IMG_{number:04d}.JPG").write_bytes(bytes([number]) * (number + 1))
    return tmp_path


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


def upload(
    upload_id: str,
    folder: Path,
    shard: Any,
    shards: Any = SHARDS,
    store: StateStore | None = None,
    **more: Any,
) -> dict[str, int]:
    """Run one mapped row."""
    return UploadFilesOperator(
        task_id="upload",
        upload_id=upload_id,
        path=str(folder),
        shards=shards,
        shard=shard,
        inspect="off",
        **more,
    ).execute(context(store=store))


def create(upload_id: str, uploads: Any) -> str:
    return CreateProjectOperator(task_id="project", upload_id=upload_id, uploads=uploads).execute(context())


def puts(emulator: Emulator) -> list[str]:
    return [e.path.rpartition("/")[2] for e in emulator.exchanges if e.method == "PUT"]


def test_each_file_once(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """The shards send every file exactly once, and their summaries add up to the project."""
    summaries = [upload(upload_id, folder, shard) for shard in range(SHARDS)]
    assert sorted(puts(emulator)) == [f"IMG_{number:04d}.jpg" for number in range(40)]
    assert [(s["shard"], s["shards"]) for s in summaries] == [(shard, SHARDS) for shard in range(SHARDS)]
    assert sum(s["files"] for s in summaries) == 40
    assert sum(s["bytes"] for s in summaries) == sum(range(41))
    assert create(upload_id, summaries) == upload_id


def test_numbers_may_be_rendered_as_text(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """Numbers that come out of templates as text are numbers."""
    assert upload(upload_id, folder, "1", "4") == upload(upload_id, folder, 1)


def test_photos_fall_evenly_upon_the_shards() -> None:
    """Numbered photos fall evenly upon the shards: of 10,000 in 4, none has 4 % more than its part."""
    taken = [shard_of(f"DJI_{number:05d}.jpg", SHARDS) for number in range(10_000)]
    assert max(taken.count(shard) for shard in range(SHARDS)) < 10_000 / SHARDS * 1.04


def test_a_longer_listing(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """A file that is new in the folder moves no other file to another shard, nor stops their retries."""
    stores = [StateStore() for _ in range(SHARDS)]
    for shard in range(SHARDS):
        upload(upload_id, folder, shard, store=stores[shard])
    (folder / "AAA.jpg").write_bytes(b"new")
    before, concerned = len(puts(emulator)), shard_of("AAA.jpg", SHARDS)
    for shard in set(range(SHARDS)) - {concerned}:
        upload(upload_id, folder, shard, store=stores[shard])
    assert len(puts(emulator)) == before
    with pytest.raises(AirflowFailException, match="changed since this upload started"):
        upload(upload_id, folder, concerned, store=stores[concerned])


def test_another_shard_at_the_same_index(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """A task's saved state belongs to its shard: another shard in the same row is not a changed folder."""
    store = StateStore()
    for shard, shards in ((0, SHARDS), (1, SHARDS), (0, 1), (1, 5)):
        upload(upload_id, folder, shard, shards, store)


def test_collision_in_another_shard(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """Two files of one name are refused by every shard, whichever they fall into, before a byte is sent."""
    (folder / "sub").mkdir()
    (folder / "sub" / "img_0007.jpg").write_bytes(b"another")
    for shard in range(SHARDS):
        with pytest.raises(AirflowFailException, match=r"would both be sent as"):
            upload(upload_id, folder, shard, names="basename")
    assert puts(emulator) == []


def test_an_empty_shard_succeeds(emulator: Emulator, upload_id: str, tmp_path: Path) -> None:
    """A shard without files succeeds with nothing, so that the project task is not skipped with it."""
    (tmp_path / "only.e57").write_bytes(b"12345")
    summaries = [upload(upload_id, tmp_path, shard) for shard in range(SHARDS)]
    assert sorted((s["files"], s["bytes"]) for s in summaries) == [(0, 0), (0, 0), (0, 0), (1, 5)]
    assert create(upload_id, summaries) == upload_id


def test_empty_folder(emulator: Emulator, tmp_path: Path) -> None:
    """For an empty folder on_empty applies in every shard."""
    for shard in range(SHARDS):
        with pytest.raises(AirflowSkipException):
            upload("x", tmp_path, shard)
        with pytest.raises(AirflowFailException, match="No files"):
            upload("x", tmp_path, shard, on_empty="fail")


def test_a_missing_shard_prevents_the_project(emulator: Emulator, upload_id: str, folder: Path) -> None:
    """If a shard was never uploaded, no project is created, although the totals match."""
    summaries = [upload(upload_id, folder, shard) for shard in (0, 1, 3)]
    with pytest.raises(AirflowFailException, match=r"of 4 shards, counted from 0, 2 is missing"):
        create(upload_id, summaries)
    assert not emulator.store.projects


@pytest.mark.parametrize(
    ("shard", "shards"),
    [(4, 4), (-1, 4), (0, 0), (1, 1), (0, -2), (None, 4), ("one", 4), (0, "four"), ("", "")],
)
def test_a_shard_that_does_not_exist_is_refused(
    emulator: Emulator, folder: Path, shard: Any, shards: Any
) -> None:
    """A shard that does not exist is an error with the correct values, before anything is sent."""
    with pytest.raises(AirflowFailException, match=r"must be"):
        upload("AAAAAAAA", folder, shard, shards)
    assert emulator.exchanges == []


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"path": "/scans"}, "/scans"),
        ({"path": "/scans", "shards": 4, "shard": 2}, "/scans, shard 2 of 4"),
        ({"paths": ["/a", "/b"], "shards": "4", "shard": "0"}, "AAAAAAAA, shard 0 of 4"),
    ],
    ids=["one task", "shard", "several paths"],
)
def test_mapped_rows_are_labelled_by_folder_and_shard(given: dict[str, Any], label: str) -> None:
    """The rows of a mapped task are told apart by folder and shard."""
    task = UploadFilesOperator(task_id="upload", upload_id="AAAAAAAA", **given)
    assert jinja2.Template(str(task.map_index_template)).render(task=task) == label


def test_mapping() -> None:
    """The operator maps over its shards."""
    with DAG("d", schedule=None):
        mapped = UploadFilesOperator.partial(task_id="upload", upload_id="x", path="/s", shards=2).expand(
            shard=[0, 1]
        )
    unmapped: Any = mapped.unmap({"shard": 1})
    assert (unmapped.shards, unmapped.shard) == (2, 1)
