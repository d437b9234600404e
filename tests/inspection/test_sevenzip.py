"""7z: archives of py7zr with every method, and damage."""

from __future__ import annotations

import io
import random
import struct
from binascii import crc32
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

NOISE = random.Random(360).randbytes
METHODS = ["COPY", "LZMA", "LZMA2", "BZIP2", "DEFLATE", "ZSTD", "PPMD", "BROTLI"]


@cache
def packed(
    method: str = "LZMA2", members: int = 3, *, password: str = "", directory: str = "compressed"
) -> bytes:
    """Return an archive that py7zr wrote."""
    py7zr = pytest.importorskip("py7zr")
    filters: list[dict[str, Any]] = [{"id": getattr(py7zr, f"FILTER_{method}")}]
    if password:
        filters.append({"id": py7zr.FILTER_CRYPTO_AES256_SHA256})
    out = io.BytesIO()
    with py7zr.SevenZipFile(
        out, "w", filters=filters, password=password or None, header_encryption=directory == "encrypted"
    ) as archive:
        archive.set_encoded_header_mode(directory != "plain")
        for number in range(members):
            archive.writestr(NOISE(500 * number), f"photos/{number}.jpg")
    return out.getvalue()


def by_hand(directory: bytes = b"\1\0", offset: int = 100) -> bytes:
    start = struct.pack("<QQI", offset, len(directory), crc32(directory))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", crc32(start)) + start + bytes(offset) + directory


PLAIN = by_hand()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("members", [1, 5])
@pytest.mark.parametrize("directory", ["plain", "compressed"])
def test_archives_of_every_method_pass(method: str, members: int, directory: str) -> None:
    """What py7zr writes has no problems."""
    result = inspect_bytes("a.7Z", packed(method, members, directory=directory))
    assert (result.format, result.version, result.problems, result.unchecked) == ("7z", "0.4", [], [])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(PLAIN + bytes(100), id="zeros"),
        pytest.param(by_hand(offset=900_000), id="large"),
        pytest.param(by_hand(b"\1" + bytes(300_000)), id="a large directory"),
    ],
)
def test_other_archives_pass(data: bytes) -> None:
    """Padding and sizes are no problem."""
    result = inspect_bytes("a.7z", data)
    assert (result.problems, result.unchecked) == ([], [])


def test_an_empty_archive_is_a_warning() -> None:
    """An archive without members is valid, and odd."""
    problems = inspect_bytes("a.7z", by_hand(b"", 0)).problems
    assert [(one.severity, one.code) for one in problems] == [("warning", "empty")]


def test_directories_beyond_1_mib_are_not_checked() -> None:
    """A huge directory would take too much to read."""
    result = inspect_bytes("a.7z", by_hand(b"\1" + bytes(2_000_000)))
    assert (result.problems, len(result.unchecked)) == ([], 1)


@pytest.mark.parametrize("directory", ["plain", "encrypted"])
def test_archives_with_a_password_are_an_error(directory: str) -> None:
    """The server has no password; it is seen if the directory is plain, or encrypted itself."""
    data = packed(password="secret", directory=directory)
    assert [one.code for one in inspect_bytes("a.7z", data).errors] == ["encrypted"]


def test_passwords_in_a_compressed_directory_are_not_seen() -> None:
    """A compressed directory is not unpacked."""
    assert inspect_bytes("a.7z", packed(password="secret")).problems == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(PLAIN[:-1], "truncated", id="without the last byte"),
        pytest.param(PLAIN[:50], "truncated", id="half"),
        pytest.param(PLAIN[:20], "truncated", id="within the header"),
        pytest.param(PLAIN[:8] + bytes(200), "no_directory", id="interrupted"),
        pytest.param(PLAIN[:20] + b"\xff" + PLAIN[21:], "checksum", id="header changed"),
        pytest.param(PLAIN[:-1] + b"\xff", "checksum", id="directory changed"),
        pytest.param(PLAIN[:-2] + bytes(2), "checksum", id="zeros for the directory"),
        pytest.param(by_hand(b"\7\0"), "damaged", id="an unknown directory"),
        pytest.param(b"PK\3\4" + bytes(99), "wrong_format", id="ZIP"),
    ],
)
def test_damaged_archives_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [one.code for one in inspect_bytes("a.7z", data).errors] == [code]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_archives_of_py7zr_are_errors(share: float) -> None:
    """An archive is an error wherever it was cut."""
    data = packed()
    assert inspect_bytes("a.7z", data[: int(len(data) * share)]).errors


@given(mutations([PLAIN, by_hand(b"\x17" + bytes(90), 0)]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.7z", data)


@given(st.binary(min_size=20, max_size=20), st.binary(max_size=50))
def test_any_header_with_its_checksum_ends_in_a_result(start: bytes, rest: bytes) -> None:
    """No numbers in a header break the inspection."""
    assert_ends_in_a_result("a.7z", PLAIN[:8] + struct.pack("<I", crc32(start)) + start + rest)
