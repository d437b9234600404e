"""PDF: documents of several writers, and damage."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations


@cache
def drawn(pages: int = 1, **options: Any) -> bytes:
    """Return a document that ReportLab wrote."""
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    out = io.BytesIO()
    document = canvas.Canvas(out, **options)
    for number in range(pages):
        document.drawString(100, 100, f"page {number}")
        document.showPage()
    document.save()
    return out.getvalue()


BY_HAND = (
    b"%PDF-1.4\n%\xe2\xe3\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer<</Root 1 0 R>>\nstartxref\n0\n%%EOF\n"
)


def for_the_web(length: int) -> bytes:
    """Return the start of a document for the web, whose first page has an end marker of its own."""
    first = b"%%PDF-1.5\n1 0 obj\n<</Linearized 1/L %d/H[ 9 9]/O 3/E 99/N 9/T 99>>\nendobj\n" % length
    return first + b"startxref\n0\n%%EOF\n"


@pytest.mark.parametrize("pages", [1, 20, 150])
@pytest.mark.parametrize("compression", [0, 1])
@pytest.mark.parametrize("version", [(1, 3), (1, 4), (1, 5)])
def test_documents_of_reportlab_pass(pages: int, compression: int, version: tuple[int, int]) -> None:
    """Short and long documents have no problems, and are an error if they are cut."""
    data = drawn(pages, pageCompression=compression, pdfVersion=version)
    result = inspect_bytes("a.PDF", data)
    assert (result.format, result.problems, result.unchecked) == ("PDF", [], [])
    assert result.version == f"{version[0]}.{version[1]}"
    assert [one.code for one in inspect_bytes("a.pdf", data[: len(data) - 20]).errors] == ["truncated"]


@pytest.mark.parametrize("password", ["", "secret"])
def test_documents_of_pypdf_pass(password: str) -> None:
    """Documents of pypdf have no problems; a reader may need no password, so encryption is none."""
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    assert inspect_bytes("a.pdf", out.getvalue()).problems == []


def test_documents_of_pillow_pass() -> None:
    """A photo that Pillow saved as a document has no problems."""
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.effect_noise((300, 300), 90).save(out, "PDF")
    assert inspect_bytes("a.pdf", out.getvalue()).problems == []


def test_documents_on_this_machine_pass() -> None:
    """Documents that are installed here have no problems."""
    paths = sorted(Path("/usr/share").rglob("*.pdf"))[:50]
    if not paths:
        pytest.skip("no PDF files are installed in /usr/share")
    for path in paths:
        assert inspect_bytes("a.pdf", path.read_bytes()).problems == [], path


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(BY_HAND, id="by hand"),
        pytest.param(b"\r\n junk\n" + BY_HAND, id="bytes before the start"),
        pytest.param(BY_HAND.rstrip(), id="no last line end"),
        pytest.param(BY_HAND + b"<!-- a web server's mark -->", id="bytes after the end"),
        pytest.param(BY_HAND + bytes(300_000), id="zeros"),
        pytest.param(BY_HAND + b"2 0 obj\nendobj\n%%EOF\n", id="an added part"),
        pytest.param(for_the_web(600) + bytes(900) + BY_HAND, id="for the web, then extended"),
    ],
)
def test_other_documents_pass(data: bytes) -> None:
    """Bytes around the document and added parts are no problem."""
    assert inspect_bytes("a.pdf", data).problems == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(BY_HAND[:-6], "truncated", id="without the end marker"),
        pytest.param(BY_HAND[:30], "truncated", id="half"),
        pytest.param(for_the_web(9000) + bytes(900), "truncated", id="for the web, cut"),
        pytest.param(BY_HAND[:30] + bytes(300_000), "truncated", id="zeros"),
        pytest.param(bytes(99), "damaged", id="only zeros"),
        pytest.param(b"<html>", "wrong_format", id="a web page"),
    ],
)
def test_damaged_documents_are_errors(data: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [one.code for one in inspect_bytes("a.pdf", data).errors] == [code]


@given(mutations([BY_HAND, for_the_web(500) + BY_HAND]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.pdf", data)


@given(st.binary(max_size=200))
def test_any_first_object_ends_in_a_result(data: bytes) -> None:
    """No first object breaks the inspection."""
    assert_ends_in_a_result("a.pdf", b"%PDF-1.5 /Linearized " + data + b"/L 99999999999999999999 %%EOF")
