"""The result of an inspection: format, problems, coordinate system, bounds and counts.

Separate from the formats, which fill it, and from the operators, which show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from airflow_360.texts import size_text

__all__ = [
    "CoordinateSystem",
    "DamagedError",
    "Inspection",
    "Problem",
    "Severity",
    "plain_text",
    "shortage_text",
]


class Severity(StrEnum):
    """The severity of a problem: ``ERROR`` makes a file *damaged*, ``WARNING`` makes it *doubtful*."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """A problem of a file.

    :param code: a short word for programs, such as ``truncated``.
    :param severity: whether the file cannot be used, or might be unwanted.
    :param text: what is wrong, for people; a part of a sentence, such as "12 of 300 bytes are missing".
    """

    code: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class CoordinateSystem:
    """The coordinate system that a file states.

    :param code: such as ``EPSG:25832``; empty if the file states a system without a code.
    :param wkt: the system as WKT, at most 64 KiB; empty if the file has none.
    :param found_in: the place in the file, such as "WKT record".
    """

    code: str
    wkt: str = ""
    found_in: str = ""


class DamagedError(Exception):
    """Raised inside a format's module when a file is so damaged that the rest of it cannot be read.

    :param code: see :class:`Problem`.
    :param text: see :class:`Problem`.
    :param severity: see :class:`Problem`.
    """

    def __init__(self, code: str, text: str, severity: Severity = Severity.ERROR) -> None:
        super().__init__(text)
        self.problem = Problem(code, severity, text)


@dataclass
class Inspection:
    """What a file states about itself, and what is wrong with it.

    :param format: such as ``LAZ``; empty if the format is unknown.
    :param version: the format's version as the file states it, such as ``1.4``; empty if it states none.
    :param problems: what is wrong; empty if nothing was found.
    :param coordinate_system: the coordinate system that it states; None if it states none.
    :param bounds: the smallest and the largest x, y and z; None if it does not state them.
    :param counts: numbers of things, such as ``{"points": 12}``.
    :param position: latitude and longitude in degrees at which a photo or a video was taken.
    :param pixels: width and height of a photo; None if it does not state them.
    :param camera: maker and model of the camera; empty if a photo does not state them.
    :param unchecked: checks that would have needed too many reads, each a noun for people.
    """

    format: str = ""
    version: str = ""
    problems: list[Problem] = field(default_factory=list)
    coordinate_system: CoordinateSystem | None = None
    bounds: tuple[float, float, float, float, float, float] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    position: tuple[float, float] | None = None
    pixels: tuple[int, int] | None = None
    camera: str = ""
    unchecked: list[str] = field(default_factory=list)

    def error(self, code: str, text: str) -> None:
        """Add a problem with which the file cannot be used."""
        self.problems.append(Problem(code, Severity.ERROR, text))

    def warn(self, code: str, text: str) -> None:
        """Add a problem that may be intended."""
        self.problems.append(Problem(code, Severity.WARNING, text))

    @property
    def errors(self) -> list[Problem]:
        """Return the problems with which the file cannot be used."""
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]


def plain_text(data: bytes | str, limit: int) -> str:
    """Return text of a file, printable and bounded.

    :param data: the text, or its bytes in UTF-8; it ends at the first zero.
    :param limit: the most characters to return.
    """
    text = data[: 4 * limit].decode("utf-8", "replace") if isinstance(data, bytes) else data[: 4 * limit]
    text = text.partition("\0")[0][:limit]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text.strip()


def shortage_text(needed: int, size: int) -> str:
    """Return how much a file needs and has for people; exact if the rounded numbers would look the same.

    :param needed: bytes that the file would need.
    :param size: bytes that it has.
    """
    need, has = size_text(needed), size_text(size)
    if need == has:
        need, has = f"{needed:,} bytes", f"{size:,} bytes"
    return f"{need}, and the file has {has}"
