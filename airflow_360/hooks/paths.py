"""Opening of paths: from a path that a user wrote to a location that can be listed and read.

Separate because only this module knows how paths are written, and looks up the connections of stores.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_360.exceptions import SourceError, ThreeSixtyError

if TYPE_CHECKING:
    from airflow_360.sources import Location

__all__ = ["Paths", "S3Path", "parse_s3_path"]

S3_SCHEMES = ("s3", "s3a", "s3n")
LOCAL_SCHEMES = ("file", "local")
WINDOWS_PATH = re.compile(r"\\\\|[A-Za-z]:[\\/]")
AZURE_HOST = ".core.windows.net"
#: Loggers of libraries that write about thirty lines for each file or connection.
TALKATIVE = {
    "abfs": "azure.core.pipeline.policies.http_logging_policy",
    "abfss": "azure.core.pipeline.policies.http_logging_policy",
    "smb": "smbprotocol",
}
AZURE = "abfs://connection@container/folder/"
ATTACH = (
    "Attach a file system of fsspec at the top of the DAG file, as the documentation shows under Object "
    "stores, or mount the share on the workers."
)
#: The next step if no file system is registered for a scheme.
ADVICE = {
    "abfs": "Install airflow-provider-360[azure].",
    "abfss": "Install airflow-provider-360[azure].",
    "adl": f"Write it like {AZURE}.",
    "az": f"Write it like {AZURE}.",
    "ftp": ATTACH,
    "gcs": "Install airflow-provider-360[google].",
    "gs": "Install airflow-provider-360[google].",
    "http": "Pass the URL to CreateProjectOperator as download_link: the server fetches it.",
    "https": "Pass the URL to CreateProjectOperator as download_link: the server fetches it.",
    "sftp": "Install airflow-provider-360[sftp].",
    "smb": "Install airflow-provider-360[smb].",
    "ssh": "Install airflow-provider-360[sftp].",
    "wasb": f"Write it like {AZURE}, with a connection of type wasb.",
    "wasbs": f"Write it like {AZURE}, with a connection of type wasb.",
    "webdav": ATTACH,
}
OTHER_ADVICE = "Install the provider that brings it."


class S3Path(NamedTuple):
    """The parts of ``s3://[conn_id@]bucket/key``."""

    conn_id: str
    bucket: str
    key: str

    @property
    def authority(self) -> str:
        """Return connection and bucket as they are written in the path."""
        return f"{self.conn_id}@{self.bucket}" if self.conn_id else self.bucket


def parse_s3_path(path: str) -> S3Path | None:
    """Return the parts of an S3 path; None for any other path.

    :param path: as a user writes it.
    :raises SourceError: if it names no bucket.
    """
    scheme, remote, rest = path.partition("://")
    if not remote or scheme not in S3_SCHEMES:
        return None
    authority, _, key = rest.partition("/")
    conn_id, _, bucket = authority.rpartition("@")
    if not bucket:
        raise SourceError(f"{path} names no bucket; write it like s3://bucket/folder/.", path=path)
    return S3Path(conn_id, bucket, key)


class Paths:
    """The opener of paths. It caches clients and file systems, because each one needs a connection lookup."""

    def __init__(self) -> None:
        self._s3_clients: dict[str, Any] = {}
        self._stores: dict[tuple[str, str], Any] = {}

    def open(self, path: str, aws_conn_id: str | None, *, follow_links: bool = False) -> Location:
        """Open a path; a local or S3 path is opened without a request.

        Call it in the task's main thread: Airflow does not look up connections in other threads.

        :param path: local, ``s3://[conn_id@]bucket/key`` or any ``scheme://`` of Airflow's object storage.
        :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
        :param follow_links: whether to follow local links that lead out of the folder.
        :raises SourceError: if it cannot be opened.
        """
        if WINDOWS_PATH.match(path):
            from airflow_360.sources.names import printable

            raise SourceError(
                f"{printable(path)} is a path of Windows. Write smb://connection@/share/folder/, or the path "
                "at which the share is mounted on the worker.",
                path=path,
            )
        if s3 := parse_s3_path(path):
            from airflow_360.sources.s3 import S3Location

            return S3Location(self.s3_client(s3.conn_id or aws_conn_id), s3.authority, s3.key)
        scheme, remote, rest = path.partition("://")
        if remote and scheme not in LOCAL_SCHEMES:
            return self._in_store(path, scheme, rest)
        from airflow_360.sources.path import PathLocation

        local = f"/{rest.partition('/')[2]}" if remote else path
        return PathLocation(Path(local).expanduser().absolute(), follow_links=follow_links)

    def s3_client(self, aws_conn_id: str | None) -> Any:
        """Return the boto3 client of an AWS connection.

        :param aws_conn_id: the connection; with None, boto3 uses its own credentials.
        """
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        key = aws_conn_id or ""
        if key not in self._s3_clients:
            self._s3_clients[key] = S3Hook(aws_conn_id).get_conn()
        return self._s3_clients[key]

    def _in_store(self, path: str, scheme: str, rest: str) -> Location:
        from airflow_360.sources.store import OBJECT_STORES, Store, StoreLocation

        authority, slash, _ = rest.partition("/")
        if scheme in OBJECT_STORES and not authority.rpartition("@")[2]:
            raise SourceError(
                f"{path} names no bucket; write it like {scheme}://connection@bucket/folder/.", path=path
            )
        if (scheme, authority) not in self._stores:
            fs = _file_system(path, scheme, authority)
            self._stores[scheme, authority] = Store(fs, scheme, authority)
        return StoreLocation(self._stores[scheme, authority], path if slash else f"{path}/")


def _file_system(path: str, scheme: str, authority: str) -> Any:
    """Return Airflow's file system for a path.

    :raises SourceError: if there is none, or its connection cannot be used.
    """
    from airflow_360.sources.store import store_error

    conn_id, _, host = authority.rpartition("@")
    if host.endswith(AZURE_HOST):
        raise SourceError(
            f"{path} names the storage account, which belongs in the connection. Write it like {AZURE}.",
            path=path,
        )
    if scheme in TALKATIVE and not (logger := logging.getLogger(TALKATIVE[scheme])).level:
        logger.setLevel(logging.WARNING)
    try:
        return _attach()(protocol=scheme, conn_id=conn_id or None).fs
    except Exception as error:
        # No file system for the scheme, no library for it, or a path that our own file system refuses.
        if isinstance(error, (ImportError, ThreeSixtyError)) or "No filesystem registered" in str(error):
            advice = "" if isinstance(error, ThreeSixtyError) else ADVICE.get(scheme, OTHER_ADVICE)
            raise SourceError(f"{path} cannot be opened: {error}. {advice}".rstrip(), path=path) from error
        raise store_error(error, path, conn_id, opening=True) from error


def _attach() -> Callable[..., Any]:
    name = "airflow.sdk.io" if find_spec("airflow.sdk") else "airflow.io.store"
    attach: Callable[..., Any] = import_module(name).attach
    return attach
