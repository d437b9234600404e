"""ZIP and KMZ: the directory at the end, and the names in it.

A ZIP file is read from its end, so a cut one has no directory. Programs may have put bytes before the first
member (a self-extracting archive) or zeros after the end; both are accepted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_360.inspection.ranges import TAIL_BYTES, Ranges
from airflow_360.inspection.reading import ends_with_zeros, last_bytes
from airflow_360.inspection.results import DamagedError, Inspection, plain_text
from airflow_360.inspection.signatures import wrong_format
from airflow_360.sources.names import KNOWN_EXTENSIONS
from airflow_360.texts import count_text, first_few, size_text
from airflow_360.values import MIB

__all__ = ["inspect_kmz", "inspect_zip"]

#: Folders, and files that systems add to a folder; hidden files start with a dot.
NOT_CONTENT = ("/thumbs.db", "/desktop.ini", "/")
MACOS_FOLDER = "/__MACOSX/"

LOCAL, ENTRY, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
ZIP64_END, ZIP64_LOCATOR = b"PK\6\6", b"PK\6\7"
#: Starts of archives: a member, none, and the mark of an archive that was to be split.
STARTS = (LOCAL, END, b"PK\7\x08", b"PK00")
LOCAL_BYTES, ENTRY_BYTES, END_BYTES, LOCATOR_BYTES, ZIP64_END_BYTES = 30, 46, 22, 20, 56
MAX_COMMENT_BYTES = 0xFFFF
MAX_END_CANDIDATES = 64
#: Flags, compressed size, size, lengths of name, extra fields and comment, and offset of a member.
ENTRY_RECORD = struct.Struct("<8xH10xIIHHH8xI")
#: About ten thousand members.
MAX_DIRECTORY_BYTES = MIB
MAX_NAME_CHARACTERS = 100
MAX_32_BITS = 0xFFFFFFFF
LIMIT_32_BITS = 1 << 32
LIMIT_16_BITS = 1 << 16
ZIP64_FIELD = 1
ENCRYPTED_FLAG, UTF8_FLAG = 0x0001, 0x0800
NO_DIRECTORY = "its central directory, at the end of the file, is missing"


@dataclass(frozen=True)
class _End:
    """What the end of an archive states about its directory.

    :param position: the offset of the first end record, which follows the directory.
    :param entries: the number of members.
    :param size: bytes of the directory.
    :param offset: the offset of the directory.
    :param trailing: bytes after the archive's end.
    :param volume: the number of the last part of a split archive; 0 if it is not split.
    """

    position: int
    entries: int
    size: int
    offset: int
    trailing: int
    volume: int


@dataclass(frozen=True)
class _Directory:
    """The bytes of a directory as far as they were read.

    :param start: its offset in the file.
    :param size: its size in bytes.
    :param data: its first bytes, at most 1 MiB.
    """

    start: int
    size: int
    data: bytes


class _Member(NamedTuple):
    """A member as the directory states it; a tuple, because there may be ten thousand.

    :param name: its path in the archive, printable.
    :param encrypted: whether a password is needed.
    :param offset: the offset of its local header.
    :param size: bytes of its local header and its compressed content, at least.
    """

    name: str
    encrypted: bool
    offset: int
    size: int

    @property
    def is_content(self) -> bool:
        """Return whether this is a file that somebody wanted in the archive."""
        path = "/" + self.name.removeprefix("./")
        return not ("/." in path or MACOS_FOLDER in path or path.lower().endswith(NOT_CONTENT))

    @property
    def extension(self) -> str:
        stem, dot, last = self.name.rpartition("/")[2].rpartition(".")
        return last.lower() if dot and stem else ""


def inspect_zip(ranges: Ranges, result: Inspection) -> None:
    """Inspect a ZIP archive: its directory, and the extensions of its members."""
    result.format = "ZIP"
    files = _inspect_members(ranges, result)
    # A server's own list arrives only with a 415, so another extension is a warning.
    refused = [member for member in files if member.extension not in KNOWN_EXTENSIONS]
    if refused:
        report = result.warn if len(refused) < len(files) or result.unchecked else result.error
        report("refused_member", _refused_text(refused, len(files)))


def inspect_kmz(ranges: Ranges, result: Inspection) -> None:
    """Inspect a KMZ file: a ZIP archive with a KML file. Its other members may be of any kind."""
    result.format = "KMZ"
    files = _inspect_members(ranges, result)
    if files and not result.unchecked and not any(member.extension == "kml" for member in files):
        result.error("wrong_format", "it is a ZIP archive without a KML file, not a KMZ file")


def _inspect_members(ranges: Ranges, result: Inspection) -> list[_Member]:
    """Check the directory and return the members that are content."""
    end = _read_end(ranges)
    if end.volume and not end.trailing:
        raise DamagedError("damaged", f"it is one of {end.volume + 1:,} parts of a split archive")
    result.counts["members"] = end.entries
    if not end.entries and not end.size:
        result.warn("empty", "the archive has no members")
        return []
    directory = _read_directory(ranges, end)
    shift = _shift(end, directory, result)
    members = list(_members(directory))
    _check_counts(result, end, directory, members)
    _check_places(ranges, directory, members, shift)
    files = [member for member in members if member.is_content]
    if encrypted := [member.name for member in files if member.encrypted]:
        count = count_text(len(files), "file")
        text = f"{len(encrypted):,} of {count} in it need a password; the first one is {_short(encrypted[0])}"
        result.error("encrypted", text)
    return files


def _read_end(ranges: Ranges) -> _End:
    position, tail = _find_end(ranges)
    _, volume, _, _, entries, size, offset, comment = struct.unpack_from("<4s4H2IH", tail)
    trailing = max(ranges.size - position - END_BYTES - comment, 0)
    locator = ranges.at(position - LOCATOR_BYTES, LOCATOR_BYTES) if position >= LOCATOR_BYTES else b""
    if locator[:4] == ZIP64_LOCATOR:
        return _read_zip64_end(ranges, position, int.from_bytes(locator[8:16], "little"), trailing)
    return _End(position, entries, size, offset, trailing, 0 if volume == 0xFFFF else volume)


def _read_zip64_end(ranges: Ranges, position: int, stated: int, trailing: int) -> _End:
    """Return the end with 64-bit numbers; bytes before the archive may have shifted its record."""
    for at in (stated, position - LOCATOR_BYTES - ZIP64_END_BYTES):
        record = ranges.at(at, ZIP64_END_BYTES) if at >= 0 else b""
        if len(record) == ZIP64_END_BYTES and record.startswith(ZIP64_END):
            _, entries, size, offset = struct.unpack_from("<4Q", record, 24)
            return _End(at, entries, size, offset, trailing, 0)
    raise DamagedError("no_directory", "the record with the place of its directory (zip64) is missing")


def _find_end(ranges: Ranges) -> tuple[int, bytes]:
    """Return the offset of the end record, and the file from there on."""
    for length in (TAIL_BYTES, END_BYTES + MAX_COMMENT_BYTES):
        start = max(ranges.size - length, 0)
        tail = ranges.at(start, length)
        at = _end_in(tail)
        if at >= 0:
            return start + at, tail[at:]
    if ranges.at(0, 4) in STARTS:
        start, tail = last_bytes(ranges)
        raise DamagedError("no_directory", NO_DIRECTORY + ends_with_zeros(ranges, start + len(tail)))
    raise wrong_format(ranges, "a ZIP archive")


def _end_in(tail: bytes) -> int:
    """Return the index of the end record: the one that ends with the file, or else the last one; or −1."""
    at, last = len(tail), -1
    for _ in range(MAX_END_CANDIDATES):
        at = tail.rfind(END, 0, at)
        if at < 0:
            break
        if len(tail) - at < END_BYTES:
            continue
        end = at + END_BYTES + int.from_bytes(tail[at + 20 : at + 22], "little")
        if end == len(tail):
            return at
        last = max(last, at)
    return last


def _read_directory(ranges: Ranges, end: _End) -> _Directory:
    """Return the directory, which should be before its end record, or else where the record says."""
    for start in (end.position - end.size, end.offset):
        length = min(end.size, MAX_DIRECTORY_BYTES)
        data = ranges.at(start, length) if 0 <= start <= end.position else b""
        if data.startswith(ENTRY):
            return _Directory(start, end.size, data)
    raise DamagedError(
        "no_directory",
        f"its directory of {count_text(end.entries, 'member')} is not before its end, where it should be",
    )


def _shift(end: _End, directory: _Directory, result: Inspection) -> int:
    """Return how many bytes are before the archive.

    :raises DamagedError: if bytes of the archive are missing.
    """
    shift = directory.start - end.offset
    if shift < 0:
        raise DamagedError("truncated", f"{size_text(-shift)} are missing before its directory")
    if shift and end.trailing:
        # An archive inside a cut archive.
        raise DamagedError("no_directory", NO_DIRECTORY)
    if shift and shift % LIMIT_32_BITS == 0:
        result.warn("damaged", "it is larger than 4 GiB but not zip64, so some programs cannot unpack it")
        return 0
    return shift


def _members(directory: _Directory) -> Iterator[_Member]:
    """Yield the members whose entries were read, up to the first damaged one."""
    data, at = directory.data, 0
    while at + ENTRY_BYTES <= len(data) and data.startswith(ENTRY, at):
        flags, packed, size, name, extra, comment, offset = ENTRY_RECORD.unpack_from(data, at)
        first = at + ENTRY_BYTES
        at = first + name + extra + comment
        if at > len(data):
            return
        if MAX_32_BITS in (size, packed, offset):
            fields = data[first + name : first + name + extra]
            packed, offset = _real_numbers(size, packed, offset, fields)
        text = data[first : first + name].decode("utf-8" if flags & UTF8_FLAG else "cp437", "replace")
        label = plain_text(text, name).replace("\\", "/")
        yield _Member(label, bool(flags & ENCRYPTED_FLAG), offset, LOCAL_BYTES + name + packed)


def _real_numbers(size: int, packed: int, offset: int, fields: bytes) -> tuple[int, int]:
    """Return the compressed size and the offset; a number beyond 32 bits is in the zip64 field."""
    rest = _zip64_numbers(fields)
    _, packed, offset = (
        next(rest, value) if value == MAX_32_BITS else value for value in (size, packed, offset)
    )
    return packed, offset


def _zip64_numbers(fields: bytes) -> Iterator[int]:
    """Yield the numbers of the zip64 field: one for each number that is at its limit."""
    at = 0
    while at + 4 <= len(fields):
        kind, length = struct.unpack_from("<HH", fields, at)
        if kind == ZIP64_FIELD:
            content = fields[at + 4 : at + 4 + length]
            yield from (number for (number,) in struct.iter_unpack("<Q", content[: len(content) // 8 * 8]))
            return
        at += 4 + length


def _check_counts(result: Inspection, end: _End, directory: _Directory, members: Sequence[_Member]) -> None:
    """Compare the number of members with the directory; a number may be stated modulo 65,536."""
    text = f"it states {count_text(end.entries, 'member')}, and its directory has {len(members):,}"
    if directory.size > len(directory.data):
        result.unchecked.append(f"its members after the first {len(members):,}")
    elif len(members) < end.entries:
        result.error("counts", text)
    else:
        result.counts["members"] = len(members)
        if (len(members) - end.entries) % LIMIT_16_BITS:
            result.warn("counts", text)


def _check_places(ranges: Ranges, directory: _Directory, members: Sequence[_Member], shift: int) -> None:
    """Check that the members are before the directory and share no bytes, and that the first is there."""
    for member in members:
        if member.offset + shift + member.size > directory.start:
            raise DamagedError(
                "damaged",
                f"{_short(member.name)} ends after the start of the central directory, at "
                f"{size_text(directory.start)}",
            )
    total = sum(member.size for member in members)
    if total > directory.start:
        raise DamagedError(
            "damaged",
            f"its members need {size_text(total)}, and only {size_text(directory.start)} are before its "
            "central directory",
        )
    if members:
        first = min(members, key=lambda member: member.offset)
        if ranges.at(first.offset + shift, 4) != LOCAL:
            raise DamagedError("damaged", f"{_short(first.name)} is not where its directory says")


def _refused_text(refused: Sequence[_Member], count: int) -> str:
    kinds = Counter(plain_text(member.extension, 20) for member in refused)
    parts = [f"{kind or 'no extension'} ({count_text(many, 'file')})" for kind, many in kinds.most_common()]
    return (
        f"{len(refused):,} of {count_text(count, 'file')} in it have an extension that a default server "
        f"refuses: {first_few(parts, ', ')}; the first one is {_short(refused[0].name)}"
    )


def _short(name: str) -> str:
    return plain_text(name, MAX_NAME_CHARACTERS)
