"""What is said of paths alike, whatever store they are in."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_360.exceptions import SourceChangedError, SourceError, some
from airflow_360.sources import Listed
from airflow_360.sources.names import printable

__all__ = ["check_unchanged", "not_a_file", "refused", "refused_file"]


def check_unchanged(path: str, what: str, listed: object, found: object) -> None:
    """Make sure that a file is what a listing found.

    :param path: the file.
    :param what: what is compared, in words.
    :param listed: what it was then; None is not compared.
    :param found: what it is now.
    :raises SourceChangedError: when they differ.
    """
    if listed is not None and listed != found:
        raise SourceChangedError(
            f"{path} had the {what} {listed} when it was listed and has {found} now. Clear the listing task "
            "and the session task to start over with what is there now."
        )


def refused(path: str, found: Sequence[Listed]) -> SourceError:
    """Return the error for what must not be uploaded.

    :param path: the folder that was listed.
    :param found: what its listing found, with a fault.
    """
    faults = [f"{printable(file.path)} {file.fault}" for file in found]
    links = any("leads out" in file.fault for file in found)
    follow = " If you trust the links, set follow_links=True." if links else ""
    return SourceError(
        f"{some(faults)}. Nothing was sent. Remove it from {printable(path)}, or leave it out with exclude."
        f"{follow}",
        path=path,
    )


def refused_file(path: str, fault: str) -> SourceError:
    """Return the error for a single file that must not be uploaded."""
    return SourceError(f"{printable(path)} {fault} and cannot be uploaded.", path=path)


def not_a_file(path: str) -> SourceError:
    """Return the error for a folder where a file is meant."""
    return SourceError(
        f"{path} is a folder where a file is meant; for folders use UploadFilesOperator.", path=path
    )
