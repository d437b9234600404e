"""Inspection of a file from the bytes that pass, and with ranged reads."""

from __future__ import annotations

import pytest

from airflow_360.exceptions import SourceError
from airflow_360.inspection.inspected_source import InspectedSource, inspect_source
from airflow_360.inspection.ranges import HEAD_BYTES, TAIL_BYTES
from airflow_360.inspection.results import Inspection
from airflow_360.sources import Reader
from tests.fakes import MemorySource
from tests.scans import PHOTO


class Ranged(MemorySource):
    """Bytes in memory that count their ranged reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, path="scans/photo.jpg")
        self.ranges: list[tuple[int, int]] = []

    def read_range(self, offset: int, length: int) -> bytes:
        self.ranges.append((offset, length))
        return self.data[offset : offset + length]


def photo(size: int) -> bytes:
    """Return a photo with so many bytes."""
    return PHOTO[:-2] + bytes(size - len(PHOTO)) + PHOTO[-2:]


def pass_all(source: InspectedSource, offset: int = 0, block: int = 10_000) -> None:
    reader: Reader = source.open(offset)
    while reader.read(block):
        pass
    reader.close()


@pytest.mark.parametrize("size", [30, HEAD_BYTES, HEAD_BYTES + 1, HEAD_BYTES + TAIL_BYTES, 300_000])
@pytest.mark.parametrize("block", [7, 10_000, 1 << 20])
def test_no_range_is_read_if_all_bytes_pass(size: int, block: int) -> None:
    """A file whose bytes all pass is inspected once, without a ranged read."""
    found: list[Inspection] = []
    file = Ranged(photo(size))
    source = InspectedSource(file, found.append)
    pass_all(source, 0, block if size < 100_000 else max(block, 1000))
    pass_all(source, size - 10)
    (result,) = found
    assert (result.format, result.problems) == ("JPEG", [])
    assert file.ranges == []


def test_a_resumed_upload_reads_the_head_again() -> None:
    """If only the last bytes pass, the head is read with one range."""
    found: list[Inspection] = []
    file = Ranged(photo(300_000))
    pass_all(InspectedSource(file, found.append), 200_000)
    assert found[0].problems == []
    assert file.ranges == [(0, HEAD_BYTES)]


def test_a_damaged_file_is_found_while_it_passes() -> None:
    """A photo without its end is found from the bytes that pass."""
    found: list[Inspection] = []
    pass_all(InspectedSource(Ranged(photo(200_000)[:-2]), found.append))
    assert [problem.code for problem in found[0].errors] == ["no_end_marker"]


def test_a_failed_inspection_fails_no_upload(caplog: pytest.LogCaptureFixture) -> None:
    """If the head cannot be read again, this is a warning, and the upload continues."""

    class Broken(Ranged):
        def read_range(self, offset: int, length: int) -> bytes:
            raise SourceError("the store is away")

    found: list[Inspection] = []
    pass_all(InspectedSource(Broken(photo(300_000)), found.append), 299_000)
    assert found == []
    assert "photo.jpg could not be inspected: the store is away" in caplog.text


def test_a_file_takes_two_ranged_reads() -> None:
    """A file takes one read for its head and one for its tail, and at most 128 KiB."""
    file = Ranged(photo(5_000_000))
    assert inspect_source(file).problems == []
    assert len(file.ranges) <= 2
    assert sum(length for _, length in file.ranges) <= HEAD_BYTES + TAIL_BYTES
