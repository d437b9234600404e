"""A session's contents, compared with the results of the upload tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import ProjectError
from airflow_360.texts import count_text, first_few

if TYPE_CHECKING:
    from airflow_360.api.records import FileProgress

__all__ = ["check_contents"]


def check_contents(
    upload_id: Any, files: Sequence[FileProgress], uploads: Sequence[Mapping[str, Any]] | None
) -> None:
    """Make sure that a session contains exactly the uploaded files, and that all are complete.

    :param upload_id: the session, for the message.
    :param files: the server's list of files.
    :param uploads: the results of the upload tasks; None accepts any complete files.
    :raises ProjectError: if files are missing, incomplete or unexpected; the message lists them.
    """
    faults = [
        f"{file.name} is not complete ({file.received:,} of {count_text(file.total, 'byte')})"
        for file in files
        if not file.complete
    ]
    if not files and not uploads:
        faults.append("it is empty")
    if uploads is not None:
        faults += _differences({file.name: file.total for file in files}, uploads)
    if faults:
        raise ProjectError(
            f"No project was created from session {upload_id}: {first_few(faults)}. Clear the upload tasks "
            "to run them again, or clear the session task to start over."
        )


def _differences(held: Mapping[str, int], uploads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the differences between session and uploads: in names and sizes, or in count and bytes."""
    faults = _duplicates([result for result in uploads if "filename" in result])
    named = {str(result["filename"]): int(result["size"]) for result in uploads if "filename" in result}
    summaries = [result for result in uploads if "filename" not in result]
    faults += [
        f"{name} should have {count_text(size, 'byte')} and "
        + (f"has {held[name]:,}" if name in held else "is not there")
        for name, size in named.items()
        if held.get(name) != size
    ]
    if not summaries:
        return faults + [
            f"{name} is there and was not uploaded by these tasks" for name in held if name not in named
        ]
    faults += _missing_shards(summaries)
    count = len(named) + sum(int(result["files"]) for result in summaries)
    size = sum(named.values()) + sum(int(result["bytes"]) for result in summaries)
    if (len(held), sum(held.values())) != (count, size):
        held_text = f"{count_text(len(held), 'file')} of {count_text(sum(held.values()), 'byte')}"
        uploaded = f"{count_text(count, 'file')} of {count_text(size, 'byte')}"
        faults.append(f"it contains {held_text}, and the upload tasks sent {uploaded}")
    return faults


def _missing_shards(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the shards that no task uploaded; without this check, the totals could still match."""
    counts = Counter(
        (int(result["shards"]), int(result["shard"])) for result in summaries if "shards" in result
    )
    faults = []
    for shards in sorted({shards for shards, _ in counts}):
        times = [counts[shards, shard] for shard in range(shards)]
        if missing := [str(shard) for shard, count in enumerate(times) if count < max(times)]:
            faults.append(
                f"of {shards} shards, counted from 0, {first_few(missing, ', ')} is missing: map the upload "
                f"task over every shard from 0 to {shards - 1}"
            )
    return faults


def _duplicates(uploads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names under which two different files were sent; the server ignored the second."""
    first: dict[str, Any] = {}
    faults = []
    for result in uploads:
        name, path = str(result["filename"]), result.get("path")
        if first.setdefault(name.casefold(), path) != path:
            faults.append(f"{name} was sent from both {first[name.casefold()]} and {path}")
    return faults
