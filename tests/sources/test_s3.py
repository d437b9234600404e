"""Objects in S3: prefixes, versions and the replies of AWS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.response import StreamingBody  # type: ignore[import-untyped]
from moto.s3.models import s3_backends

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo
from airflow_360.sources.file_info import plain_etag
from airflow_360.sources.listing import list_files, list_scans
from airflow_360.sources.s3 import S3Location, S3Source


def put(s3: Any, bucket: str, *keys: str, body: bytes = b"0123456789") -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def paths(s3: Any, bucket: str, key: str, recursive: bool = False) -> list[str]:
    """Return the keys of the files that a path means."""
    files = list_files(
        lambda path: S3Location(s3, bucket, path.removeprefix(f"s3://{bucket}").removeprefix("/")),
        f"s3://{bucket}/{key}",
        recursive=recursive,
    )
    return [file.path.removeprefix(f"s3://{bucket}/") for file in files]


# -- listing


def test_prefix(s3: Any, bucket: str) -> None:
    """A key that is neither an object nor a folder is a bare prefix, within its folder unless recursive."""
    put(s3, bucket, "2024-01-01/a.e57", "2024-01-02/b.e57", "2024-02.e57", "2024-03/c.e57", "2025.e57")
    assert paths(s3, bucket, "2024-0") == ["2024-02.e57"]
    assert paths(s3, bucket, "2024-01", recursive=True) == ["2024-01-01/a.e57", "2024-01-02/b.e57"]
    (info,) = S3Location(s3, bucket, "2024-03/c").files(None)
    assert info.relative == "c.e57"


def test_folder_beside_a_longer_name(s3: Any, bucket: str) -> None:
    """A folder's files are listed without those of a folder, or file, whose name only begins like it."""
    put(s3, bucket, "scan/a.e57", "scan2/b.e57", "scan-old.zip")
    assert paths(s3, bucket, "scan", recursive=True) == ["scan/a.e57"]
    assert paths(s3, bucket, "scan") == ["scan/a.e57"]


def test_folder_of_folders_beside_a_longer_name(s3: Any, bucket: str) -> None:
    """A folder that contains only folders is still a folder, not a prefix of the file next to it."""
    put(s3, bucket, "scans/monday/a.e57", "scans-old.zip")
    assert paths(s3, bucket, "scans") == []


def test_object_and_folder_of_one_name(s3: Any, bucket: str) -> None:
    """If an object and a folder have the same name, the slash selects one of them."""
    put(s3, bucket, "scan", "scan/a.e57")
    assert paths(s3, bucket, "scan") == ["scan"]
    assert paths(s3, bucket, "scan/") == ["scan/a.e57"]


def test_folder_markers(s3: Any, bucket: str) -> None:
    """The empty objects that consoles and tools create for folders are not files, and not scans."""
    put(s3, bucket, "scan/", "scan/sub/", "scan/other_$folder$", "lonely/", body=b"")
    put(s3, bucket, "scan/a.e57")
    assert paths(s3, bucket, "scan/", recursive=True) == ["scan/a.e57"]
    assert paths(s3, bucket, "lonely/") == []
    location = S3Location(s3, bucket, "")
    assert list(location.folders()) == [f"s3://{bucket}/lonely/", f"s3://{bucket}/scan/"]
    scans = list_scans(
        lambda path: S3Location(s3, bucket, path.removeprefix(f"s3://{bucket}/")), f"s3://{bucket}/"
    )
    assert scans == [f"s3://{bucket}/scan/"]


@pytest.mark.parametrize("above", ["", "day/"], ids=["bucket", "folder"])
def test_folder_without_a_name(s3: Any, bucket: str, caplog: pytest.LogCaptureFixture, above: str) -> None:
    """Keys with two slashes in a row make no scan of the objects next to them; the log names them."""
    put(s3, bucket, f"{above}/a.e57", f"{above}bridge/b.e57")
    assert list(S3Location(s3, bucket, above).folders()) == [f"s3://{bucket}/{above}bridge/"]
    assert f"the objects below s3://{bucket}/{above}/" in caplog.text


