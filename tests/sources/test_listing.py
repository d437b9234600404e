"""Which files a path means: the same rules for a disk, for Airflow's object storage and for S3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import pytest

from airflow_360.exceptions import SourceError
from airflow_360.sources import Location
from airflow_360.sources.listing import list_files, list_scans
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location

STORES = ["disk", "object storage", "s3"]
FILES = {
    "loose.las": b"loose",
    "scan/a.e57": b"a",
    "scan/B.E57": b"bb",
    "scan/notes.txt": b"ccc",
    "scan/.DS_Store": b"litter",
    "scan/Thumbs.db": b"litter",
    "scan/.hidden.e57": b"hidden",
    "scan/.git/x.e57": b"hidden",
    "scan/sub/c.e57": b"dddd",
    "scan/sub/deep/d.e57": b"eeeee",
    "scan2/z.las": b"z",
    "photos/100MEDIA/1.jpg": b"1",
    "photos/101MEDIA/1.jpg": b"22",
    ".trash/old.e57": b"hidden",
}


@dataclass
class Store:
    """A store of files, whatever its kind.

    :param kind: one of ``STORES``.
    :param root: the path of its folder, as a user would write it, without a slash at the end.
    """

    kind: str
    root: str
    folder: Path | None = None
    s3: Any = None

    def open(self, path: str) -> Location:
        if self.s3 is not None:
            authority, _, key = path.removeprefix("s3://").partition("/")
            return S3Location(self.s3, authority, key)
        if "://" not in path:
            return PathLocation(Path(path))
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        return PathLocation(ObjectStoragePath(path))

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            if self.s3 is not None:
                self.s3.put_object(Bucket=self.root.removeprefix("s3://"), Key=name, Body=data)
            elif self.folder is not None:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)

    def files(self, path: str, pattern: str | None = None, recursive: bool = False) -> list[str]:
        """Return the paths of the files that a path below the root means, without the root."""
        listed = list_files(self.open, self.root + path, pattern, recursive)
        return [file.path.removeprefix(f"{self.root}/") for file in listed]

    def scans(self, path: str, pattern: str | None = None) -> list[str]:
        """Return the folders that hold scans, without the root and without a slash at the end."""
        found = list_scans(self.open, self.root + path, pattern)
        return [folder.removeprefix(f"{self.root}/").rstrip("/") for folder in found]


def made(kind: str, s3: Any, new_bucket: Callable[[], str], folder: Path) -> Store:
    if kind == "s3":
        return Store(kind, f"s3://{new_bucket()}", s3=s3)
    return Store(kind, str(folder) if kind == "disk" else f"file://{folder}", folder)


@pytest.fixture(params=STORES)
def empty(request: pytest.FixtureRequest, s3: Any, new_bucket: Callable[[], str], tmp_path: Path) -> Store:
    """A store of the test's own."""
    return made(request.param, s3, new_bucket, tmp_path)


