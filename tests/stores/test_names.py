"""Names with a special meaning in a URL: the right file of a real store is read."""

from __future__ import annotations

import io
import zipfile

import pytest

from tests.stores.conftest import Site
from tests.stores.table import shows, value

pytestmark = pytest.mark.long

NAMES = [
    "01 question?mark.e57",
    "02 hash#tag.e57",
    "03 both?and#more.e57",
    "04 100%41.e57",
    "05 two  words .e57",
    "06 tab\there.e57",
    "07 点群-büro.e57",
    "08 [brackets] {braces}.e57",
    "09 quote's.e57",
    '10 "quoted".e57',
    "11 a&b=c+d;e,f@g.e57",
    "12 star*.e57",
    "13 ?query=1.e57",
    "14 %2F and %.e57",
    "folder #1 %41 ?/15 inside.e57",
    "点群 [1]/16 inside.e57",
]
#: Also the names that a zip refuses, because unzip would change them.
CONTROLS = "\t\n\\"


@pytest.fixture
def odd(site: Site) -> dict[str, bytes]:
    """The names that the store supports, each with different bytes; they are in the test's folder."""
    names = [name for name in NAMES if not set(name) & set(site.store.forbidden_characters)]
    files = {name: f"these are the bytes of {name}".encode() for name in names}
    for name, data in files.items():
        site.put(name, data)
    return files


@shows("names with `?` `#` `%41`, spaces, tab, CJK, brackets, quotes")
def test_names(site: Site, odd: dict[str, bytes], request: pytest.FixtureRequest) -> None:
    """Each name is listed as it is in the store, and its own bytes arrive, with each operator."""
    listed = site.listed()
    assert {str(file["path"]).removeprefix(site.url()) for file in listed} == set(odd)
    for file in listed:
        outcome = site.upload(**file, forget=False)
        assert not outcome.errors, (file, outcome)
    arrived = {str(file["path"]).removeprefix(site.url()): site.held(file["filename"]) for file in listed}
    assert arrived == odd
    if left_out := len(NAMES) - len(odd):
        value(request, f"yes ({left_out} of {len(NAMES)} names cannot exist there)")


@shows("names with `?` `#` `%41`, spaces, tab, CJK, brackets, quotes")
def test_names_in_a_folder(site: Site, odd: dict[str, bytes]) -> None:
    """A whole folder of such names arrives, and again as a zip, if unzip supports the names."""
    outcome = site.run("UploadFilesOperator", upload_id=site.upload_id, path=site.url())
    assert not outcome.errors, outcome
    assert outcome.result["files"] == len(odd)
    zipped = {name: data for name, data in odd.items() if not set(name) & set(CONTROLS)}
    outcome = site.run(
        "UploadFilesOperator",
        upload_id=site.upload_id,
        path=site.url(),
        archive="odd.zip",
        exclude=[f"*{control}*" for control in "\t\n"],
    )
    assert not outcome.errors, outcome
    with zipfile.ZipFile(io.BytesIO(site.held("odd.zip") or b"")) as archive:
        assert {info.filename: archive.read(info) for info in archive.infolist()} == zipped