@pytest.mark.long
def test_more_than_a_thousand_keys(s3: Any, bucket: str) -> None:
    """A folder of more files, or folders, than S3 lists in one reply is listed to its end."""
    store = s3_backends["123456789012"]["aws"]  # the server's own, which saves a thousand requests
    wanted = [f"scan/{n:04}.e57" for n in range(1001)]
    for key in (*wanted, *(f"folders/{n:04}/a.e57" for n in range(1001))):
        store.put_object(bucket, key, b"x")
    assert paths(s3, bucket, "scan/") == wanted
    assert paths(s3, bucket, "scan/*.e57") == wanted
    assert len(list(S3Location(s3, bucket, "folders").folders())) == 1001
    assert len(paths(s3, bucket, "", recursive=True)) == 2002


def test_odd_keys(s3: Any, bucket: str) -> None:
    """Keys with blanks, signs and other scripts are listed and read as they are."""
    keys = ["a b/ü #1?.e57", "a b/x%20y+z.e57", "a b/点群.e57"]
    put(s3, bucket, *keys)
    location = S3Location(s3, bucket, "a b")
    files = list(location.files(1))
    assert [file.path.removeprefix(f"s3://{bucket}/") for file in files] == sorted(keys)
    assert [location.source(file).open(8).read(9) for file in files] == [b"89"] * 3


def test_missing_bucket(s3: Any) -> None:
    """A bucket that does not exist is named, by listing and by looking at one key, and not worth a retry."""
    for key in ("", "scan/", "scan"):
        location = S3Location(s3, "no-such-bucket", key)
        with pytest.raises(SourceError, match=f"s3://no-such-bucket/{key} .* no such bucket") as raised:
            list(location.files(1))
        assert not raised.value.retryable
    with pytest.raises(SourceError, match=r"s3://no-such-bucket/a\.e57 .* no such object or bucket"):
        S3Location(s3, "no-such-bucket", "a.e57").info()
    assert not S3Location(s3, "no-such-bucket", "a.e57").is_file()


def test_missing_object(s3: Any, bucket: str) -> None:
    """An object that does not exist is named."""
    location = S3Location(s3, bucket, "none.e57")
    assert not location.is_file()
    with pytest.raises(SourceError, match=r"none\.e57 .* no such object") as raised:
        location.info()
    assert (raised.value.path, raised.value.retryable) == (f"s3://{bucket}/none.e57", False)


@pytest.mark.parametrize("key", ["", "scan/"])
def test_folder_where_a_file_is_meant(s3: Any, bucket: str, key: str) -> None:
    """A bucket or a folder instead of a file is an error that names the operator for folders."""
    put(s3, bucket, "scan/a.e57")
    location = S3Location(s3, bucket, key)
    assert not location.is_file()
    with pytest.raises(SourceError, match="UploadFilesOperator"):
        location.info()


def test_connection_in_the_path(s3: Any, bucket: str) -> None:
    """A path that names its connection keeps doing so in everything that is listed, and still opens."""
    put(s3, bucket, "scans/monday/a.e57")
    root = f"s3://my_aws@{bucket}"

    def location(path: str) -> S3Location:
        authority, _, key = path.removeprefix("s3://").partition("/")
        return S3Location(s3, authority, key)

    (info,) = list_files(location, f"{root}/scans/*/*.e57")
    assert (info.path, info.relative) == (f"{root}/scans/monday/a.e57", "monday/a.e57")
    assert list_scans(location, f"{root}/scans/") == [f"{root}/scans/monday/"]
    source = location(info.path).source(info)
    assert (source.path, source.open(7).read(9)) == (info.path, b"789")
    assert location(info.path).info() == FileInfo(info.path, "a.e57", 10, info.etag)


# -- reading


def test_reading(s3: Any, bucket: str) -> None:
    """An object streams from any offset, any number of times, in blocks of at most the requested size."""
    put(s3, bucket, "a.e57")
    location = S3Location(s3, bucket, "a.e57")
    source = location.source(location.info())
    assert (source.path, source.size, source.fingerprint) == (
        f"s3://{bucket}/a.e57",
        10,
        "781e5e245d69b566979b86e28d23f2c7",
    )
    for offset in (0, 4, 4, 9):
        reader = source.open(offset)
        blocks = [reader.read(3) for _ in range(5)]
        assert b"".join(blocks) == b"0123456789"[offset:]
        assert max(map(len, blocks)) <= 3
        reader.close()


