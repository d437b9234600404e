"""The requests and bytes that the inspection of one file takes, on a disk and in a local S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_360.inspection.inspected_source import inspect_source
from airflow_360.inspection.ranges import HEAD_BYTES, TAIL_BYTES
from airflow_360.sources import FileSource
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from demo.scans import las, lighthouse
from tests.scans import PHOTO, ifc

LARGE = 400_000
FILES = {
    "scan.las": las(list(lighthouse(LARGE // 26))),
    "photo.jpg": PHOTO[:-2] + bytes(LARGE) + PHOTO[-2:],
    "model.ifc": ifc("EPSG:25832").replace(b"DATA;\n", b"DATA;\n" + b"#2=IFCWALL('x');\n" * 20_000),
    "small.ifc": ifc(),
    "notes.txt": bytes(LARGE),
}


class Counted:
    """A file that counts its ranged reads."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.path, self.size = source.path, source.size
        self.ranges: list[tuple[int, int]] = []

    def read_range(self, offset: int, length: int) -> bytes:
        self.ranges.append((offset, length))
        return self._source.read_range(offset, length)


@pytest.mark.parametrize("name", FILES)
def test_a_local_file(tmp_path: Path, name: str) -> None:
    """A file takes at most two reads and 128 KiB; one of an unknown format takes none."""
    (tmp_path / name).write_bytes(FILES[name])
    location = PathLocation(tmp_path / name)
    counted: Any = Counted(location.source(location.info()))
    assert inspect_source(counted).problems == []
    assert len(counted.ranges) <= (0 if name == "notes.txt" else 2)
    assert sum(length for _, length in counted.ranges) <= HEAD_BYTES + TAIL_BYTES


@pytest.mark.parametrize("name", FILES)
def test_an_object_in_s3(s3: Any, bucket: str, name: str) -> None:
    """An object takes at most two requests, each for an exact range, and 128 KiB."""
    s3.put_object(Bucket=bucket, Key=name, Body=FILES[name])
    location = S3Location(s3, bucket, name)
    source = location.source(location.info())
    received: list[int] = []

    def note(parsed: dict[str, Any], **_: Any) -> None:
        received.append(parsed["ContentLength"])

    s3.meta.events.register("after-call.s3.GetObject", note)
    try:
        assert inspect_source(source).problems == []
    finally:
        s3.meta.events.unregister("after-call.s3.GetObject", note)
    assert len(received) <= (0 if name == "notes.txt" else 2)
    assert sum(received) <= HEAD_BYTES + TAIL_BYTES
