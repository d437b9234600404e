"""Files behind a path-like: ``pathlib`` for local ones, Airflow's ``ObjectStoragePath`` for any other store.

Both open, list and stat in one way, so one reading of them serves all.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import Listed, Reader
from airflow_360.sources.ahead import reading_ahead
from airflow_360.sources.errors import check_unchanged, not_a_file
from airflow_360.sources.names import is_hidden

__all__ = ["PathLocation", "PathSource", "open_object_storage"]

log = logging.getLogger(__name__)

#: What is never a passing fault, whatever store it comes from.
PERMANENT = (FileNotFoundError, ImportError, NotADirectoryError, PermissionError, ValueError)


class PathSource:
    """Read a file through a path-like.

    A change is noticed at each ``open``: size and modification time must be those of the first look.

    :param path: has ``stat()`` and ``open(mode)``.
    :raises SourceError: when there is no file, or it cannot be read.
    """

    def __init__(self, path: Any) -> None:
        self._path = path
        with _reading(path):
            self._stat = path.stat()

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return str(self._path)

    @property
    def size(self) -> int:
        """Return the length in bytes, as it was at the first look."""
        return int(self._stat.st_size)

    @property
    def modified(self) -> float:
        """Return the modification time, in seconds since the epoch; 0 where the store tells none."""
        return float(self._stat.st_mtime)

    @property
    def fingerprint(self) -> str:
        """Return size and, where the store tells it, modification time."""
        return _fingerprint(self._stat)

    def open(self, offset: int) -> Reader:
        """Open the file and go to an offset; what is not local is read ahead of the upload.

        :param offset: bytes from the start.
        :raises SourceChangedError: when size or modification time are others than at the first look.
        :raises SourceError: when the file cannot be read.
        """
        self.check()
        with _reading(self._path):
            file = self._path.open("rb")
            try:
                file.seek(offset)
            except BaseException:
                file.close()
                raise
        reader = _PathReader(file, self.path)
        return reading_ahead(reader, self.size - offset) if "://" in self.path else reader

    def check(self) -> None:
        """Look at size and modification time again.

        :raises SourceChangedError: when they are others than at the first look.
        """
        with _reading(self._path):
            now = _fingerprint(self._path.stat())
        if now != self.fingerprint:
            raise SourceChangedError(
                f"{self.path} changed while it was being uploaded (size-time {self.fingerprint} became "
                f"{now}). Let it be written to the end first, then clear the session task to start over."
            )


class _PathReader:
    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path

    def read(self, size: int, /) -> bytes:
        with _reading(self._path):
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class PathLocation:
    """List and open what lies behind a path-like.

    :param path: a ``pathlib.Path`` or an ``ObjectStoragePath``.
    """

    def __init__(self, path: Any) -> None:
        self._path = path

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return str(self._path)

    def is_file(self) -> bool:
        """Tell whether a file is there."""
        with _reading(self._path):
            return bool(self._path.is_file())

    def is_folder(self) -> bool:
        """Tell whether a folder is there."""
        with _reading(self._path):
            return bool(self._path.is_dir())

    def listed(self) -> Listed:
        """Return the file that is there.

        :raises SourceError: when it is a folder or nothing, or cannot be read.
        """
        with _reading(self._path):
            if self._path.is_dir():
                raise IsADirectoryError
            return _listed(self._path, self._path.name, self._path.stat())

    def files(self, depth: int | None) -> Iterator[Listed]:
        """Yield the files below; hidden folders and links to folders are not entered.

        A folder that is missing from a parent that exists holds no files, as in an object store.

        :param depth: how many levels of folders to enter; None all.
        :raises SourceError: when it is a file, its parent is missing, or it cannot be read.
        """
        return _walk(self._children(), "", depth)

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below that are not hidden.

        :raises SourceError: as :meth:`files`.
        """
        for child in self._children():
            if not is_hidden(child.name) and child.is_dir():
                yield str(child)

    def source(self, listed: Listed) -> PathSource:
        """Return the bytes of a listed file.

        :raises SourceChangedError: when its size or modification time is no longer the listed one.
        """
        source = PathSource(self._path if listed.path == self.path else type(self._path)(listed.path))
        check_unchanged(listed.path, "size", listed.size, source.size)
        check_unchanged(listed.path, "modification time", listed.modified, source.modified)
        return source

    def _children(self) -> list[Any]:
        with _reading(self._path):
            if not self._path.exists():
                if not self._path.parent.exists():
                    raise FileNotFoundError
                return []
            return _sorted_children(self._path)


def open_object_storage(kind: Any, path: str) -> PathLocation:
    """Open a path of another store.

    :param kind: Airflow's ``ObjectStoragePath``.
    :param path: the path, with its scheme.
    :raises SourceError: when nothing here can open such a path.
    """
    with _reading(path):
        return PathLocation(kind(path))


def _walk(children: list[Any], prefix: str, depth: int | None) -> Iterator[Listed]:
    for child in children:
        relative = f"{prefix}{child.name}"
        if is_hidden(child.name):  # nobody asks for its size, and a hidden link may lead nowhere
            yield Listed(str(child), relative, 0)
            continue
        with _reading(child):
            try:
                folder = child.is_dir()
                link = folder and child.is_symlink()
                below = _sorted_children(child) if folder and depth != 1 and not link else []
                status = None if folder else child.stat()
            except FileNotFoundError:
                if child.is_symlink():  # there it is, and leads nowhere
                    raise
                log.warning("%s was taken away or renamed while its folder was listed.", child)
                continue
        if status is not None and not _is_regular(status):
            log.warning("%s is no regular file and is left out.", child)
        elif status is not None:
            yield _listed(child, relative, status)
        if link and depth != 1:
            log.warning("%s is a link to a folder and is not entered.", child)
        yield from _walk(below, f"{relative}/", depth and depth - 1)


def _listed(path: Any, relative: str, status: Any) -> Listed:
    # Stores that do not say when say 0.
    written = status.st_mtime if status.st_mtime or "://" not in str(path) else None
    return Listed(str(path), relative, int(status.st_size), modified=status.st_mtime, written=written)


def _is_regular(status: Any) -> bool:
    mode = getattr(status, "st_mode", 0)
    return not mode or stat.S_ISREG(mode)


def _sorted_children(folder: Any) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda child: str(child.name))


def _fingerprint(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime}"


@contextmanager
def _reading(path: Any) -> Iterator[None]:
    """Turn whatever a store's library raises into an error that names the path."""
    try:
        yield
    except (SourceError, SourceChangedError):
        raise
    except FileNotFoundError:
        raise SourceError(
            f"{path} does not exist. Check the path, and that this worker can see it.", path=str(path)
        ) from None
    except IsADirectoryError:
        raise not_a_file(str(path)) from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        retryable = not isinstance(error, PERMANENT)
        raise SourceError(
            f"{path} cannot be read: {reason}. Check the path and its permissions.",
            path=str(path),
            retryable=retryable,
        ) from error
