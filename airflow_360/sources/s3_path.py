"""How paths of S3 are written. Separate from the source, so that reading a path imports little."""

from __future__ import annotations

from typing import NamedTuple

from airflow_360.exceptions import SourceError

__all__ = ["S3Path", "parse_s3_path"]

S3_SCHEMES = ("s3", "s3a", "s3n")


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
