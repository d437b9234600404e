"""ZIP and KMZ: directories of several writers, names, and damage."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from airflow_360.inspection.results import Inspection
from airflow_360.sources import zip_records as records
from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

NOISE = random.Random(360).randbytes
PHOTOS = {f"photos/{number:03}.jpg": NOISE(900) for number in range(20)}
GIB = 1 << 30
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
DATA_FOLDERS = [Path(sysconfig.get_path("stdlib")) / "test", Path("/usr/share")]


class Unseekable(io.BytesIO):
    """A file to which a zip is streamed: its sizes follow the members."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def zipped(
    files: dict[str, bytes],
    *,
    out: io.BytesIO | None = None,
    method: int = zipfile.ZIP_STORED,
    comment: bytes = b"",
    zip64: bool = False,
) -> bytes:
    out = out or io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            with archive.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
    return out.getvalue()


def zip64_ended(data: bytes) -> bytes:
    """Return an archive with zip64 records at its end, as our own writer and others write them."""
    entries, size, offset = struct.unpack_from("<10xHII", data, len(data) - 22)
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(data) - 22, 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:-22] + end + locator + last


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    at = offset % len(data)
    return data[:at] + new + data[at + len(new) :]


def encrypted(data: bytes) -> bytes:
    """Return an archive whose first member is marked as encrypted."""
    at = data.index(b"PK\1\2")
    return patched(data, at + 8, bytes([data[at + 8] | 1]))


def codes(result: Inspection) -> list[tuple[str, str]]:
    return [(problem.severity.value, problem.code) for problem in result.problems]


PLAIN = zipped(PHOTOS)
LARGE = zipped({f"photos/{number:05}.jpg": bytes(10) for number in range(3000)})
DIRECTORY = PLAIN.index(b"PK\1\2")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK\5\6" * 9, NOISE(65_535)])
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_archives_of_zipfile_pass(method: int, comment: bytes, zip64: bool, streamed: bool) -> None:
    """Methods, comments, zip64 and streaming are no problems, and the members are counted."""
    out = Unseekable() if streamed else io.BytesIO()
    result = inspect_bytes("a.ZIP", zipped(PHOTOS, out=out, method=method, comment=comment, zip64=zip64))
    assert (result.format, result.problems, result.unchecked) == ("ZIP", [], [])
    assert result.counts == {"members": 20}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(zip64_ended(PLAIN), id="zip64"),
        pytest.param(b"#!/bin/sh\n" + PLAIN, id="self-extracting"),
        pytest.param(b"#!/bin/sh\n" + zip64_ended(PLAIN), id="self-extracting zip64"),
        pytest.param(PLAIN + b"\n", id="a line end"),
        pytest.param(PLAIN + bytes(10_000), id="zeros"),
        pytest.param(zipped({"ä ö/ü.jpg": b"1", "日本.las": b"2"}), id="names in UTF-8"),
        pytest.param(zipped({"a.zip": PLAIN}), id="an archive in an archive"),
        pytest.param(zipped({"photos/": b"", "photos/a.jpg": b"1"}), id="folder entries"),
        pytest.param(zipped({"__MACOSX/._a.jpg": b"", "a.jpg": b"", ".DS_Store": b""}), id="macOS"),
        pytest.param(zipped({"Thumbs.db": b"", "x/desktop.ini": b"", "A.JPG": b""}), id="Windows"),
        pytest.param(zipped({"empty.jpg": b""}), id="an empty member"),
        pytest.param(zipped({"./a.jpg": b"", "./.git/b.exe": b""}), id="names from a folder"),
        pytest.param(LARGE, id="three thousand members"),
    ],
)
def test_other_archives_pass(data: bytes) -> None:
    """What other writers do is no problem."""
    result = inspect_bytes("a.zip", data)
    assert (result.problems, result.unchecked) == ([], [])
    assert result.counts["members"] == len(zipfile.ZipFile(io.BytesIO(data)).infolist())


def test_an_archive_with_a_digital_signature_passes() -> None:
    """A signature between the directory and the end record is in the specification."""
    assert inspect_bytes("a.zip", LARGE[:-22] + b"PK\5\5\3\0abc" + LARGE[-22:]).problems == []


def test_an_empty_archive_is_a_warning() -> None:
    """An archive without members is valid, and odd."""
    assert codes(inspect_bytes("a.zip", zipped({}))) == [("warning", "empty")]


