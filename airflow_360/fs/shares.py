"""fsspec's file system for Windows shares, with one request per folder and Python's standard errors.

Separate because it imports ``smbclient``, which only a task that reads a share needs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import smbclient  # type: ignore[import-not-found,import-untyped,unused-ignore]
from fsspec.implementations.smb import SMBFileSystem  # type: ignore[import-untyped]
from smbprotocol.exceptions import SMBOSError  # type: ignore[import-not-found,import-untyped,unused-ignore]
from smbprotocol.header import NtStatus  # type: ignore[import-not-found,import-untyped,unused-ignore]

__all__ = ["Shares"]

MICROSECONDS_PER_SECOND = 1_000_000
#: The share does not exist; or no file can have this name, for example a glob.
MISSING_STATUSES = (NtStatus.STATUS_BAD_NETWORK_NAME, NtStatus.STATUS_OBJECT_NAME_INVALID)


class Shares(SMBFileSystem):  # type: ignore[misc]
    """The shares of one server. A listing returns the same info about a file as :meth:`info`."""

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return size, type and modification time of a file or folder."""
        with _own_errors(path):
            status = smbclient.stat(self._address(path), port=self.port, **kwargs)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        return _info(path, kind, status.st_size, status.st_mtime_ns // 1000)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder, without fsspec's extra request for each file."""
        folder = path.rstrip("/")
        with _own_errors(path), smbclient.scandir(self._address(path), port=self.port, **kwargs) as entries:
            found = [_info_of_entry(f"{folder}/{entry.name}", entry) for entry in entries]
        return found if detail else [info["name"] for info in found]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        with _own_errors(path):
            return super()._open(path, mode, **kwargs)

    def _address(self, path: str) -> str:
        return f"\\\\{self.host}" + path.replace("/", "\\")


def _info_of_entry(name: str, entry: Any) -> dict[str, Any]:
    kind = "link" if entry.is_symlink() else "directory" if entry.is_dir() else "file"
    details = entry.smb_info
    # A listing rounds times down to microseconds.
    return _info(name, kind, details.end_of_file, round(details.last_write_time.timestamp() * 1_000_000))


def _info(name: str, kind: str, size: int, microseconds: int) -> dict[str, Any]:
    return {"name": name, "size": size, "type": kind, "mtime": microseconds / MICROSECONDS_PER_SECOND}


@contextmanager
def _own_errors(path: str) -> Iterator[None]:
    """Raise the same errors as Python for a local file that is missing or forbidden."""
    try:
        yield
    except SMBOSError as error:
        if error.errno == errno.ENOENT or error.ntstatus in MISSING_STATUSES:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if error.ntstatus == NtStatus.STATUS_ACCESS_DENIED:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from error
        raise
