"""A digest that is computed during the upload."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.exceptions import SourceChangedError
from airflow_360.sources.digest import DigestedSource
from airflow_360.sources.path import PathLocation
from tests.fakes import MemorySource


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(source: DigestedSource, offset: int, size: int) -> bytes:
    reader = source.open(offset)
    data = reader.read(size)
    reader.close()
    return data


@given(data=st.binary(max_size=50), reads=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20))))
def test_any_reads(data: bytes, reads: list[tuple[int, int]]) -> None:
    """After any reads before, in any order, twice or never, the digest is that of all bytes."""
    source = DigestedSource(MemorySource(data))
    for offset, size in reads:
        assert read(source, min(offset, len(data)), size) == data[offset : offset + size]
    assert source.digest() == sha256(data)


def test_nothing_is_read_twice() -> None:
    """Bytes sent from the first byte on, some of them twice, are not read again for the digest."""
    inner = MemorySource(bytes(range(100)))
    source = DigestedSource(inner)
    for offset, size in ((0, 40), (20, 40), (60, 40)):
        read(source, offset, size)
    assert source.digest() == sha256(bytes(range(100)))
    assert inner.opened == [0, 20, 60]


def test_what_an_earlier_attempt_sent_is_read_again() -> None:
    """An upload that resumes in the middle ends in a digest of the whole file."""
    inner = MemorySource(bytes(range(100)))
    source = DigestedSource(inner)
    read(source, 60, 40)
    assert source.digest() == sha256(bytes(range(100)))
    assert inner.opened == [60, 0]


def test_changed_meanwhile(tmp_path: Path) -> None:
    """A file that was replaced before its digest is complete is an error, without a digest."""
    path = tmp_path / "scan.e57"
    path.write_bytes(b"0123456789")
    location = PathLocation(path)
    source = DigestedSource(location.source(location.info()))
    path.write_bytes(b"01234")
    with pytest.raises(SourceChangedError):
        source.digest()
