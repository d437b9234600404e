"""Windows shares, for example of a NAS: ``smb://connection@/share/folder/`` with a connection of type samba.

Separate because Airflow imports it by name. Airflow's samba provider has no file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_360.exceptions import ConfigurationError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

__all__ = ["get_fs", "schemes"]

schemes = ["smb"]
DEFAULT_PORT = 445
#: Others may read a file at the same time; while somebody writes it, it cannot be opened.
SHARE_ACCESS = "r"


def get_fs(conn_id: str | None, storage_options: dict[str, Any] | None = None) -> AbstractFileSystem:
    """Return the file system of a server; the first part of a path is the share.

    :param conn_id: a connection of type samba: host, login, password, and a port if it is not 445.
    :param storage_options: more arguments for fsspec's ``SMBFileSystem``; they override the connection.
    :raises ConfigurationError: if the path names no connection, or the connection no host.
    """
    if not conn_id:
        raise ConfigurationError("smb:// needs a connection: write smb://connection@/share/folder/")
    from airflow_360.fs.shares import Shares

    connection = BaseHook.get_connection(conn_id)
    if not connection.host:
        raise ConfigurationError(f"connection {conn_id!r} has no host: set it")
    options = {
        "host": connection.host,
        "port": connection.port or DEFAULT_PORT,
        "username": connection.login,
        "password": connection.password,
        "share_access": SHARE_ACCESS,
    }
    return Shares(**{**options, **(storage_options or {})})
