"""Rules about values that every floor needs; imports nothing of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["KIB", "MIB", "first_few", "is_unset"]

KIB = 1024  # bytes
MIB = 1024 * KIB
MAX_NAMED_FAULTS = 20  # in one message


def is_unset(value: Any) -> bool:
    """Tell whether a parameter has no value: None, or a template that rendered to nothing or to "None"."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def first_few(faults: Sequence[str], separator: str = "; ") -> str:
    """Return the first twenty of several faults as text, and the number of further ones.

    :param faults: the faults, each a part of a sentence.
    :param separator: the text between two faults.
    """
    more = [f"and {len(faults) - MAX_NAMED_FAULTS:,} more"] if len(faults) > MAX_NAMED_FAULTS else []
    return separator.join([*faults[:MAX_NAMED_FAULTS], *more])