def test_seventy_thousand_members_are_counted_without_their_names() -> None:
    """A directory of several MiB is read in part; the names in the rest are reported as unchecked."""
    local = records.local_header(b"a.jpg", 0, 0) + records.descriptor(0, 0)
    entries = [records.directory_entry(b"a.jpg", 0, 0, number * len(local), 0) for number in range(70_000)]
    directory = b"".join(entries)
    end = records.end_records(70_000, 70_000 * len(local), len(directory))
    data = local * 70_000 + directory + end
    ranges = Ranges(lambda offset, length: data[offset : offset + length], len(data))
    result = inspect_file("a.zip", ranges)
    assert (result.problems, result.counts) == ([], {"members": 70_000})
    assert len(result.unchecked) == 1
    assert ranges.reads == 3


@pytest.mark.parametrize("sizes", [[10, 20], [5 * GIB, 3], [GIB] * 6])
def test_the_archives_of_this_package_pass(sizes: list[int]) -> None:
    """The records of our own writer pass for small and huge files; their bytes are never read."""
    parts: dict[int, bytes] = {}
    directory, at = b"", 0
    for number, size in enumerate(sizes):
        name = b"scans/%05d.e57" % number
        parts[at] = records.local_header(name, size, 0)
        directory += records.directory_entry(name, size, 0, at, 0)
        at += records.local_header_size(name, size) + size + records.descriptor_size(size)
    parts[at] = directory + records.end_records(len(sizes), at, len(directory))
    total = at + len(parts[at])

    def read(offset: int, length: int) -> bytes:
        data = bytearray(length)
        for start, part in parts.items():
            begin, end = max(start, offset), min(start + len(part), offset + length)
            if begin < end:
                data[begin - offset : end - offset] = part[begin - start : end - start]
        return bytes(data)

    result = inspect_file("a.zip", Ranges(read, total))
    assert (result.problems, result.counts) == ([], {"members": len(sizes)})


