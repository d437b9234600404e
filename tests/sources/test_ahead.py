"""Reading ahead: the blocks fetched in advance, errors, and the end of the thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_360.exceptions import SourceError
from airflow_360.sources.ahead import ReadAhead, reading_ahead
from airflow_360.sources.s3 import S3Location
from tests.fakes import HiccupSource, MemorySource, some_bytes

MIB = 1 << 20


def eventually(true: Callable[[], bool]) -> bool:
    """Return whether something becomes true within some seconds."""
    for _ in range(500):
        if true():
            return True
        time.sleep(0.01)
    return False


def read_all(reader: ReadAhead, size: int) -> bytes:
    """Read to the end in pieces, and check that none is larger than requested."""
    pieces = []
    while piece := reader.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, MIB, MIB + 1, 5 * MIB - 3], ids=["one", "a block", "more", "several"])
@pytest.mark.parametrize("piece", [300_001, MIB, 2 * MIB], ids=["pieces", "blocks", "larger"])
def test_the_same_bytes(size: int, piece: int) -> None:
    """The bytes are those of the reader, in order, for any size of the reads, and then it ends."""
    source = MemorySource(some_bytes(size))
    reader = ReadAhead(source.open(0))
    assert read_all(reader, piece) == source.data
    assert reader.read(piece) == b""
    reader.close()


def test_ahead_and_bounded() -> None:
    """Without reads, only this number of blocks is fetched; each block that is read makes room for one."""
    source = MemorySource(bytes(20 * MIB))
    inner = source.open(0)
    reader = ReadAhead(inner, blocks=3)
    assert eventually(lambda: inner.offset == 3 * MIB)
    time.sleep(0.05)
    assert inner.offset == 3 * MIB
    reader.read(MIB)
    assert eventually(lambda: inner.offset == 4 * MIB)
    reader.close()


def test_an_error_is_raised_where_it_is_due() -> None:
    """Bytes read before an error still arrive; then the error is raised, and again at each later read."""
    reader = ReadAhead(HiccupSource(some_bytes(3 * MIB), at=2 * MIB).open(0))
    assert len(reader.read(MIB) + reader.read(MIB)) == 2 * MIB
    for _ in range(2):
        with pytest.raises(SourceError, match="hung up"):
            reader.read(MIB)
    reader.close()


@pytest.mark.parametrize("read", [0, 1, 20], ids=["unread", "begun", "read to its end"])
def test_close_ends_the_thread(read: int) -> None:
    """A reader that is closed, at any time, leaves neither a thread nor an open reader behind."""
    before = threading.active_count()
    source = MemorySource(bytes(20 * MIB))
    reader = ReadAhead(source.open(0))
    for _ in range(read):
        reader.read(MIB)
    reader.close()
    assert (threading.active_count(), source.open_readers) == (before, 0)


def test_no_thread_for_a_small_file() -> None:
    """A single block is read without a thread."""
    reader = MemorySource(b"").open(0)
    assert reading_ahead(reader, MIB) is reader


def test_s3_is_read_ahead(s3: Any, bucket: str) -> None:
    """An object is fetched from the offset before its bytes are requested, and arrives whole."""
    data = some_bytes(3 * MIB)
    s3.put_object(Bucket=bucket, Key="scan.e57", Body=data)
    location = S3Location(s3, bucket, "scan.e57")
    reader = location.source(location.info()).open(MIB // 2)
    assert isinstance(reader, ReadAhead)
    assert read_all(reader, MIB) == data[MIB // 2 :]
    reader.close()
