"""XComs for later tasks: the results of uploads, and the request for a project."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_360.exceptions import ProjectError
from airflow_360.texts import first_few

__all__ = ["PROJECT_REQUEST", "coordinate_system_of", "count_files", "results_of"]

#: The XCom that a project task pushes before a POST: "asked", or "refused" if it is certain that it created
#: nothing. A teardown reads it.
PROJECT_REQUEST = "project_request"
MAX_SHOWN_CHARACTERS = 200
MAX_NAMED_FILES = 3  # per coordinate system
CODE = re.compile(r"EPSG:\d{1,7}")
NEXT_STEP = (
    "Pass the output of UploadFileOperator or UploadFilesOperator, or results of the hook's upload methods. "
    "If you marked an upload task as success, or set its XCom by hand, clear it: complete files are not sent "
    "again."
)


def results_of(uploads: Any) -> list[Mapping[str, Any]] | None:
    """Return the results of upload tasks as a flat list; None if ``uploads`` is None.

    :param uploads: one result, or a list or lazy sequence of them, or of such lists.
    :raises ProjectError: if one of them is something else; names the result and its fault.
    """
    if uploads is None:
        return None
    results = [uploads] if isinstance(uploads, Mapping) else _flat(uploads, "uploads")
    for number, result in enumerate(results, 1):
        if fault := _fault(result):
            which = f"Result {number} of {len(results)} in uploads"
            raise ProjectError(f"{which} {fault}: {_shown(result)}. {NEXT_STEP}")
    return results


def count_files(uploads: Any) -> int | None:
    """Return the number of files that upload tasks sent; None if ``uploads`` is None.

    :param uploads: see :func:`results_of`.
    """
    results = results_of(uploads)
    return None if results is None else sum(int(result.get("files", 1)) for result in results)


def coordinate_system_of(results: Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
    """Return the coordinate system that the uploaded files state, and a warning; empty if there is none.

    :param results: see :func:`results_of`.
    :raises ProjectError: if the files state different ones; the message lists them.
    """
    files: dict[str, list[str]] = {}
    for result in results:
        for system in filter(None, str(result.get("coordinate_system") or "").split(", ")):
            files.setdefault(system, []).append(str(result.get("filename") or ""))
    unread = sum(int(result.get("unread") or 0) for result in results)
    codes = sorted(system for system in files if CODE.fullmatch(system))
    if len(codes) > 1:
        stated = [f"{code}{_names_text(files[code])}" for code in codes]
        raise ProjectError(
            f"The files state different coordinate systems: {first_few(stated)}. Make a project of each, or "
            "set coordinate_system yourself."
        )
    others = ["a file could not be inspected"] if unread else []
    if len(files) > len(codes):
        others.append("a file states a coordinate system only as WKT without an EPSG code")
    if codes:
        return codes[0], f"The project gets {codes[0]}, but {' and '.join(others)}." if others else ""
    reason = " and ".join(others) or "no inspected file states one"
    return None, (
        f"The project is created without a coordinate system: {reason}. If you know it, set "
        "coordinate_system."
    )


def _names_text(names: Sequence[str]) -> str:
    """Return the first of several names in brackets; empty if they are unknown."""
    known = [name for name in names if name]
    more = ["…"] if len(known) > MAX_NAMED_FILES else []
    return f" ({', '.join([*known[:MAX_NAMED_FILES], *more])})" if known else ""


def _flat(value: Any, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ProjectError(f"{what} must be the result of upload tasks, not {_shown(value)}. {NEXT_STEP}")
    # Iterating over the results of a mapped task costs one request per item, a slice costs one in total.
    items = list(value[:] if type(value).__name__ == "LazyXComSequence" else value)
    found: list[Mapping[str, Any]] = []
    for number, item in enumerate(items, 1):
        which = f"Result {number} of {len(items)} in uploads"
        found += [item] if isinstance(item, Mapping) else _flat(item, which)
    return found


def _fault(result: Mapping[str, Any]) -> str:
    """Return the fault of the result of one file, or of a summary; empty if there is none."""
    if "filename" in result:
        numbers = ["size"]
        if not (isinstance(result["filename"], str) and result["filename"]):
            return "has a filename that is not a name"
    else:
        numbers = ["files", "bytes", *(name for name in ("shards", "shard") if "shards" in result)]
    if missing := [name for name in numbers if name not in result]:
        return f"has no {' and no '.join(missing)}"
    wrong = [name for name in numbers if not _is_count(result[name])]
    return f"has a {wrong[0]} that is not a whole number" if wrong else ""


def _is_count(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) <= 18
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