@pytest.mark.parametrize("program", ["zip", "7z", "7zz", "bsdtar"])
@pytest.mark.parametrize("level", ["0", "9"])
def test_archives_of_other_programs_pass(tmp_path: Path, program: str, level: str) -> None:
    """What the programs of this machine write has no problems."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    (tmp_path / "scan.las").write_bytes(bytes(100_000) + NOISE(1000))
    options = {"zip": ["-r", f"-{level}"], "bsdtar": ["-a", "-cf"]}.get(program, ["a", f"-mx={level}"])
    subprocess.run([program, *options, "a.zip", "scan.las"], cwd=tmp_path, check=True, capture_output=True)
    assert inspect_bytes("a.zip", (tmp_path / "a.zip").read_bytes()).problems == []


def test_archives_on_this_machine_are_whole() -> None:
    """Archives that are installed here have no problem but the extensions of their members."""
    paths = [path for folder in DATA_FOLDERS for path in folder.rglob("*.zip")]
    for path in [path for path in paths if zipfile.is_zipfile(path)][:100]:
        result = inspect_bytes("a.zip", path.read_bytes())
        assert {problem.code for problem in result.problems} <= {"refused_member", "empty"}, path


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(PLAIN[: len(PLAIN) // 2], "no_directory", id="half"),
        pytest.param(PLAIN[: DIRECTORY + 500], "no_directory", id="within the directory"),
        pytest.param(PLAIN[:-1], "no_directory", id="without the last byte"),
        pytest.param(PLAIN[:5000] + bytes(len(PLAIN) - 5000), "no_directory", id="zeros from the middle on"),
        pytest.param(PLAIN[:4], "no_directory", id="four bytes"),
        pytest.param(
            zipped({"a.zip": PLAIN, "b.jpg": NOISE(9000)})[:-9000], "no_directory", id="inner directory"
        ),
        pytest.param(PLAIN[:3000] + PLAIN[4000:], "truncated", id="a hole"),
        pytest.param(PLAIN[500:], "truncated", id="without its start"),
        pytest.param(zip64_ended(PLAIN)[:-98] + zip64_ended(PLAIN)[-42:], "no_directory", id="zip64 record"),
        pytest.param(patched(PLAIN, -12, struct.pack("<H", 999)), "counts", id="too many members"),
        pytest.param(patched(PLAIN, DIRECTORY + 900, bytes(200)), "counts", id="zeros in the directory"),
        pytest.param(patched(PLAIN, DIRECTORY, bytes(4)), "no_directory", id="directory does not start"),
        pytest.param(patched(PLAIN, DIRECTORY + 20, b"\xff\xff\xff\x7f"), "damaged", id="a huge member"),
        pytest.param(patched(PLAIN, DIRECTORY + 42, b"\xff\xff\xff\x7f"), "damaged", id="a far member"),
        pytest.param(patched(PLAIN, DIRECTORY + 20, struct.pack("<I", 15_000)), "damaged", id="overlap"),
        pytest.param(bytes(4) + PLAIN[4:], "damaged", id="first member"),
        pytest.param(patched(PLAIN, -18, struct.pack("<HH", 3, 3)), "damaged", id="split"),
        pytest.param(encrypted(PLAIN), "encrypted", id="encrypted"),
        pytest.param(NOISE(100_000), "wrong_format", id="noise"),
        pytest.param(b"7z\xbc\xaf\x27\x1c" + bytes(100), "wrong_format", id="7z"),
        pytest.param(bytes(100_000), "damaged", id="zeros"),
        pytest.param(zipped({"a.doc": b"", "b.exe": b""}), "refused_member", id="nothing accepted"),
    ],
)
def test_damaged_archives_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert codes(inspect_bytes("a.zip", data)) == [("error", code)]


def test_fewer_members_than_the_directory_has_are_a_warning() -> None:
    """Programs that read the directory ignore the number."""
    data = patched(PLAIN, -14, struct.pack("<HH", 3, 3))
    assert codes(inspect_bytes("a.zip", data)) == [("warning", "counts")]


def test_archives_beyond_4_gib_without_zip64_are_a_warning() -> None:
    """Finder writes such archives with numbers modulo 4 GiB."""
    size = len(PLAIN) + 4 * GIB

    def read(offset: int, length: int) -> bytes:
        first = PLAIN[:DIRECTORY][offset : offset + length].ljust(length, b"\0")
        last = PLAIN[DIRECTORY:]
        start = max(offset, size - len(last))
        return first[: max(start - offset, 0)] + last[start - size + len(last) :][: offset + length - start]

    assert codes(inspect_file("a.zip", Ranges(read, size))) == [("warning", "damaged")]


def test_refused_members_are_counted_by_extension() -> None:
    """A member that a default server refuses is a warning with extensions, numbers and the first name."""
    files = {"a.jpg": b"", "b.doc": b"", "x/c.DOC": b"", "d.exe": b"", "README": b"", ".hidden.exe": b""}
    result = inspect_bytes("a.zip", zipped(files))
    assert codes(result) == [("warning", "refused_member")]
    (problem,) = result.problems
    for fact in ("4 of 5 files", "doc (2 files)", "exe (1 file)", "no extension (1 file)", "b.doc"):
        assert fact in problem.text


def test_names_are_made_printable_and_short() -> None:
    """A name with control characters cannot change a message."""
    (problem,) = inspect_bytes(
        "a.zip", zipped({"a\x1b[31m\n" + 5000 * "x" + ".b\u202ec": b"", "a.jpg": b""})
    ).problems
    assert problem.text.isprintable()
    assert len(problem.text) < 300


def test_kmz_may_hold_files_of_any_kind() -> None:
    """Icons and models of a KMZ file are no problem."""
    data = zipped(
        {"doc.kml": b"<kml/>", "icons/a.gif": b"", "models/b.dae": b""}, method=zipfile.ZIP_DEFLATED
    )
    result = inspect_bytes("a.kmz", data)
    assert (result.format, result.problems) == ("KMZ", [])


def test_kmz_without_kml_is_an_error() -> None:
    """A ZIP archive of photos is no KMZ file."""
    assert codes(inspect_bytes("a.kmz", PLAIN)) == [("error", "wrong_format")]


@given(
    mutations([zipped({"a.jpg": b"1", "b.las": b"22"}), zip64_ended(zipped({"a.jpg": b"1"}, comment=b""))])
)
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.zip", data)
    assert_ends_in_a_result("a.kmz", data)


@given(st.binary(max_size=100), st.binary(max_size=22))
def test_any_end_ends_in_a_result(entry: bytes, end: bytes) -> None:
    """No directory breaks the inspection."""
    assert_ends_in_a_result(
        "a.zip", b"PK\3\4PK\1\2" + entry + b"PK\6\7" + end + b"PK\5\6" + end.ljust(18, b"\0")
    )
