"""PLY: the header, and the size that its elements need.

In a binary file without lists the size is exact. A list (the corners of a face) may be empty, and a number in
a text file may have one digit, so for these the size is only the least possible one. A text file is also
known to be cut if its last line has too few numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_360.inspection.ranges import HEAD_BYTES, TAIL_BYTES, Ranges
from airflow_360.inspection.results import DamagedError, Inspection, plain_text, shortage_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.texts import count_text, size_text

__all__ = ["inspect_ply"]

TYPE_BYTES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1,
    "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4,
    "double": 8, "float64": 8, "int64": 8, "uint64": 8, "long": 8, "ulong": 8,
}  # fmt: skip
START = re.compile(rb"ply[ \t]*(\r\n|\n|\r)")
HEADER_END = re.compile(rb"\nend_header[ \t\r]*\n")
#: If lines end with a carriage return alone, a line feed after the header belongs to the data.
OLD_MAC_END = re.compile(rb"\rend_header[ \t]*\r")
TEXT_FORMAT = "ascii"
FORMATS = {TEXT_FORMAT, "binary_little_endian", "binary_big_endian"}
NUMBER = re.compile(r"\d{1,18}", re.ASCII)
#: A digit and the space or the end of the line after it.
MIN_NUMBER_BYTES = 2
#: The names of elements for people; in a Gaussian splat each point is a vertex.
NOUNS = {"vertex": "point", "face": "face", "edge": "edge", "chunk": "chunk"}
#: Fewer bytes after the last element are padding or an empty line.
MAX_PADDING_BYTES = 64


@dataclass(frozen=True)
class _Property:
    """A property of an element.

    :param size: bytes of its number, or of the length of a list; None if the type is unknown.
    :param is_list: whether it is a list.
    """

    size: int | None
    is_list: bool


@dataclass
class _Element:
    """An element of the header, such as ``vertex``.

    :param name: its name, printable.
    :param count: how many records of it follow.
    :param properties: what each record has.
    """

    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    def least_size(self, *, text: bool) -> int | None:
        """Return the least bytes of all records; None if a type is unknown."""
        if text:
            return self.count * MIN_NUMBER_BYTES * len(self.properties)
        sizes = [one.size for one in self.properties]
        return None if None in sizes else self.count * sum(size or 0 for size in sizes)

    def has_all(self, numbers: Sequence[bytes]) -> bool:
        """Return whether a line has a number for each property."""
        at = 0
        for one in self.properties:
            if at >= len(numbers):
                return False
            length = numbers[at].decode("latin-1")
            at += 1
            if one.is_list:
                at += int(length) if NUMBER.fullmatch(length) else 0
        return at <= len(numbers)


def inspect_ply(ranges: Ranges, result: Inspection) -> None:
    """Inspect a PLY point cloud, mesh or Gaussian splat."""
    head = ranges.at(0, HEAD_BYTES)
    start = START.match(head)
    if not start:
        raise wrong_format(ranges, "a PLY file")
    result.format = "PLY"
    found = (OLD_MAC_END if start[1] == b"\r" else HEADER_END).search(head)
    if not found:
        if ranges.size > HEAD_BYTES:
            result.unchecked.append("its header, which is longer than 64 KiB")
            return
        raise DamagedError("truncated", "it ends within its header")
    kind, elements = _read_header(head[: found.start()], result)
    for element in elements:
        result.counts[NOUNS.get(element.name, element.name) + "s"] = element.count
    _check_size(ranges, result, found.end(), elements, text=kind == TEXT_FORMAT)
    filled = [element for element in elements if element.count]
    if kind == TEXT_FORMAT and filled:
        _check_last_line(ranges, result, found.end(), filled)


def _read_header(header: bytes, result: Inspection) -> tuple[str, list[_Element]]:
    """Return the format and the elements of a header."""
    kind = ""
    elements: list[_Element] = []
    for line in header.splitlines()[1:]:
        words = line.decode("latin-1").split()
        if words[:1] == ["format"] and len(words) >= 3:
            kind, result.version = words[1], plain_text(words[2], 8)
        elif words[:1] == ["element"]:
            elements.append(_element(words))
        elif words[:1] == ["property"] and elements:
            is_list = words[1:2] == ["list"]
            size = TYPE_BYTES.get(words[2 if is_list else 1]) if len(words) >= 3 else None
            elements[-1].properties.append(_Property(size, is_list))
    if kind not in FORMATS:
        raise DamagedError("damaged", f"its header states the unknown format {plain_text(kind, 40)!r}")
    if not elements:
        result.warn("empty", "its header states no elements")
    return kind, elements


def _element(words: Sequence[str]) -> _Element:
    if len(words) < 3 or not NUMBER.fullmatch(words[2]):
        raise DamagedError(
            "damaged", f"a line of its header makes no sense: {plain_text(' '.join(words), 100)!r}"
        )
    return _Element(plain_text(words[1], 40), int(words[2]))


def _check_size(
    ranges: Ranges, result: Inspection, offset: int, elements: Sequence[_Element], *, text: bool
) -> None:
    """Compare the size that the elements need with the file's.

    :param offset: the offset after the header.
    """
    sizes = [element.least_size(text=text) for element in elements]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        result.unchecked.append("its size, because its header has an unknown type")
        return
    needed = offset + sum(known) - (1 if text else 0)  # the last line may have no end
    exact = not text and not any(one.is_list for element in elements for one in element.properties)
    if needed > ranges.size:
        largest = elements[sizes.index(max(known))]
        count = count_text(largest.count, NOUNS.get(largest.name, largest.name))
        least = "" if exact else "at least "
        raise DamagedError(
            "truncated", f"its header states {count}, which need {least}{shortage_text(needed, ranges.size)}"
        )
    if exact and ranges.size - needed > MAX_PADDING_BYTES:
        extra = size_text(ranges.size - needed)
        result.warn("counts", f"it has {extra} more than its header states")


def _check_last_line(ranges: Ranges, result: Inspection, offset: int, elements: Sequence[_Element]) -> None:
    """Check that the last line has all numbers, if the first one shows that each record has one line."""
    first = ranges.at(offset, HEAD_BYTES - offset).lstrip().splitlines()
    tail = ranges.at(max(offset, ranges.size - TAIL_BYTES), TAIL_BYTES).rstrip(b"\0 \t\r\n").splitlines()
    if len(first) < 2 or len(tail) < 2 or not elements[0].has_all(first[0].split()):
        return
    if not elements[-1].has_all(tail[-1].split()):
        result.error("truncated", f"its last line, of a {elements[-1].name}, is cut")
