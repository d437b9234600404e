"""Objects in S3, read as one stream from any offset, with a boto3 client that the caller provides.

Separate from ``path`` because a streaming GetObject with ``If-Match`` is several times faster than a file
system on top of S3 and cannot mix two versions of an object.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Reader
from airflow_360.sources.ahead import reading_ahead
from airflow_360.sources.errors import changed, not_a_file
from airflow_360.sources.file_info import plain_etag

__all__ = ["S3Location", "S3Source"]

log = logging.getLogger(__name__)

DENIED = "access is denied (needs s3:GetObject and s3:ListBucket)"
_SIGNER = "choose-signer.s3.GetObject"  # the event that botocore emits before it signs


class S3Source:
    """An object, read as a stream.

    Every read has an ``If-Match`` header, so that two versions are never mixed. A weak ETag never matches
    there (RFC 9110), and some S3-compatible stores ignore the condition, so the ETag of each reply is also
    compared.

    :param client: a boto3 S3 client.
    :param bucket: the bucket's name.
    :param key: the object's key.
    :param path: the path as a user would write it.
    :param size: length in bytes.
    :param etag: the ETag, without quotes; a weak one is unchanged.
    """

    def __init__(self, client: Any, bucket: str, key: str, *, path: str, size: int, etag: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._path = path
        self._size = size
        self._etag = etag

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return self._path

    @property
    def size(self) -> int:
        """Return the length in bytes."""
        return self._size

    @property
    def fingerprint(self) -> str:
        """Return the ETag."""
        return self._etag

    def open(self, offset: int) -> Reader:
        """Start a GetObject at an offset, and read ahead of the upload.

        :param offset: bytes from the start; less than ``size``.
        :raises SourceChangedError: if the object has another ETag now.
        :raises SourceError: if it cannot be read.
        """
        return reading_ahead(_S3Reader(self._get(f"bytes={offset}-"), self._path), self._size - offset)

    def read_range(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range with one GetObject; the errors are those of :meth:`open`."""
        reader = _S3Reader(self._get(f"bytes={offset}-{offset + length - 1}"), self._path)
        try:
            return reader.read(length)
        finally:
            reader.close()

    def check(self) -> None:
        """Do nothing: every read already checks the ETag."""

    def _get(self, range_: str) -> Any:
        condition = {} if _is_weak(self._etag) else {"IfMatch": f'"{self._etag}"'}
        with _reading(self._path):
            reply = self._client.get_object(Bucket=self._bucket, Key=self._key, Range=range_, **condition)
        if plain_etag(reply.get("ETag", "")) != self._etag:
            reply["Body"].close()
            raise changed(self._path)
        return reply["Body"]


class _S3Reader:
    def __init__(self, body: Any, path: str) -> None:
        self._body = body
        self._path = path

    def read(self, size: int, /) -> bytes:
        with _reading(self._path):
            block: bytes = self._body.read(size)
            return block

    def close(self) -> None:
        self._body.close()


