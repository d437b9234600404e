"""Flat names, collisions and system files."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.utils import secure_filename

from airflow_360.emulator.files import flatten
from airflow_360.emulator.store import DEFAULT_EXTENSIONS
from airflow_360.exceptions import SourceError
from airflow_360.sources.names import (
    KNOWN_EXTENSIONS,
    extension,
    filename_for,
    flat_name,
    flat_names,
    is_hidden,
    is_system_file,
)

NAMES = {
    # flat already
    "scan.e57": "scan.e57",
    "DJI_0001.jpg": "DJI_0001.jpg",
    "floor-1.tar.zip": "floor-1.tar.zip",
    "a..b.e57": "a..b.e57",
    "__init__": "init",
    # extension
    "Scan.E57": "Scan.e57",
    "SCAN": "SCAN",
    "noextension": "noextension",
    "archive.": "archive",
    "a.b.": "a.b",
    # folders
    "100MEDIA/DJI_0001.JPG": "100MEDIA_DJI_0001.jpg",
    "/a/b.las": "a_b.las",
    "a\\b.las": "a_b.las",
    "a/b/": "a_b",
    # blanks and signs
    "my scan.e57": "my_scan.e57",
    "scan (1).e57": "scan_1_.e57",
    "a & b.e57": "a_b.e57",
    "a\tb\n.e57": "a_b_.e57",
    "50%.e57": "50_.e57",
    "a;rm -rf ~.e57": "a_rm_-rf_.e57",
    # other scripts
    "Büro.e57": "Buro.e57",
    "Straße.las": "Strasse.las",
    "Łódź.e57": "Lodz.e57",
    "façade.e57": "facade.e57",
    "fac\u0327ade.e57": "facade.e57",
    "Москва.e57": "Moskva.e57",
    "点群.e57": "Dian_Qun.e57",
    "ﬁle.e57": "file.e57",
    # hidden, empty, nothing left
    ".e57": "e57",
    ".hidden.e57": "hidden.e57",
    "_private.e57": "private.e57",
    "...": "file",
    "": "file",
    "🏠.e57": "file.e57",
    "?*<>|.e57": "file.e57",
    ".": "file",
    "..": "file",
    "\x00.e57": "file.e57",
    "\udcff.e57": "file.e57",
}


@pytest.mark.parametrize(("name", "flat"), NAMES.items(), ids=ascii)
def test_flat_name(name: str, flat: str) -> None:
    """A name comes out flat, as one would have guessed, and a flat one comes out as it is."""
    assert flat_name(name) == flat
    assert flat_name(flat) == flat


@pytest.mark.parametrize(
    ("name", "flat"), [("Scan.E57.", "Scan.e57"), ("Scan.E57.🏠", "Scan.e57"), ("a.B._", "a.b")], ids=ascii
)
def test_an_extension_that_vanishes(name: str, flat: str) -> None:
    """If no character of the extension is allowed, the part before it is the extension, in lower case."""
    assert flat_name(name) == flat


@pytest.mark.parametrize(
    ("one", "other"), [("Café 1.jpg", "Café1.jpg"), ("照片 1.jpg", "照片1.jpg")], ids=["Latin", "not Latin"]
)
def test_blanks_set_names_apart(one: str, other: str) -> None:
    """Two names that differ in a blank stay apart, in any script, as `Cafe 1` and `Cafe1` do."""
    assert flat_name(one) != flat_name(other)


@example(name="a.B.")
@given(name=st.text(max_size=60) | st.text("aB._-/ é日🏠\\\u0301\udcff", max_size=14))
def test_any_name(name: str) -> None:
    """For any name, the sent name is the stored one: on a werkzeug server, and after a second conversion."""
    flat = flat_name(name)
    assert flat == flat_name(flat) == secure_filename(flat) == flatten(flat)
    assert flat.isascii()
    assert flat
    assert extension(flat) == extension(flat).lower()


@given(stem=st.text("aB_-é日 ", max_size=14), last=st.from_regex(r"[A-Za-z0-9]{1,5}", fullmatch=True))
def test_any_name_with_an_extension(stem: str, last: str) -> None:
    """With any text before a usual extension, the extension stays, in lower case."""
    flat = flat_name(f"x{stem}.{last}")
    assert flat == flat_name(flat) == secure_filename(flat) == flatten(flat)
    assert extension(flat) == last.lower()


@pytest.mark.parametrize(
    "name", ["x" * 252 + ".e57", "é" * 300, "点" * 200 + ".e57"], ids=["one over", "é", "点"]
)
def test_long_names(name: str) -> None:
    """A name that no file system accepts is refused by name, with the next step."""
    with pytest.raises(SourceError, match="rename the file") as raised:
        flat_name(name)
    assert (raised.value.path, raised.value.retryable) == (name, False)
    assert flat_name("x" * 251 + ".e57") == "x" * 251 + ".e57"


EXTENSIONS = {
    "a.e57": "e57",
    "a.E57": "e57",
    "a.tar.gz": "gz",
    "a": "",
    ".e57": "",
    "a.": "",
    "": "",
    "..e57": "e57",
}


@pytest.mark.parametrize(("name", "last"), EXTENSIONS.items())
def test_extension(name: str, last: str) -> None:
    """An extension is the text after the last dot, in lower case, if there is text before the dot."""
    assert extension(name) == last


def test_known_extensions() -> None:
    """The list of a default server is the emulator's, in lower case and without dots."""
    assert {"e57", "las", "laz", "jpg", "zip"} <= KNOWN_EXTENSIONS == set(DEFAULT_EXTENSIONS)
    assert all(item == extension(f"a.{item}") for item in KNOWN_EXTENSIONS)


