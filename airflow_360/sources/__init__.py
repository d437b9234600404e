"""Sources of bytes: a local file, an object in S3, or any file that Airflow's object storage can open.

Separate from the engine, which uses only a :class:`Source`, and from Airflow: the hook passes in the clients
and file systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["FileInfo", "FileSource", "Location", "Reader", "Scan", "Source"]


class Reader(Protocol):
    """A reader of a source's bytes, in order."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; empty only at the end."""
        ...

    def close(self) -> None:
        """Close the underlying file or connection."""
        ...


class Source(Protocol):
    """The bytes of one file, in any store.

    ``open`` may be called any number of times, for any offset, and must return the same bytes each time. It
    raises :class:`~airflow_360.exceptions.SourceChangedError` if it notices that they have changed, and
    :class:`~airflow_360.exceptions.SourceError` if they cannot be read.
    """

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        ...

    @property
    def size(self) -> int:
        """Return the full length in bytes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return a string that changes when the bytes change: an ETag, or size and modification time."""
        ...

    def open(self, offset: int) -> Reader:
        """Open the bytes from an offset on."""
        ...

    def check(self) -> None:
        """Raise :class:`~airflow_360.exceptions.SourceChangedError` if the bytes have changed."""
        ...


class FileSource(Source, Protocol):
    """The bytes of one file as it is in its store, which can also be read in single ranges."""

    def read_range(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range with one request, fewer only if the file ends in it.

        :param offset: bytes from the start; less than ``size``.
        :param length: the number of bytes.
        """
        ...


@dataclass(frozen=True)
class FileInfo:
    """A file in a listing.

    :param path: its path as a user would write it.
    :param relative: its path below the listed folder, with ``/`` between the parts.
    :param size: its length in bytes.
    :param etag: its ETag without quotes, or its generation in Google Cloud Storage; None if there is none.
    :param modified: the time of its last change, in seconds since the epoch. None if the store does not
        report it, or has a better criterion: a generation, or the ETag of S3.
    :param written: the time of its last write, in seconds since the epoch; None if the store does not report
        it. It is not compared; it shows whether somebody may still write the file.
    :param local: inode and change time of a local file, as text; empty for others. It is not compared,
        because another machine may see other values for the same file.
    :param fault: why it must not be uploaded, such as "is a named pipe"; empty for a regular file.
    :param many: whether it stands for a folder that was not entered, with any number of files.
    """

    path: str
    relative: str
    size: int
    etag: str | None = None
    modified: float | None = None
    written: float | None = field(default=None, compare=False)
    local: str = field(default="", compare=False)
    fault: str = field(default="", compare=False)
    many: bool = field(default=False, compare=False)

    @property
    def version(self) -> str:
        """Return a string that changes when the file changes, as far as its store reports it."""
        return f"{self.size} {self.etag} {self.modified}"


@dataclass(frozen=True)
class Scan:
    """A snapshot of a folder's contents.

    :param path: the folder's path as a user would write it.
    :param fingerprint: changes with the names, sizes, and ETags or modification times of its files.
    :param age: seconds since the latest write to one of its files. A file with a date far in the future does
        not count, because it is not being written now. None if the store does not report these times.
    """

    path: str
    fingerprint: str
    age: float | None


class Location(Protocol):
    """An opened path: a file, or a folder to list."""

    def is_file(self) -> bool:
        """Return whether the path is a file."""
        ...

    def is_folder(self) -> bool:
        """Return whether the path is a folder, or a prefix that ends with ``/`` and is not empty."""
        ...

    def info(self) -> FileInfo:
        """Return the file at the path, as in a listing.

        :raises SourceError: if it is a folder, does not exist, or cannot be read.
        """
        ...

    def files(self, depth: int | None) -> Iterator[FileInfo]:
        """Yield the files below, sorted within each folder; those that must not be uploaded have a fault.

        :param depth: how many levels of folders to enter; 1 is the folder itself, None all.
        :raises SourceError: if the folder's store or parent is missing or cannot be read.
        """
        ...

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below, sorted.

        :raises SourceError: as :meth:`files`.
        """
        ...

    def refused_folders(self) -> Iterator[FileInfo]:
        """Yield the folders directly below that :meth:`folders` omits because they must not be entered.

        :raises SourceError: as :meth:`files`.
        """
        ...

    def source(self, info: FileInfo) -> FileSource:
        """Return the bytes of a listed file in its listed version."""
        ...
