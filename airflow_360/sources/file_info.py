"""The info of a store's library about a file, in one common form. Pure.

Separate because each library has its own names and types for the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["etag_of", "modified_of", "plain_etag", "version_of"]

#: Names for the time of the last change in fsspec libraries; the first one that is present is used.
TIME_KEYS = ("mtime", "last_modified", "LastModified", "updated", "modified", "modify")
ETAG_KEYS = ("etag", "ETag", "e_tag")


def modified_of(info: Mapping[str, Any]) -> float | None:
    """Return the time of a file's last change in seconds since the epoch, or None if it is not known.

    :param info: the result of ``info`` or ``ls`` in the library.
    """
    for key in TIME_KEYS:
        if (seconds := _seconds(info.get(key))) is not None:
            return seconds
    return None


def version_of(info: Mapping[str, Any]) -> str | None:
    """Return a file's generation, or else its ETag; None if its store reports neither.

    A generation (Google Cloud Storage) changes only with the bytes, the ETag there also with the metadata.
    """
    generation = info.get("generation")
    return str(generation) if generation else etag_of(info)


def etag_of(info: Mapping[str, Any]) -> str | None:
    """Return a file's ETag in the form of :func:`plain_etag`; None if its store reports none."""
    for key in ETAG_KEYS:
        if etag := info.get(key):
            return plain_etag(str(etag))
    return None


def plain_etag(etag: str) -> str:
    """Return an ETag without quotes; a weak one, like ``W/"a"``, is returned unchanged."""
    return etag if etag.startswith("W/") else etag.strip('"')


def _seconds(value: object) -> float | None:
    """Read seconds, a ``datetime`` or a string. Return None for 0 and for unreadable values."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) or None
    return None


def _parsed(text: str) -> datetime | None:
    """Read a time in the format of ISO 8601, FTP (RFC 3659) or HTTP."""
    readers = (
        datetime.fromisoformat,
        lambda text: datetime.strptime(f"{text[:14]}+0000", "%Y%m%d%H%M%S%z"),
        parsedate_to_datetime,
    )
    for read in readers:
        try:
            return read(text)
        except ValueError:
            pass
    return None
