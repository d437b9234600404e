"""Files of this machine, and ones that misbehave."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path, PosixPath
from typing import Any, NoReturn

import pytest

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources.path import PathLocation, PathSource


def source_of(path: Path) -> PathSource:
    location = PathLocation(path)
    return location.source(location.info())


def read(source: PathSource, offset: int, size: int = 1 << 20) -> bytes:
    reader = source.open(offset)
    try:
        return reader.read(size)
    finally:
        reader.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of ten bytes."""
    path = tmp_path / "scan.e57"
    path.write_bytes(b"0123456789")
    return path


# -- reading


def test_reading(path: Path) -> None:
    """A source opens at any offset, any number of times, and returns the rest."""
    source = source_of(path)
    assert (source.path, source.size) == (str(path), 10)
    assert [read(source, offset) for offset in (0, 4, 4, 9, 10, 0)] == [
        b"0123456789",
        b"456789",
        b"456789",
        b"9",
        b"",
        b"0123456789",
    ]


def test_ranges(path: Path) -> None:
    """A range of a file is read exactly, and never of another version than the listed one."""
    path.write_bytes(b"0123456789")
    location = PathLocation(path)
    source = location.source(location.info())
    assert [source.read_range(0, 4), source.read_range(8, 9)] == [b"0123", b"89"]
    path.write_bytes(b"98765")
    with pytest.raises(SourceChangedError):
        source.read_range(0, 4)


def test_reading_in_blocks(path: Path) -> None:
    """A reader returns at most the requested bytes, in order, and nothing at the end."""
    reader = source_of(path).open(1)
    assert [reader.read(4) for _ in range(4)] == [b"1234", b"5678", b"9", b""]
    reader.close()


def test_two_readers(tmp_path: Path) -> None:
    """Two readers of one source do not disturb each other."""
    path = tmp_path / "scan.e57"
    path.write_bytes(b"0123456789")
    source = source_of(path)
    one, other = source.open(0), source.open(5)
    assert (one.read(2), other.read(2), one.read(2), other.read(2)) == (b"01", b"56", b"23", b"78")
    one.close()
    other.close()


def test_beyond_four_gibibytes(tmp_path: Path) -> None:
    """Offsets beyond four gibibytes are read at the right place."""
    path = tmp_path / "huge.e57"
    with path.open("wb") as file:
        file.seek(5 << 30)
        file.write(b"end")
    source = source_of(path)
    assert source.size == (5 << 30) + 3
    assert read(source, 5 << 30) == b"end"


# -- changes


@pytest.mark.parametrize("change", ["longer", "shorter", "empty"])
def test_another_size(path: Path, change: str) -> None:
    """A file whose size has changed since it was opened first is not opened again, and the error says so."""
    source = source_of(path)
    path.write_bytes({"longer": b"0123456789+", "shorter": b"012345678", "empty": b""}[change])
    with pytest.raises(SourceChangedError, match=r"scan\.e57 changed") as raised:
        source.open(0)
    assert not raised.value.retryable
    assert source.size == 10


def test_same_size_later(tmp_path: Path) -> None:
    """A file that was written again with the same size is not opened again."""
    path = tmp_path / "scan.e57"
    path.write_bytes(b"0123456789")
    source = source_of(path)
    before = source.fingerprint
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 0.01))
    assert source_of(path).fingerprint != before
    with pytest.raises(SourceChangedError):
        source.open(0)


def test_reading_does_not_change_the_fingerprint(path: Path) -> None:
    """Reading does not change the fingerprint, and a second one is the same."""
    source = source_of(path)
    read(source, 0)
    assert source.fingerprint == source_of(path).fingerprint


def test_a_file_that_vanished_is_missing(path: Path) -> None:
    """A file that vanished after it was opened first is reported as missing."""
    source = source_of(path)
    path.unlink()
    with pytest.raises(SourceError, match=r"scan\.e57 does not exist"):
        source.open(0)


# -- unreadable files


def test_a_missing_file_is_named_and_not_retried(path: Path) -> None:
    """A file that is not there is an error that names the path and is not worth a retry."""
    with pytest.raises(SourceError, match="does not exist") as raised:
        source_of(path.parent / "none.e57")
    assert "none.e57" in raised.value.path
    assert not raised.value.retryable


def test_a_folder_is_an_error_that_names_the_operator(tmp_path: Path) -> None:
    """A folder instead of a file is an error that names it, and the operator for folders."""
    with pytest.raises(SourceError, match="UploadFilesOperator") as raised:
        PathLocation(tmp_path).info()
    assert raised.value.path == str(tmp_path)


FAILURES: dict[str, tuple[Exception, bool]] = {
    "no permission": (PermissionError(13, "Permission denied"), False),
    "gone": (FileNotFoundError(2, "No such file"), False),
    "folder": (IsADirectoryError(21, "Is a directory"), False),
    "file as folder": (NotADirectoryError(20, "Not a directory"), False),
    "timeout": (TimeoutError("timed out"), True),
    "stale handle": (OSError(116, "Stale file handle"), True),
}