class S3Location:
    """A key or prefix of a bucket.

    :param client: a boto3 S3 client.
    :param authority: the part between ``s3://`` and the key: the bucket, perhaps after ``conn_id@``.
    :param key: a key, or a prefix; empty is the whole bucket.
    """

    def __init__(self, client: Any, authority: str, key: str) -> None:
        self._client = client
        self._authority = authority
        self._bucket = authority.rpartition("@")[2]
        self._key = key

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return self._path_of(self._key)

    def is_file(self) -> bool:
        """Return whether an object has exactly this key."""
        if not self._key or self._key.endswith("/"):
            return False
        try:
            self.info()
        except SourceError as error:
            if _code(error.__cause__) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
        return True

    def is_folder(self) -> bool:
        """Return whether there is any key below this one, with one ListObjectsV2."""
        with _reading(self.path):
            reply = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._folder(), MaxKeys=1)
        return bool(reply.get("KeyCount"))

    def info(self) -> FileInfo:
        """Return the object with this key, with one HeadObject.

        :raises SourceError: if it does not exist or cannot be read.
        """
        if not self._key or self._key.endswith("/"):
            raise not_a_file(self.path)
        with _reading(self.path):
            head = self._client.head_object(Bucket=self._bucket, Key=self._key)
        return self._file_info(self._key.rpartition("/")[2], self._key, head["ContentLength"], head)

    def files(self, depth: int | None) -> Iterator[FileInfo]:
        """Yield the objects below, in the order of their keys.

        The key is used as a folder; if there is nothing in it, as a plain prefix.

        :param depth: how many levels of folders to enter; None all.
        :raises SourceError: if the bucket is missing or listing it is not allowed.
        """
        folder = self._folder()
        if folder == self._key or self.is_folder():
            return self._objects(folder, folder, depth)
        return self._objects(self._key, self._key[: self._key.rfind("/") + 1], depth)

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below that are not hidden, each ending with ``/``.

        A folder without a name, as in ``a//b``, is skipped: its path would mean the folder above it.

        :raises SourceError: as :meth:`files`.
        """
        for page in self._pages(self._folder(), "/"):
            for common in page.get("CommonPrefixes", ()):
                prefix = common["Prefix"]
                name = prefix.removeprefix(self._folder())
                if name == "/":
                    log.warning(
                        "%s: the objects below %s belong to no scan, because their folder has no name.",
                        self.path,
                        self._path_of(prefix),
                    )
                elif not name.startswith("."):
                    yield self._path_of(prefix)

    def refused_folders(self) -> Iterator[FileInfo]:
        """Yield nothing: an object store has no links, and its keys are UTF-8."""
        return iter(())

    def source(self, info: FileInfo) -> S3Source:
        """Return the bytes of a listed object in its listed version."""
        key = info.path.removeprefix(self._path_of(""))
        return S3Source(self._client, self._bucket, key, path=info.path, size=info.size, etag=info.etag or "")

    def link(self, seconds: int) -> str:
        """Return a presigned URL of the object. It is a secret: anybody who has it can read the object.

        :param seconds: how long it is valid, if the credentials are valid that long.
        :raises SourceError: if the object does not exist or cannot be read, checked with one HeadObject.
        """
        self.info()
        parameters = {"Bucket": self._bucket, "Key": self._key}
        signing = self._client.meta.events
        signing.register_first(_SIGNER, _as_of_today)
        try:
            with _reading(self.path), _silent("botocore.auth"):
                url = self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        finally:
            signing.unregister(_SIGNER, _as_of_today)
        return str(url)

    def _folder(self) -> str:
        return f"{self._key.rstrip('/')}/" if self._key.strip("/") else ""

    def _objects(self, prefix: str, base: str, depth: int | None) -> Iterator[FileInfo]:
        for page in self._pages(prefix, "/" if depth == 1 else ""):
            for item in page.get("Contents", ()):
                relative = item["Key"].removeprefix(base)
                if depth is None or relative.count("/") < depth:
                    yield self._file_info(relative, item["Key"], item["Size"], item)

    def _file_info(self, relative: str, key: str, size: int, found: Any) -> FileInfo:
        etag, modified = plain_etag(found["ETag"]), found.get("LastModified")
        written = modified.timestamp() if modified else None
        return FileInfo(self._path_of(key), relative, size, etag, written=written)

    def _pages(self, prefix: str, delimiter: str) -> Iterator[Any]:
        paginator = self._client.get_paginator("list_objects_v2")
        with _reading(self.path):
            yield from paginator.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter=delimiter)

    def _path_of(self, key: str) -> str:
        return f"s3://{self._authority}/{key}"


def _is_weak(etag: str) -> bool:
    return etag.startswith("W/")


def _code(error: BaseException | None) -> str:
    reply = getattr(error, "response", None) or {}
    return str(reply.get("Error", {}).get("Code", ""))


def _as_of_today(signature_version: Any, **_: Any) -> Any:
    """Prevent boto3 from signing URLs in the old way, which encrypted objects and newer regions refuse."""
    return "s3v4-query" if signature_version == "v4-query" else None


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """Prevent a library from logging at debug level, because botocore logs each signature there."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn exceptions of boto3 into errors that name the path."""
    try:
        yield
    except (SourceError, SourceChangedError):
        raise
    except Exception as error:
        raise _translated(error, path) from error


def _translated(error: Exception, path: str) -> SourceError | SourceChangedError:
    code = _code(error) or type(error).__name__
    if code in ("412", "PreconditionFailed"):
        return changed(path)
    reasons = {
        "NoSuchBucket": "there is no such bucket",
        "NoSuchKey": "there is no such object",
        "NotFound": "there is no such object or bucket",
        "404": "there is no such object or bucket",
        "AccessDenied": DENIED,
        "403": DENIED,
        "NoCredentialsError": "the AWS connection gives no credentials",
        "InvalidObjectState": "it is archived and must be restored first",
        "ParamValidationError": "S3 has no buckets or keys of that form",
    }
    status = (getattr(error, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    passing = status >= 500 or status == 429 or code in ("ExpiredToken", "RequestTimeout", "SlowDown")
    reason = reasons.get(code) or f"{type(error).__name__}: {error}"
    return SourceError(
        f"{path} cannot be read: {reason}. Check the path and the AWS connection.",
        path=path,
        retryable=passing and code not in reasons,
    )