@pytest.mark.parametrize(
    ("relative", "names", "filename"),
    [
        ("100MEDIA/DJI_0001.JPG", "basename", "DJI_0001.jpg"),
        ("100MEDIA/DJI_0001.JPG", "path", "100MEDIA_DJI_0001.jpg"),
        ("a/b/c d.E57", "path", "a_b_c_d.e57"),
        ("c.e57", "path", "c.e57"),
    ],
)
def test_filename_for(relative: str, names: str, filename: str) -> None:
    """`basename` takes the last part of a path, `path` joins all of them."""
    assert filename_for(relative, names) == filename


def test_unknown_way_of_naming() -> None:
    """A way of naming that does not exist is an error that lists those that do."""
    with pytest.raises(SourceError, match='"basename" or "path"'):
        filename_for("a.e57", "full")


def files(*relatives: str) -> list[tuple[str, str]]:
    return [(f"/scans/{relative}", relative) for relative in relatives]


@pytest.mark.parametrize(
    ("relatives", "names"),
    [
        (("a/1.jpg", "b/1.jpg"), "basename"),
        (("Scan.e57", "scan.e57"), "path"),
        (("Scan.E57", "scan.e57"), "basename"),
        (("a b.e57", "a_b.e57"), "basename"),
        (("a/b.e57", "a_b.e57"), "path"),
        (("Büro.e57", "Buro.e57"), "basename"),
        (("🏠.e57", "🏡.e57"), "basename"),
        (("x.e57", "y.e57", "y.E57"), "basename"),
    ],
    ids=[
        "two folders",
        "case",
        "case of the extension",
        "blank",
        "joined",
        "umlaut",
        "emoji",
        "among others",
    ],
)
def test_collisions(relatives: tuple[str, ...], names: str) -> None:
    """Two files of one name are an error that names both, the name, and the ways out that are left."""
    with pytest.raises(SourceError) as raised:
        flat_names(files(*relatives), names)
    message = str(raised.value)
    for said in (f"/scans/{relatives[-1]}", f"/scans/{relatives[-2]}", "Rename", "archive"):
        assert said in message
    assert ('names="path"' in message) == (names == "basename")
    assert not raised.value.retryable


def test_no_collision() -> None:
    """Files that keep apart come out by path; one that is listed twice is one file."""
    assert flat_names(files("a/1.JPG", "b/1.JPG", "a/1.JPG"), "path") == {
        "/scans/a/1.JPG": "a_1.jpg",
        "/scans/b/1.JPG": "b_1.jpg",
    }
    assert flat_names([], "basename") == {}


@given(
    relatives=st.lists(
        st.text("aAbB._é /", min_size=1, max_size=6).filter(lambda text: text.strip("/")), max_size=6
    ),
    names=st.sampled_from(["basename", "path"]),
)
def test_what_is_sent_is_unique(relatives: list[str], names: str) -> None:
    """However files are called, their names in the session differ, in any case, or it is an error."""
    try:
        flat = flat_names(files(*relatives), names)
    except SourceError:
        return
    assert len({name.lower() for name in flat.values()}) == len(set(relatives))


SYSTEM_FILES = {
    ".DS_Store": True,
    "sub/.DS_Store": True,
    "Thumbs.db": True,
    "THUMBS.DB": True,
    "sub/desktop.ini": True,
    "Desktop.ini": True,
    ".hidden.e57": True,
    ".git/config.txt": True,
    "a/.cache/b.e57": True,
    "._scan.e57": True,
    "folder/": True,
    "": True,
    "sub_$folder$": True,
    "scan.e57": False,
    "a/b/scan.e57": False,
    "thumbs.db.e57": False,
    "a.hidden.e57": False,
    "points.db": False,
    "..e57": True,
}


@pytest.mark.parametrize(("relative", "expected"), SYSTEM_FILES.items(), ids=SYSTEM_FILES.keys())
def test_system_files_are_not_uploaded(relative: str, expected: bool) -> None:
    """Hidden files, folder markers and system files are told from scans."""
    assert is_system_file(relative) is expected


def test_a_dot_at_the_front_hides_a_name() -> None:
    """A dot at the front hides a name, elsewhere it does not."""
    assert is_hidden(".git")
    assert not is_hidden("a.git")