class Misbehaving(PosixPath):
    """A path whose file fails at a given call: ``stat``, ``open``, ``seek`` or ``read``."""

    failure: Exception
    at = ""
    opened: list[_MisbehavingFile]

    @classmethod
    def made(cls, path: Path, failure: Exception, at: str) -> Misbehaving:
        made = cls(path)
        made.failure, made.at, made.opened = failure, at, []
        return made

    def fail_at(self, where: str) -> None:
        if where == self.at:
            raise self.failure

    def stat(self, **more: Any) -> os.stat_result:
        self.fail_at("stat")
        return super().stat(**more)

    def is_file(self, **more: Any) -> bool:
        self.fail_at("is_file")
        return super().is_file(**more)

    def iterdir(self) -> NoReturn:
        raise self.failure

    def open(self, *arguments: Any, **more: Any) -> Any:
        self.fail_at("open")
        self.opened.append(_MisbehavingFile(self))
        return self.opened[-1]


class _MisbehavingFile(io.BytesIO):
    def __init__(self, path: Misbehaving) -> None:
        super().__init__(b"0123456789")
        self.path = path

    def seek(self, offset: int, whence: int = 0) -> int:
        self.path.fail_at("seek")
        return super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        self.path.fail_at("read")
        return super().read(size)


@pytest.mark.parametrize("at", ["stat", "open", "seek", "read"])
@pytest.mark.parametrize(("failure", "retryable"), FAILURES.values(), ids=FAILURES.keys())
def test_every_failure_becomes_one_error(path: Path, failure: Exception, retryable: bool, at: str) -> None:
    """Any error of the system, at any call, becomes one error with the path, retryable if it is temporary."""
    info = PathLocation(path).info()
    with pytest.raises(SourceError) as raised:
        read(PathSource(Misbehaving.made(path, failure, at), info), 3)
    assert (raised.value.path, raised.value.retryable) == (str(path), retryable)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("at", ["is_file", "listing"])
def test_failures_of_a_location(path: Path, at: str) -> None:
    """A location without permission is an error that names it."""
    location = PathLocation(Misbehaving.made(path.parent, PermissionError(13, "Permission denied"), at))
    with pytest.raises(SourceError, match=r"cannot be read: Permission denied") as raised:
        location.is_file() if at == "is_file" else list(location.files(1))
    assert raised.value.path == str(path.parent)
    assert not raised.value.retryable


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    """A file that this user cannot read is an error that names it."""
    path = tmp_path / "scan.e57"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        source_of(path).open(0)


def test_a_file_that_cannot_be_sought_is_closed(path: Path) -> None:
    """A file that was opened and cannot be brought to its offset is not left open."""
    broken = Misbehaving.made(path, OSError("no seek"), "seek")
    with pytest.raises(SourceError):
        PathSource(broken, PathLocation(path).info()).open(3)
    assert [file.closed for file in broken.opened] == [True]


# -- locations


def test_the_info_of_a_file_is_that_of_the_listing(path: Path) -> None:
    """A file's own info is that of the listing, and opens its bytes."""
    location = PathLocation(path)
    assert location.is_file()
    info = location.info()
    assert (info.path, info.relative, info.size, info.etag) == (str(path), "scan.e57", 10, None)
    assert read(location.source(location.info()), 4) == b"456789"


def test_source_of_a_listed_file(path: Path) -> None:
    """A file of a folder's listing opens by its path."""
    folder = PathLocation(path.parent)
    assert not folder.is_file()
    (info,) = folder.files(1)
    source = folder.source(info)
    assert (source.path, read(source, 8)) == (str(path), b"89")


def test_changed_since_it_was_listed(path: Path) -> None:
    """A file whose size is no longer the listed one is not uploaded, and the error contains both sizes."""
    location = PathLocation(path)
    info = location.info()
    path.write_bytes(b"0123456789+")
    with pytest.raises(SourceChangedError, match="its size was 10 and is 11"):
        location.source(info).open(0)


def test_touched_since_it_was_listed(path: Path) -> None:
    """A file of the listed size whose modification time is another one is not uploaded either."""
    location = PathLocation(path.parent)
    (info,) = location.files(1)
    with pytest.raises(SourceChangedError, match="modification time"):
        location.source(replace(info, modified=(info.modified or 0) + 1)).open(0)


@pytest.mark.parametrize("when", ["open", "check"])
def test_replaced_with_its_time_kept(path: Path, when: str) -> None:
    """A file that was replaced by one of the same size and modification time is a different file."""
    source = source_of(path)
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(b"abcdefghij")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(SourceChangedError, match="inode or change time"):
        source.open(0) if when == "open" else source.check()


def test_nothing_there(path: Path) -> None:
    """If nothing exists at a path, there is no file, and its metadata cannot be read."""
    location = PathLocation(path.parent / "none.e57")
    assert not location.is_file()
    with pytest.raises(SourceError, match="does not exist"):
        location.info()
