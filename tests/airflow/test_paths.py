"""The forms of a path, and the errors for paths that cannot be opened."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_360.exceptions import SourceError, ThreeSixtyError
from airflow_360.hooks import paths
from airflow_360.hooks.paths import Paths
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from airflow_360.sources.store import StoreLocation
from tests import file_systems


@pytest.fixture(autouse=True)
def no_stores() -> Iterator[None]:
    """The stores that a test registers in Airflow are removed afterwards."""
    stores = sys.modules[paths._attach().__module__]._STORE_CACHE
    before = dict(stores)
    stores.clear()
    yield
    stores.clear()
    stores.update(before)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library of Windows shares, in memory, with a connection to it: ``nas``."""

    class Shares(file_systems.Disk):
        failure: Exception | None = None

        def __init__(self, **options: Any) -> None:
            super().__init__()
            type(self).options = options
            if self.failure:
                raise self.failure

    monkeypatch.setitem(sys.modules, "airflow_360.fs.shares", SimpleNamespace(Shares=Shares))
    connection = {"conn_type": "samba", "host": "nas.example", "login": "me", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_NAS", json.dumps(connection))
    return Shares


def refusal(path: str) -> ThreeSixtyError:
    with pytest.raises(ThreeSixtyError) as raised:
        Paths().open(path, None)
    assert not raised.value.retryable
    assert str(raised.value).isprintable()
    return raised.value


AZURE = "abfs://connection@container/folder/"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("wasb://container@account/scan/", [AZURE, "connection of type wasb"]),
        ("wasbs://container@account/scan/", [AZURE, "connection of type wasb"]),
        ("az://container/scan/", [AZURE]),
        ("adl://container/scan/", [AZURE]),
        ("abfs://container@account.dfs.core.windows.net/scan/", [AZURE, "names the storage account"]),
        ("abfss://container@account.blob.core.windows.net/scan/", [AZURE, "names the storage account"]),
        ("http://example.com/a.e57", ["download_link"]),
        ("https://example.com/a.e57", ["download_link"]),
        ("ftp://host/a.e57", ["Attach a file system of fsspec"]),
        ("webdav://host/a.e57", ["Attach a file system of fsspec"]),
        ("hdfs://host/a.e57", ["No filesystem registered for scheme hdfs"]),
        (r"\\nas\share\a.e57", ["a Windows path", "smb://connection@/share/folder/"]),
        (r"C:\scans\a.e57", ["a Windows path", "smb://connection@/share/folder/"]),
        ("d:/scans/a.e57", ["a Windows path"]),
        ("gs:///scan/", ["names no bucket", "gs://connection@bucket/folder/"]),
        ("abfs://azure@/scan/", ["names no bucket", "abfs://connection@bucket/folder/"]),
        ("s3:///scan/", ["names no bucket"]),
        ("s3://my_aws@/scan/", ["names no bucket"]),
    ],
)
def test_a_path_that_cannot_be_opened_shows_the_right_form(path: str, parts: list[str]) -> None:
    """A path that cannot be opened is a permanent error that names it and shows the right form."""
    error = str(refusal(path))
    for part in [path, *parts]:
        assert part in error


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("gs://bucket/a.e57", "google"),
        ("gcs://bucket/a.e57", "google"),
        ("abfs://azure@container/a.e57", "azure"),
        ("abfss://azure@container/a.e57", "azure"),
        ("sftp://nas@/a.e57", "sftp"),
        ("ssh://nas@/a.e57", "sftp"),
    ],
)
def test_a_missing_provider(path: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose provider or library is not installed names the extra that brings it."""

    def attach(**_: Any) -> Any:
        raise ImportError("Please install the library")

    monkeypatch.setattr(paths, "_attach", lambda: attach)
    error = refusal(path)
    for part in (path, "Please install the library", f"airflow-provider-360[{extra}]"):
        assert part in str(error)


# -- local paths


@pytest.mark.parametrize("scheme", ["", "file://", "local://", "file://localhost"])
def test_local_paths(tmp_path: Path, scheme: str) -> None:
    """A URL of a local file is the file's path, with any characters."""
    for name in ("a.e57", "a?b#c%41.e57", "büro 1.e57"):
        (tmp_path / name).write_bytes(b"points")
        location = Paths().open(f"{scheme}{tmp_path}/{name}", None)
        assert isinstance(location, PathLocation)
        info = location.info()
        assert (info.path, info.size) == (f"{tmp_path}/{name}", 6)


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is one of the worker's folder, and a tilde the home of its user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Paths().open("scan", None).path == f"{tmp_path}/scan"  # type: ignore[attr-defined]
    assert Paths().open("~/scan", None).path == f"{tmp_path}/home/scan"  # type: ignore[attr-defined]


def test_links_are_followed_if_wanted(tmp_path: Path) -> None:
    """A URL follows links as a path does, only if the caller trusts them."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "a.e57").write_bytes(b"points")
    (tmp_path / "scan" / "a.e57").symlink_to(tmp_path / "a.e57")
    (refused,) = Paths().open(f"file://{tmp_path}/scan", None).files(1)
    (followed,) = Paths().open(f"file://{tmp_path}/scan", None, follow_links=True).files(1)
    assert ("leads out" in refused.fault, followed.fault) == (True, "")


# -- stores


def test_an_attached_file_system_is_used_and_opened_once(caplog: pytest.LogCaptureFixture) -> None:
    """A file system that a DAG file attached is used for its scheme and connection, and opened once."""
    fs = file_systems.fresh(file_systems.TextTimes)
    fs.put("/scan/a.e57", b"points")
    opened = Paths()
    with file_systems.attached(fs, "ftp", "nas"):
        for path in ("ftp://nas@/scan/a.e57", "ftp://nas@/scan"):
            assert isinstance(opened.open(path, None), StoreLocation)
        (info,) = opened.open("ftp://nas@/scan", None).files(None)
    assert (info.path, info.size) == ("ftp://nas@/scan/a.e57", 6)
    assert len(opened._stores) == 1
    assert "ftp://other@/scan" in str(refusal("ftp://other@/scan"))  # another connection is another store


def test_a_store_without_a_slash() -> None:
    """A bucket without a slash at the end is the whole bucket."""
    fs = file_systems.fresh(file_systems.GoogleCloud)
    fs.put("bucket/a.e57", b"points")
    with file_systems.attached(fs, "gs"):
        (info,) = Paths().open("gs://bucket", None).files(None)
    assert info.path == "gs://bucket/a.e57"


def test_every_spelling_of_s3_uses_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spelling of S3 uses boto3, once for each connection; the connection in the path wins."""
    asked: list[Any] = []

    class Hook:
        def __init__(self, conn_id: str | None) -> None:
            asked.append(conn_id)

        def get_conn(self) -> object:
            return object()

    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.s3.S3Hook", Hook)
    opened = Paths()
    for path in ("s3://bucket/a.e57", "s3a://bucket", "s3n://bucket/", "s3://mine@bucket/a.e57"):
        assert isinstance(opened.open(path, "aws_default"), S3Location)
    assert asked == ["aws_default", "mine"]


@pytest.mark.parametrize(
    ("scheme", "logger"),
    [("abfs", "azure.core.pipeline.policies.http_logging_policy"), ("smb", "smbprotocol")],
)
def test_talkative_libraries(scheme: str, logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that logs every request is kept out of the task's log, unless somebody set its level."""
    fs = file_systems.fresh(file_systems.KINDS[scheme])
    talker = logging.getLogger(logger)
    for level, then in ((logging.NOTSET, logging.WARNING), (logging.DEBUG, logging.DEBUG)):
        monkeypatch.setattr(talker, "level", level)
        with file_systems.attached(fs, scheme, "nas"):
            Paths().open(f"{scheme}://nas@bucket/a.e57", None)
        assert talker.level == then


# -- connections


def test_a_share(shares: Any) -> None:
    """A Windows share is opened by Airflow's connection, without any more ado."""
    shares.put("/share/a.e57", b"points")
    (info,) = Paths().open("smb://nas@/share/", None).files(None)
    assert (info.path, info.size) == ("smb://nas@/share/a.e57", 6)
    assert (shares.options["host"], shares.options["username"]) == ("nas.example", "me")


def test_unknown_connection(shares: Any) -> None:
    """A connection that does not exist is final, and named."""
    error = str(refusal("smb://nowhere@/share/a.e57"))
    assert "smb://nowhere@/share/a.e57" in error
    assert "connection 'nowhere'" in error


def test_no_connection(shares: Any) -> None:
    """A share without a connection is an error that says that it needs one."""
    assert "smb://connection@/share/folder/" in str(refusal("smb:///share/a.e57"))


@pytest.mark.parametrize("failure", file_systems.REFUSALS.values(), ids=file_systems.REFUSALS.keys())
def test_wrong_credentials(shares: Any, failure: Exception) -> None:
    """Credentials that are wrong when the file system is opened are final, with connection and reason."""
    shares.failure = failure
    error = str(refusal("smb://nas@/share/a.e57"))
    for part in ("smb://nas@/share/a.e57", "connection 'nas'", str(failure)):
        assert part in error
    assert "secret" not in error


@pytest.mark.parametrize(
    "failure", [TypeError("missing 1 required positional argument: 'host'"), KeyError("host")]
)
def test_a_connection_that_lacks_a_setting(shares: Any, failure: Exception) -> None:
    """The error of a library about a missing setting is permanent too."""
    shares.failure = failure
    assert "connection 'nas'" in str(refusal("smb://nas@/share/a.e57"))


def test_an_unreachable_server_is_retryable(shares: Any) -> None:
    """A server that cannot be reached may be reached later."""
    shares.failure = OSError(113, "No route to host")
    with pytest.raises(SourceError, match="No route to host") as raised:
        Paths().open("smb://nas@/share/a.e57", None)
    assert raised.value.retryable
