"""Where bytes come from: a local file, an object in S3, anything that Airflow's object storage opens.

Separate from the engine, which only ever sees a :class:`Source`, and from Airflow, whose hook opens what is
handed in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Listed", "Location", "Reader", "Scan", "Source"]


class Reader(Protocol):
    """Read a source's bytes in order."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end."""
        ...

    def close(self) -> None:
        """Let go of the file or connection behind it."""
        ...


class Source(Protocol):
    """One file's bytes, wherever they are.

    ``open`` may be called any number of times, for any offset, and must give the same bytes each time; it
    raises :class:`~airflow_360.exceptions.SourceChangedError` where it can tell that they are others now,
    and :class:`~airflow_360.exceptions.SourceError` where they cannot be read.
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
        """Return what changes when the bytes change: an ETag, or size and modification time."""
        ...

    def open(self, offset: int) -> Reader:
        """Open the bytes from an offset on."""
        ...

    def check(self) -> None:
        """Raise :class:`~airflow_360.exceptions.SourceChangedError` where the bytes are others now."""
        ...


@dataclass(frozen=True)
class Listed:
    """Hold one file of a listing.

    :param path: its path as a user would write it.
    :param relative: its path below the listed folder, with ``/`` between the parts.
    :param size: its length in bytes.
    :param etag: its ETag without quotes, or its generation in Google Cloud Storage; None if there is none.
    :param modified: when it was changed last, in seconds since the epoch. None if the store does not say, or
        has what says more: a generation, or the ETag of S3.
    :param written: when it was written last, in seconds since the epoch, or None where the store does not
        say. No part of what makes two files the same: it tells whether more is to come.
    :param local: inode and change time of a file of this machine, as text; empty for others. Another machine
        may see others of the same file, so it is no part of what makes two files the same.
    :param fault: why it must not be uploaded, such as "is a named pipe"; empty for an ordinary file.
    :param many: whether it stands for a folder with any files, because it was not entered.
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


@dataclass(frozen=True)
class Scan:
    """Hold what a folder was found to hold.

    :param path: the folder's path as a user would write it.
    :param fingerprint: changes with the names, sizes, and ETags or modification times of its files.
    :param age: seconds between now and the nearest moment at which a file was written; a file that is dated
        well ahead counts like one that is dated back, since nobody is writing it now. None where the store
        does not say.
    """

    path: str
    fingerprint: str
    age: float | None


class Location(Protocol):
    """A path that was opened: a file, or a folder to list."""

    def is_file(self) -> bool:
        """Tell whether a file is there, rather than a folder or nothing."""
        ...

    def is_folder(self) -> bool:
        """Tell whether a folder is there, or a prefix that ends with ``/`` and holds something."""
        ...

    def listed(self) -> Listed:
        """Return the file that is there, as a listing would.

        :raises SourceError: when it is a folder or nothing, or cannot be read.
        """
        ...

    def files(self, depth: int | None) -> Iterator[Listed]:
        """Yield the files below, sorted within each folder; also what must not be uploaded, with its fault.

        :param depth: how many levels of folders to enter; 1 is the folder itself, None all.
        :raises SourceError: when the folder's store or parent is missing or cannot be read.
        """
        ...

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below, sorted.

        :raises SourceError: as :meth:`files`.
        """
        ...

    def refused_folders(self) -> Iterator[Listed]:
        """Yield the folders directly below that :meth:`folders` omits because they must not be entered.

        :raises SourceError: as :meth:`files`.
        """
        ...

    def source(self, listed: Listed) -> Source:
        """Return the bytes of a file as it was when it was listed."""
        ...
