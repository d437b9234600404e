"""Rules about values that every floor needs; imports nothing of the package."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

__all__ = ["KIB", "MIB", "is_number", "is_unset"]

KIB = 1024  # bytes
MIB = 1024 * KIB


def is_unset(value: Any) -> bool:
    """Return whether a parameter has no value: None, or a template that rendered to nothing or to "None"."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
