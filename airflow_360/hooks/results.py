"""Read what upload tasks returned, for whoever comes after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_360.exceptions import ProjectError

__all__ = ["count_files", "results_of"]


def results_of(uploads: Any) -> list[Mapping[str, Any]] | None:
    """Return what upload tasks returned as a flat list; None where nothing was given.

    :param uploads: one result, or a list or lazy sequence of them, or of such lists.
    :raises ProjectError: when it is something else.
    """
    if uploads is None:
        return None
    found: list[Mapping[str, Any]] = []
    for result in [uploads] if isinstance(uploads, Mapping) else _items(uploads):
        found += [result] if isinstance(result, Mapping) else results_of(_items(result)) or []
    return found


def count_files(uploads: Any) -> int | None:
    """Return how many files upload tasks sent; None where nothing was given.

    :param uploads: see :func:`results_of`.
    """
    results = results_of(uploads)
    return None if results is None else sum(int(result.get("files", 1)) for result in results)


def _items(value: Any) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ProjectError(f"uploads must be what the upload tasks returned, not {value!r}.")
    # Iterating the results of a mapped task costs one request per item, slicing them one in all.
    return list(value[:] if type(value).__name__ == "LazyXComSequence" else value)
