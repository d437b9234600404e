"""Files behind a path-like: ``pathlib`` for local ones, Airflow's ``ObjectStoragePath`` for any other store.

Both open, list and stat in one way, so one reading of them serves all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import Listed, Reader
from airflow_360.sources.names import is_hidden

__all__ = ["PathLocation", "PathSource"]

#: What is never a passing fault, whatever store it comes from.
PERMANENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


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
    def fingerprint(self) -> str:
        """Return size and modification time."""
        return _fingerprint(self._stat)

    def open(self, offset: int) -> Reader:
        """Open the file and go to an offset.

        :param offset: bytes from the start.
        :raises SourceChangedError: when size or modification time are others than at the first look.
        :raises SourceError: when the file cannot be read.
        """
        with _reading(self._path):
            now = _fingerprint(self._path.stat())
            if now != self.fingerprint:
                raise SourceChangedError(
                    f"{self.path} changed while it was being uploaded (size-time {self.fingerprint} became "
                    f"{now}). Let it be written to the end first, then clear the session task to start over."
                )
            file = self._path.open("rb")
            file.seek(offset)
        return _PathReader(file, self.path)


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

    def listed(self) -> Listed:
        """Return the file that is there.

        :raises SourceError: when it is a folder or nothing, or cannot be read.
        """
        with _reading(self._path):
            if self._path.is_dir():
                raise IsADirectoryError
            return Listed(self.path, self._path.name, int(self._path.stat().st_size))

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

        :raises SourceChangedError: when its size is no longer the listed one.
        """
        source = PathSource(self._path if listed.path == self.path else type(self._path)(listed.path))
        if source.size != listed.size:
            raise SourceChangedError(
                f"{listed.path} had {listed.size:,} bytes when it was listed and has {source.size:,} now. "
                "Clear the listing task, or the session task if the upload had begun."
            )
        return source

    def _children(self) -> list[Any]:
        with _reading(self._path):
            if not self._path.exists():
                if not self._path.parent.exists():
                    raise FileNotFoundError
                return []
            return _sorted_children(self._path)


def _walk(children: list[Any], prefix: str, depth: int | None) -> Iterator[Listed]:
    for child in children:
        relative = f"{prefix}{child.name}"
        with _reading(child):
            if not child.is_dir():
                yield Listed(str(child), relative, int(child.stat().st_size))
                continue
            enter = depth != 1 and not is_hidden(child.name) and not child.is_symlink()
            below = _sorted_children(child) if enter else []
        yield from _walk(below, f"{relative}/", depth and depth - 1)


def _sorted_children(folder: Any) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda child: str(child.name))


def _fingerprint(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime}"


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
        raise SourceError(
            f"{path} is a folder where a file is meant; for folders use UploadFilesOperator.", path=str(path)
        ) from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        retryable = not isinstance(error, PERMANENT)
        raise SourceError(f"{path} cannot be read: {reason}.", path=str(path), retryable=retryable) from error