@pytest.fixture(scope="module", params=STORES)
def store(
    request: pytest.FixtureRequest,
    s3: Any,
    new_bucket: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    """A store that holds `FILES`, for tests that only read."""
    store = made(request.param, s3, new_bucket, tmp_path_factory.mktemp("store"))
    store.write(FILES)
    return store


SCAN = ["scan/B.E57", "scan/a.e57", "scan/notes.txt"]
BELOW = ["scan/sub/c.e57", "scan/sub/deep/d.e57"]
PHOTOS = ["photos/100MEDIA/1.jpg", "photos/101MEDIA/1.jpg"]


@pytest.mark.parametrize(
    ("path", "pattern", "recursive", "files"),
    [
        ("/scan", None, False, SCAN),
        ("/scan/", None, False, SCAN),
        ("/scan/", None, True, SCAN + BELOW),
        ("", None, True, ["loose.las", *PHOTOS, *SCAN, *BELOW, "scan2/z.las"]),
        ("/", None, False, ["loose.las"]),
        ("/scan/", "*.e57", False, ["scan/B.E57", "scan/a.e57"]),
        ("/scan/", "*.E57", True, ["scan/B.E57", "scan/a.e57", *BELOW]),
        ("/scan/", "[ab].*", False, ["scan/B.E57", "scan/a.e57"]),
        ("/scan/", "?.e57", True, ["scan/B.E57", "scan/a.e57", *BELOW]),
        ("/scan/", "sub/*", True, []),
        ("/scan/", "*.laz", True, []),
        ("/scan/a.e57", None, False, ["scan/a.e57"]),
        ("/scan/a.e57", "*.las", False, ["scan/a.e57"]),
        ("/scan/.hidden.e57", None, False, ["scan/.hidden.e57"]),
        ("/scan/Thumbs.db", None, False, ["scan/Thumbs.db"]),
        ("/scan/*.e57", None, False, ["scan/a.e57"]),
        ("/scan/[ab].*", None, False, ["scan/a.e57"]),
        ("/scan/*", None, False, SCAN),
        ("/scan/*", "*.e57", False, ["scan/B.E57", "scan/a.e57"]),
        ("/scan/*", None, True, SCAN + BELOW),
        ("/*.e57", None, False, []),
        ("/*/*.e57", None, False, ["scan/a.e57"]),
        ("/*/*.las", None, False, ["scan2/z.las"]),
        ("/photos/*/1.jpg", None, False, PHOTOS),
        ("/photos/10?MEDIA/*", None, False, PHOTOS),
        ("/photos/*1MEDIA/*.jpg", None, False, PHOTOS[1:]),
        ("/photos/1*", None, False, []),
        ("/photos/1*", None, True, PHOTOS),
        ("/photos/*", "1.JPG", True, PHOTOS),
        ("/scan/*/*", None, False, ["scan/sub/c.e57"]),
        ("/scan/*/*", None, True, BELOW),
        ("/scan/*/*/*", None, False, ["scan/sub/deep/d.e57"]),
        ("/scan?/*", None, False, ["scan2/z.las"]),
        ("/s*/sub/c.e57", None, False, ["scan/sub/c.e57"]),
        ("/scan/.*", None, False, []),
        ("/none", None, False, []),
        ("/none/", None, True, []),
        ("/none/*.e57", None, False, []),
    ],
)
def test_list_files(store: Store, path: str, pattern: str | None, recursive: bool, files: list[str]) -> None:
    """A path means the same files in every store, sorted; wildcards stay within their folder."""
    assert store.files(path, pattern, recursive) == files


def test_entries(store: Store) -> None:
    """An entry holds path, relative path and size, and what a folder's listing says is what a file's says."""
    entries = {file.relative: file for file in list_files(store.open, f"{store.root}/scan/", recursive=True)}
    assert sorted(entries) == ["B.E57", "a.e57", "notes.txt", "sub/c.e57", "sub/deep/d.e57"]
    deep = entries["sub/deep/d.e57"]
    assert (deep.path, deep.size) == (f"{store.root}/scan/sub/deep/d.e57", 5)
    (alone,) = list_files(store.open, deep.path)
    assert (alone.path, alone.size, alone.etag, alone.relative) == (deep.path, 5, deep.etag, "d.e57")
    assert (deep.etag is not None) == (store.kind == "s3")


def test_relative_paths_of_a_glob(store: Store) -> None:
    """Below a glob, paths are relative to the folder before its first wildcard."""
    listed = list_files(store.open, f"{store.root}/photos/*/1.jpg")
    assert [file.relative for file in listed] == ["100MEDIA/1.jpg", "101MEDIA/1.jpg"]


def test_what_is_listed_opens(store: Store) -> None:
    """Every file that a listing gives opens by its path, with its bytes."""
    for file in list_files(store.open, store.root, recursive=True):
        location = store.open(file.path)
        reader = location.source(file).open(0)
        assert reader.read(100) == FILES[file.path.removeprefix(f"{store.root}/")]
        reader.close()
        assert location.is_file()


def test_left_out_files_are_counted(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many files were found and how many hidden ones and litter were left out."""
    with caplog.at_level(logging.INFO, "airflow_360"):
        store.files("/scan/")
        store.files("/photos/*/1.jpg")
    hidden = 3 if store.kind == "s3" else 4  # a folder that is not entered is counted where folders are real
    assert caplog.messages == [
        f"{store.root}/scan/: 3 files, {hidden} hidden or litter left out.",
        f"{store.root}/photos/*/1.jpg: 2 files.",
    ]


def test_missing_parent(store: Store) -> None:
    """A path whose parent, or bucket, does not exist is an error that names it."""
    path = "s3://no-such-bucket/scan/" if store.kind == "s3" else f"{store.root}/none/scan/"
    for attempt in (path, f"{path}*.e57"):
        with pytest.raises(SourceError) as raised:
            list_files(store.open, attempt)
        assert "bucket" in str(raised.value) or "does not exist" in str(raised.value)
        assert not raised.value.retryable
    with pytest.raises(SourceError):
        list_scans(store.open, path)


def test_list_scans(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Each folder directly below that holds files at any depth is a scan; files beside them are warned of."""
    assert store.scans("/") == ["photos", "scan", "scan2"]
    assert store.scans("/photos/") == ["photos/100MEDIA", "photos/101MEDIA"]
    assert f"{store.root}/: 1 files lie beside the folders and belong to no scan." in caplog.messages


@pytest.mark.parametrize(
    ("pattern", "scans"),
    [("*.e57", ["scan"]), ("*.LAS", ["scan2"]), ("*.jpg", ["photos"]), ("*.xyz", []), ("*.db", [])],
)
def test_list_scans_by_pattern(store: Store, pattern: str, scans: list[str]) -> None:
    """A folder is a scan where a file's name fits the pattern, in any case; litter never counts."""
    assert store.scans("/", pattern) == scans


def test_folders_without_scans(empty: Store) -> None:
    """Folders that hold only hidden files and litter are no scans."""
    empty.write({"a/.DS_Store": b"", "b/.cache/x.e57": b"", "c/sub/Thumbs.db": b"", ".d/x.e57": b""})
    assert empty.scans("/") == []
    empty.write({"c/sub/deep/x.e57": b""})
    assert empty.scans("/") == ["c"]


@pytest.mark.parametrize(
    "folder",
    [
        "scan of today",
        "Büro, 2. Stock",
        "100%",
        "a#b",
        "a+b",
        "scan [final]",
        "a*b",
    ],
)
def test_a_scan_that_is_listed_is_found(empty: Store, folder: str) -> None:
    """Every path that the listing of scans gives leads to that scan's files, however the folder is called."""
    empty.write({f"{folder}/a.e57": b"a", f"{folder}/sub/b.e57": b"b"})
    (scan,) = list_scans(empty.open, f"{empty.root}/")
    assert [file.size for file in list_files(empty.open, scan, recursive=True)] == [1, 1]
    assert [file.relative for file in list_files(empty.open, scan)] == ["a.e57"]


def test_a_file_with_wildcards_in_its_name(empty: Store) -> None:
    """A file that exists is taken as it is written, even if its name looks like a glob."""
    empty.write({"scan [1].e57": b"1", "scan 1.e57": b"22"})
    assert empty.files("/scan [1].e57") == ["scan [1].e57"]


def test_two_stars(store: Store) -> None:
    """Two stars mean no more than one: folders are entered by `recursive` only."""
    assert store.files("/scan/**") == store.files("/scan/*")
    assert store.files("/**/*.e57") == ["scan/a.e57"]


# -- what only a disk has


def test_links(tmp_path: Path) -> None:
    """A link to a file is a file; a link to a folder is not entered, so that no loop is."""
    store = Store("disk", str(tmp_path / "root"), tmp_path / "root")
    store.write({"scan/a.e57": b"a"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.e57").write_bytes(b"bb")
    (tmp_path / "root" / "scan" / "b.e57").symlink_to(tmp_path / "elsewhere" / "b.e57")
    (tmp_path / "root" / "scan" / "loop").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "scan" / "folder").symlink_to(tmp_path / "elsewhere")
    assert store.files("/scan/", recursive=True) == ["scan/a.e57", "scan/b.e57"]
    assert store.files("/scan/*/*", recursive=True) == []
    assert store.files("", recursive=True) == ["scan/a.e57", "scan/b.e57"]


def test_a_linked_folder_as_the_path(tmp_path: Path) -> None:
    """A link to a folder that is itself the path is followed."""
    store = Store("disk", str(tmp_path / "link"), tmp_path / "root")
    store.write({"a.e57": b"a"})
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert store.files("/") == ["a.e57"]
    assert store.files("") == ["a.e57"]


def test_a_link_to_nothing(tmp_path: Path) -> None:
    """A link to nothing is an error that names it, rather than a file that is missing from the project."""
    store = Store("disk", str(tmp_path), tmp_path)
    (tmp_path / "scan.e57").symlink_to(tmp_path / "gone.e57")
    with pytest.raises(SourceError, match=r"scan\.e57 does not exist"):
        store.files("/")


def test_a_hidden_link_to_nothing(tmp_path: Path) -> None:
    """A hidden link to nothing, such as an editor's lock, is left out like any hidden file."""
    store = Store("disk", str(tmp_path), tmp_path)
    store.write({"notes.txt": b"a"})
    (tmp_path / ".#notes.txt").symlink_to("somebody@host.1234")
    assert store.files("/") == ["notes.txt"]


class Busy(PosixPath):
    """A folder from which a file and a folder are taken away while it is listed."""

    def iterdir(self) -> Iterator[Busy]:  # type: ignore[override]
        yield from super().iterdir()
        yield self / "gone.part"
        yield self / "gone folder"

    def is_dir(self, **more: Any) -> bool:
        return self.name == "gone folder" or super().is_dir(**more)


def test_taken_away_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is renamed or taken away while a folder is listed does not fail it; the log names it."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.e57").write_bytes(b"a")
    listed = list_files(lambda path: PathLocation(Busy(path)), str(tmp_path), recursive=True)
    assert [file.relative for file in listed] == ["scan/a.e57"]
    for name in ("gone.part", "gone folder", "scan/gone.part", "scan/gone folder"):
        assert f"{tmp_path}/{name} was taken away or renamed" in caplog.text


def test_a_file_as_a_folder(tmp_path: Path) -> None:
    """A file where folders are to be listed is an error that names it."""
    store = Store("disk", str(tmp_path), tmp_path)
    store.write({"scan.e57": b"a"})
    with pytest.raises(SourceError, match=r"scan\.e57"):
        store.scans("/scan.e57")


def test_empty_folders(tmp_path: Path) -> None:
    """Empty folders hold nothing and are no scans."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    store = Store("disk", str(tmp_path), tmp_path)
    assert store.files("", recursive=True) == []
    assert store.scans("") == []
