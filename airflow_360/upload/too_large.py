"""The error for a file that is too large: with its size, the exceeded limit, and what to do about it.

Separate from the engine, which knows a source only as bytes, and from the upload of many files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_360.exceptions import FileRejectedError
from airflow_360.texts import size_text

__all__ = ["AFTER_SPLIT_ADVICE", "saying_what_is_too_large"]

AFTER_SPLIT_ADVICE = "After you split it, clear the listing task, if there is one, and the session task."


@contextmanager
def saying_what_is_too_large(filename: str, size: int) -> Iterator[None]:
    """Add the file's size, the exceeded limit and advice to a 413.

    :param filename: its name on the server.
    :param size: its length in bytes.
    :raises FileRejectedError: the same refusal with a longer message.
    """
    try:
        yield
    except FileRejectedError as error:
        if error.status != 413:
            raise
        what = f"{error} {filename} has {size_text(size)}{_limit_text(error)}"
        raise FileRejectedError(what, status=413, code=error.code, detail=error.detail) from error


def _limit_text(error: FileRejectedError) -> str:
    if error.code is None:  # a 360 server always sends a code
        return (
            ". A proxy refused a request of this size: set chunk_size to less than its limit (nginx: "
            "client_max_body_size, 1 MiB by default)."
        )
    limit = f", and the limit is {size_text(error.limit)}" if error.limit is not None else ""
    if error.code == "session_too_large":
        return f"{limit} for a whole session."
    return f"{limit}. {AFTER_SPLIT_ADVICE}"
