"""Files on this machine, or on a share that is mounted on it.

Separate from ``store``, because a local file may be a link, a pipe or a device, and has an inode.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Reader
from airflow_360.sources.errors import changed, missing, not_a_file, refused_file
from airflow_360.sources.names import is_hidden, is_utf8, printable
from airflow_360.texts import first_few

__all__ = ["PathLocation", "PathSource", "check_readable"]

log = logging.getLogger(__name__)

#: Errors that are permanent.
PERMANENT = (FileNotFoundError, NotADirectoryError, PermissionError, ValueError)
NOT_UTF8 = "has a name that is not UTF-8"
FAULT_BY_TYPE = {stat.S_IFIFO: "is a named pipe", stat.S_IFSOCK: "is a socket", stat.S_IFCHR: "is a device"}
FAULT_BY_TYPE[stat.S_IFBLK] = FAULT_BY_TYPE[stat.S_IFCHR]


class PathSource:
    """A local file.

    It is checked for changes at each ``open`` and before the last byte: size, modification time, inode and
    change time must be those of the listing. Changed permissions or hard links also count as a change.

    :param path: the file.
    :param info: the file in its listed version.
    """

    def __init__(self, path: Path, info: FileInfo) -> None:
        self._path = path
        self.info = info

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return str(self._path)

    @property
    def size(self) -> int:
        """Return the listed length in bytes."""
        return self.info.size

    @property
    def fingerprint(self) -> str:
        """Return size and modification time."""
        return f"{self.info.size}-{self.info.modified}"

    def open(self, offset: int) -> Reader:
        """Open the file at an offset.

        :param offset: bytes from the start.
        :raises SourceChangedError: if the file was replaced or modified.
        :raises SourceError: if the file cannot be read.
        """
        self.check()
        with _reading(self._path):
            file = self._path.open("rb")
            try:
                file.seek(offset)
            except BaseException:
                file.close()
                raise
        return _PathReader(file, self._path)

    def read_range(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range; the errors are those of :meth:`open`."""
        with closing(self.open(offset)) as reader:
            return reader.read(length)

    def check(self) -> None:
        """Check the file again.

        :raises SourceChangedError: if the file was replaced or modified.
        """
        with _reading(self._path):
            status = self._path.stat()
        _check_regular(self._path, status)
        now = _file_info(self._path, self.info.relative, status)
        if (now, now.local) != (self.info, self.info.local):
            raise changed(self.path, self.info, now)


