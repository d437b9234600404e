"""Numbers, lists and counts as text for people; imports nothing of the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = [
    "MAX_COUNTED_FILES",
    "MAX_NAMED_FAULTS",
    "LeftOut",
    "count_text",
    "duration_text",
    "first_few",
    "size_text",
]

MAX_NAMED_FAULTS = 20  # in one message
#: The most files in subfolders to count for a warning; an object store may have millions.
MAX_COUNTED_FILES = 10_000


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun for people: ``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_text(count: float) -> str:
    """Return a number of bytes as readable text."""
    if count < 1024:
        return "1 byte" if count == 1 else f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if round(count, 1) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """Return a number of seconds as readable text."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def first_few(faults: Sequence[str], separator: str = "; ") -> str:
    """Return the first twenty of several faults as text, and the number of further ones.

    :param faults: the faults, each a part of a sentence.
    :param separator: the text between two faults.
    """
    more = [f"and {len(faults) - MAX_NAMED_FAULTS:,} more"] if len(faults) > MAX_NAMED_FAULTS else []
    return separator.join([*faults[:MAX_NAMED_FAULTS], *more])


class LeftOut:
    """Counts of the files and folders that listings skipped, with the reasons."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._subfolders: set[str] = set()
        self._in_subfolders = 0

    def add(self, noun: str, why: str = "", count: int = 1) -> None:
        """Count skipped files or folders.

        :param noun: the noun for one of them, in the singular; it gets an *s* if there are several.
        :param why: the reason, which follows the noun; empty if the noun is enough.
        :param count: how many.
        """
        self._counts[noun, why] += count

    def update(self, other: LeftOut) -> None:
        """Add the counts of another listing."""
        self._counts.update(other._counts)
        self._subfolders |= other._subfolders
        self._in_subfolders += other._in_subfolders

    def add_in_subfolder(self, folder: str) -> None:
        """Count a file in a subfolder that was not entered."""
        self._in_subfolders += 1
        self._subfolders.add(folder)

    @property
    def subfolders(self) -> str:
        """Return how many files are in how many subfolders that were not entered; empty if there are none."""
        if not self._in_subfolders:
            return ""
        many = "at least " if self._in_subfolders >= MAX_COUNTED_FILES else ""
        files, folders = (
            count_text(self._in_subfolders, "file"),
            count_text(len(self._subfolders), "subfolder"),
        )
        return f"{many}{files} in {folders} (recursive=False)"

    def __str__(self) -> str:
        counts = [
            f"{count_text(count, noun)} {why}".rstrip()
            for (noun, why), count in self._counts.items()
            if count
        ]
        return ", ".join([*counts, *filter(None, [self.subfolders])])