def test_a_range_is_one_request_for_exactly_its_bytes(s3: Any, bucket: str) -> None:
    """A range is read with one request for exactly its bytes, of the listed version only."""
    put(s3, bucket, "a.e57")
    location = S3Location(s3, bucket, "a.e57")
    source = location.source(location.info())
    asked: list[Any] = []
    s3.meta.events.register("provide-client-params.s3.GetObject", lambda params, **_: asked.append(params))
    assert [source.read_range(0, 4), source.read_range(7, 3), source.read_range(8, 9)] == [
        b"0123",
        b"789",
        b"89",
    ]
    assert [request["Range"] for request in asked] == ["bytes=0-3", "bytes=7-9", "bytes=8-16"]
    put(s3, bucket, "a.e57", body=b"9876543210")
    with pytest.raises(SourceChangedError):
        source.read_range(0, 4)


@pytest.mark.parametrize("size", [10, 11, 9], ids=["same size", "longer", "shorter"])
def test_replaced_object(s3: Any, bucket: str, size: int) -> None:
    """An object that was replaced after its listing is never read, at any size and offset."""
    put(s3, bucket, "a.e57")
    location = S3Location(s3, bucket, "a.e57")
    source = location.source(location.info())
    put(s3, bucket, "a.e57", body=bytes(size))
    for offset in (0, 5):
        with pytest.raises(SourceChangedError, match=rf"s3://{bucket}/a\.e57 changed") as raised:
            source.open(offset)
        assert not raised.value.retryable


class WeakTags:
    """A client of an S3-compatible store whose ETags are weak, and never match a condition."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def head_object(self, **request: Any) -> Any:
        return self._weak(self._client.head_object(**request))

    def get_object(self, **request: Any) -> Any:
        assert "IfMatch" not in request  # RFC 9110: If-Match compares strongly, and so never matches
        return self._weak(self._client.get_object(**request))

    def _weak(self, reply: dict[str, Any]) -> dict[str, Any]:
        return {**reply, "ETag": f"W/{reply['ETag']}"}


def test_weak_etags(s3: Any, bucket: str) -> None:
    """A weak ETag is not sent as a condition; an object that was replaced is noticed by its new one."""
    put(s3, bucket, "a.e57")
    location = S3Location(WeakTags(s3), bucket, "a.e57")
    info = location.info()
    assert info.etag == 'W/"781e5e245d69b566979b86e28d23f2c7"'
    source = location.source(info)
    assert source.open(4).read(3) == b"456"
    put(s3, bucket, "a.e57", body=b"9876543210")
    with pytest.raises(SourceChangedError, match=r"a\.e57 changed"):
        source.open(4)


@pytest.mark.parametrize(
    ("etag", "plain"), [('"a"', "a"), ("a", "a"), ('W/"a"', 'W/"a"'), ('""', "")], ids=str
)
def test_plain_etags(etag: str, plain: str) -> None:
    """An ETag is compared without quotes, a weak one as it is, however often it was made plain before."""
    assert plain_etag(etag) == plain_etag(plain_etag(etag)) == plain


def test_written_anew_with_the_same_bytes(s3: Any, bucket: str) -> None:
    """An object that was written again with the same bytes is the same object."""
    put(s3, bucket, "a.e57")
    location = S3Location(s3, bucket, "a.e57")
    source = location.source(location.info())
    put(s3, bucket, "a.e57")
    assert source.open(8).read(9) == b"89"


def test_deleted_object(s3: Any, bucket: str) -> None:
    """An object that was deleted since it was listed is named as missing."""
    put(s3, bucket, "a.e57")
    location = S3Location(s3, bucket, "a.e57")
    source = location.source(location.info())
    s3.delete_object(Bucket=bucket, Key="a.e57")
    with pytest.raises(SourceError, match="no such object") as raised:
        source.open(0)
    assert not raised.value.retryable


def test_side_by_side(s3: Any, bucket: str) -> None:
    """Several threads read several objects over one client, each its own."""
    names = [f"{n}.e57" for n in range(6)]
    for name in names:
        put(s3, bucket, name, body=name.encode() * 1000)
    read: dict[str, bytes] = {}

    def work(name: str) -> None:
        location = S3Location(s3, bucket, name)
        reader = location.source(location.info()).open(0)
        read[name] = b"".join(iter(lambda: reader.read(100), b""))
        reader.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {name: name.encode() * 1000 for name in names}


# -- replies of AWS


class FailingS3:
    """A client every call of which fails in one way."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self if name == "get_paginator" else self.fail

    def __call__(self, name: str) -> FailingS3:
        return self

    def fail(self, **request: Any) -> Any:
        raise self.failure