class _PathReader:
    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def read(self, size: int, /) -> bytes:
        with _reading(self._path):
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class PathLocation:
    """A path on this machine.

    Links within a folder that lead out of it are not followed, because anybody who can write to the folder
    could then upload any file that the worker can read. The path itself may be a link.

    :param path: the path.
    :param follow_links: whether to follow links that lead out of the folder.
    """

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        self._path = path
        self._follow_links = follow_links

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return str(self._path)

    def is_file(self) -> bool:
        """Return whether the path is a file, or a pipe, socket or device, which :meth:`info` refuses."""
        with _reading(self._path):
            return self._path.is_file() or self._is_special()

    def is_folder(self) -> bool:
        """Return whether the path is a folder."""
        with _reading(self._path):
            return self._path.is_dir()

    @property
    def is_link(self) -> bool:
        """Return whether the path itself is a symbolic link."""
        return self._path.is_symlink()

    def info(self) -> FileInfo:
        """Return the file at the path.

        :raises SourceError: if it is a folder or no regular file, does not exist, or cannot be read.
        """
        with _reading(self._path):
            if self._path.is_dir():
                raise IsADirectoryError
            status = self._path.stat()
        self._check_utf8()
        _check_regular(self._path, status)
        return _file_info(self._path, self._path.name, status)

    def files(self, depth: int | None) -> Iterator[FileInfo]:
        """Yield the files below; those that must not be uploaded have a fault.

        Hidden folders, and links to folders that are listed anyway, are not entered. If the folder is missing
        but its parent exists, there are no files, as in an object store.

        :param depth: how many levels of folders to enter; None all.
        :raises SourceError: if it is a file, its parent is missing, or it cannot be read.
        """
        return _Walk(self._path, self._follow_links).files(self._children(), "", depth)

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below that are not hidden and may be entered.

        :raises SourceError: as :meth:`files`.
        """
        return (str(child) for child, fault in self._folders() if not fault)

    def refused_folders(self) -> Iterator[FileInfo]:
        """Yield the folders directly below that must not be entered, with their fault.

        :raises SourceError: as :meth:`files`.
        """
        return (_refused(child, child.name, fault, many=True) for child, fault in self._folders() if fault)

    def source(self, info: FileInfo) -> PathSource:
        """Return the bytes of a listed file in its listed version, without opening it."""
        return PathSource(Path(info.path), info)

    def _folders(self) -> Iterator[tuple[Path, str]]:
        walk = _Walk(self._path, self._follow_links)
        for child in self._children():
            if not is_hidden(child.name) and child.is_dir():
                yield child, walk.fault_of(child)

    def _is_special(self) -> bool:
        return self._path.exists() and bool(_kind(self._path.stat()))

    def _check_utf8(self) -> None:
        if not is_utf8(str(self._path)):
            raise refused_file(str(self._path), NOT_UTF8)

    def _children(self) -> list[Path]:
        self._check_utf8()
        with _reading(self._path):
            if not self._path.exists():
                if not self._path.parent.exists():
                    raise FileNotFoundError
                return []
            return _sorted_children(self._path)


class _Walk:
    """One listing of a folder and of the folders below it.

    :param folder: the folder.
    :param follow_links: see :class:`PathLocation`.
    """

    def __init__(self, folder: Path, follow_links: bool) -> None:
        self._root = os.path.realpath(folder)
        self._follow_links = follow_links
        self._entered: set[str] = set()  # targets of links outside the folder, so that a loop ends

    def files(self, children: list[Path], prefix: str, depth: int | None) -> Iterator[FileInfo]:
        """Yield the files of a folder and below; those that must not be uploaded have a fault."""
        for child in children:
            relative = f"{prefix}{child.name}"
            if is_hidden(child.name):  # its size is not needed, and a hidden link may be broken
                yield FileInfo(str(child), relative, 0)
                continue
            info, below = self._visit(child, relative, depth)
            if info:
                yield info
            yield from self.files(below, f"{relative}/", depth and depth - 1)

    def fault_of(self, child: Path) -> str:
        """Return why a file or folder must not be uploaded, because of its name or as a link; else empty."""
        if not is_utf8(child.name):
            return NOT_UTF8
        target = _target(child)
        if target and not self._follow_links and not self._holds(target):
            return f"is a link that leads out of the folder, to {printable(target)}"
        return ""

    def _visit(self, child: Path, relative: str, depth: int | None) -> tuple[FileInfo | None, list[Path]]:
        """Return the file, or the children of a folder."""
        with _reading(child):
            try:
                folder = child.is_dir()
                status = None if folder else child.stat()
                if not folder or depth != 1:
                    if fault := self.fault_of(child):
                        return _refused(child, relative, fault, many=folder), []
                    if folder and self._may_enter(child):
                        return None, _sorted_children(child)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                if _target(child):  # it may have been a folder
                    return _refused(child, relative, "is a broken link", many=True), []
                log.warning("%s was removed or renamed while its folder was listed.", printable(str(child)))
                return None, []
        if status is None:
            return None, []
        if not stat.S_ISREG(status.st_mode):
            return _refused(child, relative, _kind(status) or "is no regular file"), []
        return _file_info(child, relative, status), []

    def _may_enter(self, folder: Path) -> bool:
        """Return whether to list a folder's files; behind a link only if nothing else lists them."""
        if not (target := _target(folder)):
            return True
        if self._holds(target) or target in self._entered:
            log.warning("%s is a link to a folder that is listed anyway, and is not entered.", folder)
            return False
        self._entered.add(target)
        return True

    def _holds(self, target: str) -> bool:
        return os.path.commonpath([self._root, target]) == self._root


def _target(path: Path) -> str:
    """Return the final target of a link; empty if the path is no link."""
    return os.path.realpath(path) if path.is_symlink() else ""


def _refused(path: Path, relative: str, fault: str, *, many: bool = False) -> FileInfo:
    return FileInfo(str(path), relative, 0, fault=fault, many=many)


def _file_info(path: Path, relative: str, status: os.stat_result) -> FileInfo:
    modified, local = status.st_mtime, f"{status.st_ino}-{status.st_ctime_ns}"
    return FileInfo(str(path), relative, status.st_size, modified=modified, written=modified, local=local)


def _kind(status: os.stat_result) -> str:
    """Return the kind of a pipe, socket or device; empty for anything else."""
    return FAULT_BY_TYPE.get(stat.S_IFMT(status.st_mode), "")


def _check_regular(path: Path, status: os.stat_result) -> None:
    if kind := _kind(status):
        raise refused_file(str(path), kind)


def _sorted_children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda child: str(child.name))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn all exceptions of the system into errors that name the path."""
    try:
        yield
    except (SourceError, SourceChangedError):
        raise
    except FileNotFoundError:
        raise missing(str(path)) from None
    except IsADirectoryError:
        raise not_a_file(str(path)) from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        retryable = not isinstance(error, PERMANENT)
        raise SourceError(
            f"{printable(str(path))} cannot be read: {reason}. Check the path and its permissions.",
            path=str(path),
            retryable=retryable,
        ) from error


def check_readable(files: Sequence[FileInfo]) -> None:
    """Fail before the first byte, and not hours later, if this worker cannot read some local files."""
    local = [file.path for file in files if "://" not in file.path]
    if unreadable := [path for path in local if not os.access(path, os.R_OK)]:
        raise SourceError(
            f"This worker is not allowed to read {first_few(unreadable, ', ')}. Nothing was sent: fix the "
            "permissions, or leave the files out with exclude."
        )
