"""fsspec's file system of Windows shares, with one request for a folder and Python's own errors.

Separate because it imports ``smbclient``, and only a task that reads a share needs that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import smbclient  # type: ignore[import-not-found,import-untyped,unused-ignore]
from fsspec.implementations.smb import SMBFileSystem  # type: ignore[import-untyped]
from smbprotocol.exceptions import SMBOSError  # type: ignore[import-not-found,import-untyped,unused-ignore]
from smbprotocol.header import NtStatus  # type: ignore[import-not-found,import-untyped,unused-ignore]

__all__ = ["Shares"]

MICROSECOND = 1e-6
#: There is no such share; or a name, such as a glob, that no file can have.
MISSING = (NtStatus.STATUS_BAD_NETWORK_NAME, NtStatus.STATUS_OBJECT_NAME_INVALID)


class Shares(SMBFileSystem):  # type: ignore[misc]
    """The shares of one server. A listing says of a file what a look at the file says."""

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return size, type and modification time of a file or folder."""
        with _own_errors(path):
            info: dict[str, Any] = super().info(path, **kwargs)
            status = smbclient.stat(self._address(path), port=self.port)
        return {**info, "mtime": (status.st_mtime_ns // 1000) * MICROSECOND}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder: fsspec asks for each file in it once more."""
        folder = path.rstrip("/")
        with _own_errors(path), smbclient.scandir(self._address(path), port=self.port, **kwargs) as entries:
            found = [_info(f"{folder}/{entry.name}", entry) for entry in entries]
        return found if detail else [info["name"] for info in found]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        with _own_errors(path):
            return super()._open(path, mode, **kwargs)

    def _address(self, path: str) -> str:
        return f"\\\\{self.host}" + path.replace("/", "\\")


def _info(name: str, entry: Any) -> dict[str, Any]:
    if entry.is_symlink():
        kind = "link"
    else:
        kind = "directory" if entry.is_dir() else "file"
    told = entry.smb_info
    moment = told.last_write_time
    microseconds = round(moment.timestamp() * 1_000_000)
    return {"name": name, "size": told.end_of_file, "type": kind, "mtime": microseconds * MICROSECOND}


@contextmanager
def _own_errors(path: str) -> Iterator[None]:
    """Raise what Python raises of a local file that is missing or forbidden."""
    try:
        yield
    except SMBOSError as error:
        if error.errno == errno.ENOENT or error.ntstatus in MISSING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if error.ntstatus == NtStatus.STATUS_ACCESS_DENIED:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from error
        raise
