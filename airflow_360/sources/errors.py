"""What is said of paths alike, whatever store they are in."""

from __future__ import annotations

from airflow_360.exceptions import SourceChangedError, SourceError

__all__ = ["check_unchanged", "not_a_file"]


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


def not_a_file(path: str) -> SourceError:
    """Return the error for a folder where a file is meant."""
    return SourceError(
        f"{path} is a folder where a file is meant; for folders use UploadFilesOperator.", path=path
    )
