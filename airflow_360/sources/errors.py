"""Errors about paths that are the same for all stores."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo
from airflow_360.sources.names import printable
from airflow_360.texts import first_few

__all__ = ["changed", "missing", "not_a_file", "refused", "refused_file"]


def missing(path: str) -> SourceError:
    """Return the error for a path that does not exist."""
    return SourceError(
        f"{printable(path)} does not exist. Check the path, and that this worker can see it.", path=path
    )


def changed(path: str, before: FileInfo | None = None, now: FileInfo | None = None) -> SourceChangedError:
    """Return the error for a file that was replaced or modified.

    :param path: the file.
    :param before: the file as it was listed, if known.
    :param now: the file now.
    """
    what = f" ({_difference(before, now)})" if before and now else ""
    return SourceChangedError(
        f"{printable(path)} changed after it was listed or its upload started{what}. Wait until it is "
        "completely written, then clear the session task to start over."
    )


def _difference(before: FileInfo, now: FileInfo) -> str:
    for name, field in (("size", "size"), ("ETag", "etag"), ("modification time", "modified")):
        old, new = getattr(before, field), getattr(now, field)
        if old != new:
            return f"its {name} was {old} and is {new}"
    return "its inode or change time is different"


def refused(path: str, found: Sequence[FileInfo]) -> SourceError:
    """Return the error for files that must not be uploaded.

    :param path: the listed folder.
    :param found: the files of the listing that have a fault.
    """
    faults = [f"{printable(file.path)} {file.fault}" for file in found]
    links = any("leads out" in file.fault for file in found)
    follow = " If you trust the links, set follow_links=True." if links else ""
    return SourceError(
        f"{first_few(faults)}. Nothing was sent. Remove it from {printable(path)}, or leave it out with "
        f"exclude.{follow}",
        path=path,
    )


def refused_file(path: str, fault: str) -> SourceError:
    """Return the error for a single file that must not be uploaded."""
    return SourceError(f"{printable(path)} {fault} and cannot be uploaded.", path=path)


def not_a_file(path: str) -> SourceError:
    """Return the error for a folder that is used as a file."""
    return SourceError(f"{path} is a folder, not a file: for folders use UploadFilesOperator.", path=path)
