"""Many files as one stored zip, computed while it is sent: no temporary file, no directory in memory.

Separate because it is a source that consists of sources. The zip is stored, not deflated: photos and scans
are already compressed, and only a stored zip has a length that is known before the first byte, and the same
bytes at the same offset in every attempt.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import threading
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Reader, Source
from airflow_360.sources import zip_records as records
from airflow_360.sources.names import MAX_FILENAME_BYTES
from airflow_360.values import MIB

__all__ = ["ArchiveSource", "Member"]

log = logging.getLogger(__name__)

#: The layout's name in the fingerprint: change it with the bytes of the zip or ``CHECKSUM_SPAN_BYTES``.
LAYOUT = "stored zip 2"
CHECKSUM_SPAN_BYTES = 64 * MIB  # between two checksums of a file: the most that is read again after a break
BLOCK_BYTES = MIB
CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    :param info: the file from a listing; its name in the archive is the path below the listed folder.
    :param open_source: opens its bytes; may be called any number of times.
    """

    info: FileInfo
    open_source: Callable[[], Source]


class ArchiveSource:
    """The bytes of a stored zip that exists only while it is sent; they are the same in every attempt.

    The zip needs the checksum of each file after its bytes and again in the directory at the end. It is kept
    in memory when the bytes are read, for large files also one after every 64 MiB. With the checksums of an
    earlier attempt (see :meth:`remember`), only the part of a file in which the upload broke is read again.
    Without them, :meth:`catch_up` or else :meth:`open` reads all files before the offset again.

    A change of a file is noticed by its own source, if the file ends too early, and if its bytes are read
    twice.

    :param path: the name of the zip in messages.
    :param members: the files; the order does not matter.
    :param every: bytes of a file between two checksums.
    :raises SourceError: if a name is not possible in an archive, or two files have the same name.
    """

    def __init__(self, path: str, members: Iterable[Member], *, every: int = CHECKSUM_SPAN_BYTES) -> None:
        self.path = path
        self._every = every
        self._entries = _laid_out(members, every)
        last = self._entries[-1] if self._entries else None
        directory = last.end if last else 0
        self._units = last.first_unit + _count(last.size, every) if last else 0
        at = directory
        for entry in self._entries:
            entry.directory_offset = at
            at += records.directory_entry_size(entry.name, entry.size, entry.offset)
        self._end = records.end_records(len(self._entries), directory, at - directory)
        self._end_offset = at
        self._checksums = bytearray()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Return the length of the whole archive in bytes."""
        return self._end_offset + len(self._end)

    @property
    def fingerprint(self) -> str:
        """Return a digest of the listed files and their layout."""
        digest = hashlib.sha256(f"{LAYOUT} {self._every}".encode())
        for entry in self._entries:
            info = entry.member.info
            said = f"\n{info.path}\n{info.relative} {info.version} {entry.time}"
            digest.update(said.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @property
    def checksums(self) -> bytes:
        """Return the known checksums, 4 bytes each, in the order of the archive."""
        with self._lock:
            return bytes(self._checksums)

    def remember(self, checksums: bytes) -> None:
        """Use the checksums of an earlier attempt.

        :param checksums: the value of :attr:`checksums` then, or its beginning, for the same fingerprint.
        """
        with self._lock:
            self._checksums[:] = checksums[: min(len(checksums) // 4, self._units) * 4]

    def catch_up(self, offset: int) -> None:
        """Read the files before an offset if their checksums are not known.

        If they are known, this costs nothing. Call it before a request, so that the server does not have to
        wait.

        :param offset: bytes from the start.
        :raises SourceChangedError: see :meth:`open`.
        :raises SourceError: see :meth:`open`.
        """
        goal = self._units_before(offset)
        if self._known >= goal:
            return
        log.info(
            "%s: reading the first %d bytes again, because the checksums of %d files or parts are not saved.",
            self.path,
            offset,
            goal - self._known,
        )
        failed_at = -1
        while self._known < goal:
            try:
                self._read_up_to(goal)
            except SourceError as error:
                if not error.retryable or self._known <= failed_at:
                    raise
                failed_at = self._known
                log.warning("%s Opening it again.", error)

    def open(self, offset: int) -> Reader:
        """Open the archive at an offset.

        :param offset: bytes from the start.
        :raises SourceChangedError: if a file changed since it was listed or since it was first read.
        :raises SourceError: if a file cannot be read.
        """
        self.catch_up(offset)
        return _ArchiveReader(self, offset)

    def check(self) -> None:
        """Do nothing: each file is checked after its last byte was read."""

    def parts(self, offset: int, wanted: Callable[[], int]) -> Generator[bytes, None, None]:
        """Yield the archive from an offset on, in non-empty pieces.

        The checksums before it must be known; see :meth:`catch_up`.

        :param offset: bytes from the start.
        :param wanted: returns the maximum length of the next piece.
        """
        for entry in islice(self._entries, self._entry_at(offset), None):
            yield from _cut(entry.header(), offset - entry.offset, wanted)
            yield from self._bytes_of(entry, max(0, offset - entry.data_offset), wanted)
            after = records.descriptor(entry.size, self._checksum_of(entry))
            yield from _cut(after, offset - entry.data_offset - entry.size, wanted)
        first = bisect_right(self._entries, offset, key=lambda entry: entry.directory_offset) - 1
        for entry in islice(self._entries, max(0, first), None):
            line = entry.directory_entry(self._checksum_of(entry))
            yield from _cut(line, offset - entry.directory_offset, wanted)
        yield from _cut(self._end, offset - self._end_offset, wanted)

    def _bytes_of(self, entry: _Entry, skip: int, wanted: Callable[[], int]) -> Iterator[bytes]:
        """Yield a file's bytes after the skipped ones, and keep the checksums."""
        at = skip // self._every * self._every  # the last position with a known checksum
        unit = entry.first_unit + skip // self._every
        if entry.size == 0:
            entry.member.open_source().check()
        if skip >= entry.size:
            return
        checksum = self._known_checksum(unit - 1) if at else 0
        source = entry.member.open_source()
        reader = source.open(at)
        try:
            while at < entry.size:
                end = min(at // self._every * self._every + self._every, entry.size)
                block = reader.read(min(end - at, skip - at if at < skip else wanted()))
                if not block:
                    raise SourceChangedError(
                        f"{source.path} ends at {at:,} bytes and had {entry.size:,} when it was listed. "
                        "Wait until it is completely written, then clear the session task to start over."
                    )
                checksum = crc32(block, checksum)
                at += len(block)
                if at == entry.size:  # before its last bytes are sent and their checksum is kept
                    reader.close()
                    source.check()
                if at == end:
                    self._learn(unit, checksum, source.path)
                    unit += 1
                if at > skip:
                    yield block
        finally:
            reader.close()

    def _learn(self, unit: int, checksum: int, path: str) -> None:
        with self._lock:
            known = len(self._checksums) // 4
            if unit == known:
                self._checksums += CHECKSUM.pack(checksum)
                return
        if self._known_checksum(unit) != checksum:
            raise SourceChangedError(
                f"{path} changed after its bytes were sent in {self.path}, though its size and time did not. "
                "Clear the session task to start over."
            )

    def _read_up_to(self, goal: int) -> None:
        at, _ = self._place_of(self._known)
        _, end = self._place_of(goal - 1)
        reader = _ArchiveReader(self, at)
        try:
            while at < end:
                at += len(reader.read(min(BLOCK_BYTES, end - at)))
        finally:
            reader.close()

    @property
    def _known(self) -> int:
        return len(self._checksums) // 4

    def _known_checksum(self, unit: int) -> int:
        (checksum,) = CHECKSUM.unpack_from(self._checksums, 4 * unit)
        return int(checksum)

    def _checksum_of(self, entry: _Entry) -> int:
        units = _count(entry.size, self._every)
        return self._known_checksum(entry.first_unit + units - 1) if units else 0

    def _entry_at(self, offset: int) -> int:
        """Return the index of the file at an offset, or the number of files if it is after the last one."""
        if not self._entries or offset >= self._entries[-1].end:
            return len(self._entries)
        return bisect_right(self._entries, offset, key=lambda entry: entry.offset) - 1

    def _units_before(self, offset: int) -> int:
        """Return the number of checksums whose bytes end at or before an offset."""
        index = self._entry_at(offset)
        if index == len(self._entries):
            return self._units
        entry = self._entries[index]
        done = max(0, offset - entry.data_offset)
        return entry.first_unit + (
            done // self._every if done < entry.size else _count(entry.size, self._every)
        )

    def _place_of(self, unit: int) -> tuple[int, int]:
        """Return the start and the end of the bytes of a checksum."""
        entry = self._entries[bisect_right(self._entries, unit, key=lambda entry: entry.first_unit) - 1]
        start = (unit - entry.first_unit) * self._every
        end = min(start + self._every, entry.size)
        return entry.data_offset + start, entry.data_offset + end


class _Entry:
    """The position of a file in the archive. It has slots, because there may be a hundred thousand."""

    __slots__ = ("directory_offset", "first_unit", "member", "name", "offset")

    def __init__(self, member: Member, name: bytes, offset: int, first_unit: int) -> None:
        self.member = member
        self.name = name
        self.offset = offset
        self.first_unit = first_unit
        self.directory_offset = 0

    @property
    def size(self) -> int:
        return self.member.info.size

    @property
    def data_offset(self) -> int:
        return self.offset + records.local_header_size(self.name, self.size)

    @property
    def end(self) -> int:
        return self.data_offset + self.size + records.descriptor_size(self.size)

    @property
    def time(self) -> int:
        info = self.member.info
        return records.dos_time(info.modified or info.written)

    def header(self) -> bytes:
        return records.local_header(self.name, self.size, self.time)

    def directory_entry(self, checksum: int) -> bytes:
        return records.directory_entry(self.name, self.size, self.time, self.offset, checksum)


class _ArchiveReader:
    def __init__(self, archive: ArchiveSource, offset: int) -> None:
        self._wanted = 0
        self._parts = archive.parts(offset, lambda: self._wanted)

    def read(self, size: int, /) -> bytes:
        """Return as many bytes as requested even if the files are small: each read is a write to a socket."""
        parts, self._wanted = [], size
        while self._wanted:
            part = next(self._parts, b"")
            if not part:
                break
            parts.append(part)
            self._wanted -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._parts.close()


def _laid_out(members: Iterable[Member], every: int) -> list[_Entry]:
    """Return the files sorted by name, each with its position."""
    entries: list[_Entry] = []
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    offset = unit = 0
    for name, member in sorted(((_name(member.info), member) for member in members), key=lambda two: two[0]):
        path = member.info.path
        folder = folded = unicodedata.normalize("NFC", name.decode()).casefold()
        while (folder := folder.rpartition("/")[0]) and folder not in folders:
            folders[folder] = path
        other = taken.setdefault(folded, path)
        if other != path:
            raise SourceError(
                f"{other} and {path} would both be {name.decode()} in the archive, or differ only in case, "
                "and unpacking would keep one of them. Rename one, or give as path the folder above both.",
                path=path,
            )
        entry = _Entry(member, name, offset, unit)
        entries.append(entry)
        offset, unit = entry.end, unit + _count(member.info.size, every)
    for both in sorted(taken.keys() & folders.keys()):
        raise SourceError(
            f"{taken[both]} is a file, but {folders[both]} needs a folder of that name: unpacking would keep "
            "one of them. Rename one, or leave one out with exclude.",
            path=taken[both],
        )
    return entries


def _name(info: FileInfo) -> bytes:
    """Return a file's name in the archive.

    :raises SourceError: if unpacking would put it elsewhere, or cannot read or write it.
    """
    if fault := _fault(info.relative):
        raise SourceError(
            f"{info.path!r} cannot be stored in an archive under its name: {fault}. Rename it, or leave it "
            "out with pattern.",
            path=info.path,
        )
    return info.relative.encode()


def _fault(name: str) -> str:
    """Return the reason why a name is invalid, or an empty string."""
    if any(part in ("", ".", "..") for part in name.split("/")) or any(
        char < " " or char in "\\\x7f" for char in name
    ):
        return "it contains empty or relative folders, a backslash or a control character"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if len(encoded) > 0xFFFF:
        return "it is longer than 65,535 bytes"
    if max(map(len, encoded.split(b"/"))) > MAX_FILENAME_BYTES:
        return f"a part of it is longer than {MAX_FILENAME_BYTES} bytes, which file systems do not take"
    return ""


def _cut(record: bytes, skip: int, wanted: Callable[[], int]) -> Iterator[bytes]:
    """Yield a record without its first bytes, in pieces of the wanted length."""
    at = max(0, skip)
    while at < len(record):
        piece = record[at : at + wanted()]
        at += len(piece)
        yield piece


def _count(size: int, every: int) -> int:
    """Return how many checksums a file has: one after every ``every`` bytes, and one at its end."""
    return -(-size // every)
