"""A hundred thousand files: the data in Airflow stays small, and one task can upload all of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.emulator.files import StoredFile
from airflow_360.hooks.paths import Paths
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.upload import CreateUploadSessionOperator, ListFilesOperator, UploadFilesOperator
from airflow_360.sources import Location
from airflow_360.sources.s3 import S3Location
from tests.airflow.conftest import StateStore, context

MANY = 100_000
PAGE = 1_000
LEFT = 3


class ManyObjects:
    """An S3 client of a bucket with a hundred thousand objects of three bytes."""

    def get_paginator(self, operation: str) -> ManyObjects:
        return self

    def paginate(self, **wanted: Any) -> Iterator[dict[str, Any]]:
        for first in range(0, MANY, PAGE):
            yield {"Contents": [an_object(number) for number in range(first, first + PAGE)]}

    def list_objects_v2(self, **wanted: Any) -> dict[str, Any]:
        return {"KeyCount": 1}

    def get_object(self, **wanted: Any) -> dict[str, Any]:
        number = int(wanted["Key"].removeprefix("scans/IMG_").removesuffix(".jpg"))
        return {"Body": io.BytesIO(b"jpg"), "ETag": an_object(number)["ETag"]}


def an_object(number: int) -> dict[str, Any]:
    return {"Key": f"scans/{name(number)}", "Size": 3, "ETag": f'"{number:032x}"'}


def name(number: int) -> str:
    return f"IMG_{number:06d}.jpg"


class PathsOfManyObjects(Paths):
    def open(self, path: Any, aws_conn_id: str | None = "aws_default", **more: Any) -> Location:
        return S3Location(ManyObjects(), "bucket", path.removeprefix("s3://bucket/"))


def hook_of_many_objects() -> ThreeSixtyHook:
    hook = ThreeSixtyHook()
    hook.paths = PathsOfManyObjects()
    return hook


@pytest.mark.long
def test_one_task(emulator: Emulator) -> None:
    """XCom and the task's saved state are as small for a hundred thousand objects as for one."""
    upload_id = CreateUploadSessionOperator(task_id="session").execute(context())
    held = emulator.store.sessions[upload_id]
    for number in range(MANY - LEFT):  # the worker was killed shortly before the end
        held.files[name(number)] = StoredFile(name(number), held.folder / name(number), total=3, received=3)
    task = UploadFilesOperator(
        task_id="upload", upload_id=upload_id, path="s3://bucket/scans/", inspect="off"
    )
    task.hook = hook_of_many_objects()
    store = StateStore()
    result = task.execute(context(store=store))
    assert result == {"files": MANY, "bytes": 3 * MANY}
    assert len(json.dumps(store)) < 200
    assert [e.method for e in emulator.exchanges] == ["POST", "GET", *["PUT"] * LEFT]


def test_one_shard_of_many(emulator: Emulator) -> None:
    """Of ten thousand shards each one finds its few files without a list from anywhere."""
    upload_id = CreateUploadSessionOperator(task_id="session").execute(context())
    task = UploadFilesOperator(
        task_id="upload", upload_id=upload_id, path="s3://bucket/scans/", shards=10_000, shard=7
    )
    task.hook = hook_of_many_objects()
    result = task.execute(context())
    assert 0 < result["files"] < 50
    assert len(emulator.store.sessions[upload_id].files) == result["files"]


def test_listing_for_a_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than Airflow maps are refused with the number and the operator that takes them."""
    task = ListFilesOperator(task_id="list", path="s3://bucket/scans/")
    task.hook = hook_of_many_objects()
    with pytest.raises(AirflowFailException, match=r"100,000 files.* at most 1,024 .*UploadFilesOperator"):
        task.execute(context())
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", str(MANY))
    assert len(task.execute(context())) == MANY
