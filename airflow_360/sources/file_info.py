"""What a store's library says about a file, in one form. Pure.

Separate because each library has its own names and types for the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["etag_of", "modified_of", "plain_etag", "version_of"]

#: Names of the time of the last change, in the libraries of fsspec: the first one that is told counts.
TIME_KEYS = ("mtime", "last_modified", "LastModified", "updated", "modified", "modify")
ETAG_KEYS = ("etag", "ETag", "e_tag")


def modified_of(info: Mapping[str, Any]) -> float | None:
    """Return when a file was changed last, in seconds since the epoch; None if its store does not say.

    :param info: what ``info`` or ``ls`` of the library returned.
    """
    for key in TIME_KEYS:
        if (seconds := _seconds(info.get(key))) is not None:
            return seconds
    return None


def version_of(info: Mapping[str, Any]) -> str | None:
    """Return a file's generation, or else its ETag; None if its store tells neither.

    A generation (Google Cloud Storage) changes with the bytes only, the ETag there with metadata too.
    """
    generation = info.get("generation")
    return str(generation) if generation else etag_of(info)


def etag_of(info: Mapping[str, Any]) -> str | None:
    """Return a file's ETag, as :func:`plain_etag` does; None if its store tells none."""
    for key in ETAG_KEYS:
        if etag := info.get(key):
            return plain_etag(str(etag))
    return None


def plain_etag(etag: str) -> str:
    """Return an ETag without quotes; a weak one, like ``W/"a"``, as it is."""
    return etag if etag.startswith("W/") else etag.strip('"')


def _seconds(value: object) -> float | None:
    """Read seconds, a ``datetime`` or a text. 0 and what cannot be read tell nothing."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) or None
    return None


def _parsed(text: str) -> datetime | None:
    """Read a time as ISO 8601, FTP (RFC 3659) or HTTP write it."""
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