def aws(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "as AWS says"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )


FAILURES: dict[str, tuple[Exception, bool, str]] = {
    "denied": (aws("AccessDenied", 403), False, "needs s3:GetObject"),
    "denied to look": (aws("403", 403), False, "needs s3:GetObject"),
    "archived": (aws("InvalidObjectState", 403), False, "restored first"),
    "no bucket": (aws("NoSuchBucket", 404), False, "no such bucket"),
    "wrong key": (aws("SignatureDoesNotMatch", 403), False, "SignatureDoesNotMatch"),
    "expired": (aws("ExpiredToken", 400), True, "ExpiredToken"),
    "no credentials": (NoCredentialsError(), False, "no credentials"),
    "slow down": (aws("SlowDown", 503), True, "SlowDown"),
    "internal": (aws("InternalError", 500), True, "InternalError"),
    "timeout": (ReadTimeoutError(endpoint_url="https://s3"), True, "ReadTimeoutError"),
    "no network": (EndpointConnectionError(endpoint_url="https://s3"), True, "EndpointConnectionError"),
}


@pytest.mark.parametrize(("failure", "retryable", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_every_failure_becomes_one_error(failure: Exception, retryable: bool, said: str) -> None:
    """Any error of AWS, at any call, becomes one error with the path, retryable if it is temporary."""
    location = S3Location(FailingS3(failure), "bucket", "a.e57")
    source = location.source(FileInfo("s3://bucket/a.e57", "a.e57", 10, "etag"))
    for call in (
        lambda: source.open(0),
        location.info,
        location.is_file,
        lambda: list(location.files(1)),
        lambda: list(location.folders()),
    ):
        with pytest.raises(SourceError, match=r"s3://bucket/a\.e57 cannot be read") as raised:
            call()
        assert (raised.value.path, raised.value.retryable) == ("s3://bucket/a.e57", retryable)
        assert said in str(raised.value)


class CutOff:
    """The raw body of an object whose connection ends early."""

    def __init__(self) -> None:
        self.blocks = [b"01234", b""]

    def read(self, size: int | None = None) -> bytes:
        return self.blocks.pop(0)

    def close(self) -> None:
        self.blocks = []


def test_a_connection_that_ends_early() -> None:
    """An object whose connection ends before its last byte is not mistaken for a shorter one."""

    class Client:
        def get_object(self, **request: Any) -> Any:
            return {"Body": StreamingBody(CutOff(), 10), "ETag": '"x"'}

    source = S3Source(Client(), "bucket", "a.e57", path="s3://bucket/a.e57", size=10, etag="x")
    reader = source.open(0)
    assert reader.read(100) == b"01234"
    with pytest.raises(SourceError, match="IncompleteRead") as raised:
        reader.read(100)
    assert raised.value.retryable


def test_what_is_asked_for() -> None:
    """A read asks for the rest of the object from its offset, and only of the version that was listed."""
    asked: list[dict[str, Any]] = []

    class Client:
        def get_object(self, **request: Any) -> Any:
            asked.append(request)
            return {"Body": StreamingBody(CutOff(), 10), "ETag": '"abc-3"'}

    info = FileInfo("s3://bucket/scan/a.e57", "a.e57", 10, "abc-3")
    S3Location(Client(), "bucket", "scan").source(info).open(7)
    assert asked == [{"Bucket": "bucket", "Key": "scan/a.e57", "Range": "bytes=7-", "IfMatch": '"abc-3"'}]


@pytest.mark.parametrize("reply", [{"ETag": '"new"'}, {"ETag": 'W/"old"'}, {}], ids=["other", "weak", "none"])
def test_a_store_that_ignores_the_condition(reply: dict[str, str]) -> None:
    """Some stores answer 206 to a wrong ETag. The ETag of the reply shows that the bytes are different."""
    body = CutOff()

    class Client:
        def get_object(self, **request: Any) -> Any:
            return {"Body": body, **reply}

    source = S3Location(Client(), "bucket", "").source(FileInfo("s3://bucket/a.e57", "a.e57", 10, "old"))
    with pytest.raises(SourceChangedError, match=r"a\.e57 changed"):
        source.open(0)
    assert body.blocks == []  # closed
