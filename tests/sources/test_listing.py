"""Which files a path means: the same rules for a disk, for S3 and for every other store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import pytest

from airflow_360.exceptions import SourceError
from airflow_360.sources import FileInfo, Location
from airflow_360.sources import store as stores
from airflow_360.sources.listing import Globs, has_files, list_files, list_scans, snapshot_scan
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from airflow_360.sources.store import OBJECT_STORES, StoreLocation
from airflow_360.texts import LeftOut
from tests import file_systems

STORES = ["disk", "s3", *file_systems.KINDS]
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
    """A store of files, of any kind.

    :param kind: one of ``STORES``.
    :param root: the path of its folder, as a user would write it, without a slash at the end.
    :param folder: the folder of a disk.
    :param s3: the client of S3.
    :param fs: the file system of any other store.
    """

    kind: str
    root: str
    folder: Path | None = None
    s3: Any = None
    fs: Any = None

    def open(self, path: str) -> Location:
        if self.s3 is not None:
            authority, _, key = path.removeprefix("s3://").partition("/")
            return S3Location(self.s3, authority, key)
        if self.fs is None:
            return PathLocation(Path(path))
        authority, slash, _ = path.partition("://")[2].partition("/")
        return StoreLocation(stores.Store(self.fs, self.kind, authority), path if slash else f"{path}/")

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            if self.s3 is not None:
                self.s3.put_object(Bucket=self.root.removeprefix("s3://"), Key=name, Body=data)
            elif self.fs is not None:
                self.fs.put(f"{self.root.partition('@')[2]}/{name}", data)
            elif self.folder is not None:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)

    def files(self, path: str, pattern: Globs = None, recursive: bool = False, **more: Any) -> list[str]:
        """Return the paths of the files that a path below the root means, without the root."""
        listed = list_files(self.open, self.root + path, pattern, recursive, **more)
        return [file.path.removeprefix(f"{self.root}/") for file in listed]

    def scans(self, path: str, pattern: Globs = None, **more: Any) -> list[str]:
        """Return the folders with scans, without the root and without a slash at the end."""
        found = list_scans(self.open, self.root + path, pattern, **more)
        return [folder.removeprefix(f"{self.root}/").rstrip("/") for folder in found]


def made(kind: str, s3: Any, new_bucket: Callable[[], str], folder: Path) -> Store:
    if kind == "s3":
        return Store(kind, f"s3://{new_bucket()}", s3=s3)
    if kind == "disk":
        return Store(kind, str(folder), folder)
    fs = file_systems.fresh(file_systems.KINDS[kind])
    if kind in OBJECT_STORES:
        fs.make_bucket("bucket")
        return Store(kind, f"{kind}://nas@bucket", fs=fs())
    fs.pseudo_dirs.append("/srv")
    return Store(kind, f"{kind}://nas@/srv", fs=fs())


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
    """A store with `FILES`, for tests that only read."""
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
        ("/scan/", "sub/*", True, BELOW),
        ("/scan/", "/SUB/*.e57", True, BELOW),
        ("/scan/", "*/c.e57", True, ["scan/sub/c.e57"]),
        ("/scan/", ["*.txt", "A.*"], False, ["scan/a.e57", "scan/notes.txt"]),
        ("/scan/", ("*.txt", "*.las"), True, ["scan/notes.txt"]),
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
def test_list_files(store: Store, path: str, pattern: Globs, recursive: bool, files: list[str]) -> None:
    """A path means the same files in every store, sorted; wildcards stay within their folder."""
    assert store.files(path, pattern, recursive) == files


def test_entries(store: Store) -> None:
    """An entry has path, relative path and size, and a folder's listing agrees with a file's own info."""
    entries = {file.relative: file for file in list_files(store.open, f"{store.root}/scan/", recursive=True)}
    assert sorted(entries) == ["B.E57", "a.e57", "notes.txt", "sub/c.e57", "sub/deep/d.e57"]
    deep = entries["sub/deep/d.e57"]
    assert (deep.path, deep.size) == (f"{store.root}/scan/sub/deep/d.e57", 5)
    (alone,) = list_files(store.open, deep.path)
    assert (alone.path, alone.size, alone.etag, alone.relative) == (deep.path, 5, deep.etag, "d.e57")
    assert (deep.etag is not None) == (store.kind in ("s3", "gs", "abfs"))


def test_relative_paths_of_a_glob(store: Store) -> None:
    """Below a glob, paths are relative to the folder before its first wildcard."""
    listed = list_files(store.open, f"{store.root}/photos/*/1.jpg")
    assert [file.relative for file in listed] == ["100MEDIA/1.jpg", "101MEDIA/1.jpg"]


def test_what_is_listed_opens(store: Store) -> None:
    """Every file of a listing can be opened by its path, with its bytes."""
    for file in list_files(store.open, store.root, recursive=True):
        location = store.open(file.path)
        reader = location.source(file).open(0)
        assert reader.read(100) == FILES[file.path.removeprefix(f"{store.root}/")]
        reader.close()
        assert location.is_file()


def test_a_folder_means_all_that_is_below(store: Store) -> None:
    """Without further parameters subfolders are entered, as a sync or a copy of a folder would."""
    assert [file.relative for file in list_files(store.open, f"{store.root}/photos")] == [
        "100MEDIA/1.jpg",
        "101MEDIA/1.jpg",
    ]


@pytest.mark.parametrize(
    ("exclude", "files"),
    [
        ("*.E57", ["scan/notes.txt"]),
        (["B.*", "*.txt"], ["scan/a.e57", *BELOW]),
        ("sub/*", SCAN),
        ("sub/deep/*", [*SCAN, BELOW[0]]),
        ("*/d.e57", [*SCAN, BELOW[0]]),
        ("sub", SCAN + BELOW),
        ((), SCAN + BELOW),
    ],
    ids=str,
)
def test_exclude(store: Store, exclude: Globs, files: list[str]) -> None:
    """Files whose name, or path if the glob has a slash, matches `exclude` are left out, in any case."""
    assert store.files("/scan/", recursive=True, exclude=exclude) == files


def test_exclude_wins_over_pattern(store: Store) -> None:
    """A file that matches both is left out."""
    assert store.files("/scan/", "*.e57", True, exclude="sub/*") == ["scan/B.E57", "scan/a.e57"]


def test_a_single_file_is_taken_whatever_its_name(store: Store) -> None:
    """A path that leads to a file means this file, so `pattern` and `exclude` do not apply."""
    assert store.files("/scan/a.e57", "*.las", exclude="*") == ["scan/a.e57"]


def test_globs_with_accents(empty: Store) -> None:
    """A letter that macOS spells in two characters matches the same letter in one."""
    empty.write({"bu\u0308ro.e57": b"a", "hall.e57": b"b"})
    assert len(empty.files("", "B\u00dcRO.*")) == 1


@pytest.mark.parametrize("wrong", [5, " ", ["*.e57", 5], ["*.e57", ""], {"*.e57"}], ids=str)
def test_globs_of_another_kind_are_refused(store: Store, wrong: Any) -> None:
    """A pattern that is neither a text nor a list of texts is an error that names the parameter."""
    with pytest.raises(SourceError, match="pattern must be a glob or a list of globs"):
        store.files("/scan/", wrong)
    with pytest.raises(SourceError, match="exclude must be a glob or a list of globs"):
        store.files("/scan/", exclude=wrong)


def test_an_empty_list_of_patterns_is_refused(store: Store) -> None:
    """A list from which a template or a mistake removed everything does not mean every file."""
    with pytest.raises(SourceError, match=r"pattern .* empty list"):
        store.files("/scan/", [])


def test_what_is_left_out_is_counted(empty: Store, caplog: pytest.LogCaptureFixture) -> None:
    """One log line contains the number of files found, and of those left out, by reason."""
    empty.write(
        {
            "a.e57": b"a",
            "b.e57": b"a",
            "old.e57": b"a",
            "notes.txt": b"a",
            ".DS_Store": b"",
            "sub/Thumbs.db": b"",
            ".x.e57": b"",
            "sub_$folder$": b"",
        }
    )
    left_out = LeftOut()
    with caplog.at_level(logging.INFO, "airflow_360"):
        empty.files("/", ["*.e57"], True, exclude="old*", left_out=left_out)
    reasons = str(left_out)
    assert set(reasons.split(", ")) == {
        "1 system file",
        "2 hidden files",
        "1 folder marker",
        "1 file not matching pattern",
        "1 file matching exclude",
    }
    assert caplog.messages == [f"{empty.root}/: 2 files; left out: {reasons}."]


def test_nothing_left_out_is_not_worth_a_word(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """If all files are selected, the line contains only their number."""
    with caplog.at_level(logging.INFO, "airflow_360"):
        store.files("/photos/100MEDIA/")
    assert caplog.messages == [f"{store.root}/photos/100MEDIA/: 1 file."]


@pytest.mark.parametrize(
    ("path", "pattern", "said"),
    [
        ("/scan", None, "2 files in 2 subfolders"),
        ("/scan/", "C.*", "1 file in 1 subfolder"),
        ("/photos/*", None, "2 files in 2 subfolders"),
        ("", "*.jpg", "2 files in 2 subfolders"),
    ],
)
def test_files_in_subfolders_that_are_not_entered(
    store: Store, caplog: pytest.LogCaptureFixture, path: str, pattern: Globs, said: str
) -> None:
    """With `recursive=False` a warning counts the files in subfolders; so does the list of left-out files."""
    left_out = LeftOut()
    store.files(path, pattern, False, left_out=left_out)
    assert f"{said} (recursive=False)" in str(left_out)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{store.root}{path}: {said} (recursive=False) will not be uploaded."]


@pytest.mark.parametrize(
    ("path", "pattern"), [("/scan", "*.laz"), ("/photos/100MEDIA", None), ("/scan/a.e57", None)]
)
def test_no_warning_if_no_file_is_missed(
    store: Store, caplog: pytest.LogCaptureFixture, path: str, pattern: Globs
) -> None:
    """Subfolders without a matching file get no warning."""
    store.files(path, pattern, False)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_subfolder_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unreadable subfolder does not fail the listing of its parent if it is not listed."""

    class Unreadable(PathLocation):
        def files(self, depth: int | None) -> Iterator[FileInfo]:
            if depth is None:
                raise SourceError("sub cannot be read")
            yield from super().files(depth)

    (tmp_path / "a.e57").write_bytes(b"a")
    files = list_files(lambda path: Unreadable(Path(path)), str(tmp_path), recursive=False)
    assert [file.relative for file in files] == ["a.e57"]
    assert "could not be counted" in caplog.text


def test_many_files_in_subfolders_are_not_counted_to_the_end(
    empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of objects are not listed only to count them."""
    for module in ("sources.listing", "texts"):
        monkeypatch.setattr(f"airflow_360.{module}.MAX_COUNTED_FILES", 2)
    empty.write({f"sub/{number}.e57": b"a" for number in range(4)})
    left_out = LeftOut()
    empty.files("/", left_out=left_out)
    assert str(left_out) == "at least 2 files in 1 subfolder (recursive=False)"


@pytest.mark.parametrize(
    ("path", "more", "found"),
    [
        ("/scan", {}, True),
        ("/scan/a.e57", {"pattern": "*.las"}, True),
        ("/photos", {"recursive": False}, False),
        ("/photos", {"pattern": "*.e57"}, False),
        ("/photos", {"exclude": "*"}, False),
        ("/s*/*.las", {}, True),
        ("/none", {}, False),
    ],
)
def test_has_files(store: Store, path: str, more: dict[str, Any], found: bool) -> None:
    """The check whether a path has any file follows the rules of the listing."""
    assert has_files(store.open, store.root + path, **more) == found


def test_has_files_stops_at_the_first_one(tmp_path: Path) -> None:
    """A folder of a hundred thousand objects is not listed to its end."""
    seen = []

    class Counting(PathLocation):
        def files(self, depth: int | None) -> Iterator[FileInfo]:
            for file in super().files(depth):
                seen.append(file.relative)
                yield file

    for name in ("a.txt", "b.e57", "c.e57"):
        (tmp_path / name).write_bytes(b"1")
    assert has_files(lambda path: Counting(Path(path)), str(tmp_path), "*.e57")
    assert seen == ["a.txt", "b.e57"]


def test_a_missing_file_is_not_an_empty_folder(store: Store) -> None:
    """A path that looks like a file's and does not exist is an error, for a listing and for a check."""
    with pytest.raises(SourceError, match="does not exist"):
        has_files(store.open, f"{store.root}/scan/missing.e57")


def test_missing_parent(store: Store) -> None:
    """A path whose parent, or bucket, does not exist is an error that names it."""
    buckets = ("s3", "gs", "abfs")
    path = f"{store.kind}://none/scan/" if store.kind in buckets else f"{store.root}/none/scan/"
    for attempt in (path, f"{path}*.e57"):
        with pytest.raises(SourceError) as raised:
            list_files(store.open, attempt)
        assert "bucket" in str(raised.value) or "does not exist" in str(raised.value)
        assert not raised.value.retryable
    with pytest.raises(SourceError):
        list_scans(store.open, path)


def test_list_scans(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Each folder directly below with files at any depth is a scan; a warning names files next to them."""
    assert store.scans("/") == ["photos", "scan", "scan2"]
    assert store.scans("/photos/") == ["photos/100MEDIA", "photos/101MEDIA"]
    assert f"{store.root}/: 1 file beside the folders will not be uploaded" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "scans"),
    [("*.e57", ["scan"]), ("*.LAS", ["scan2"]), ("*.jpg", ["photos"]), ("*.xyz", []), ("*.db", [])],
)
def test_list_scans_by_pattern(store: Store, pattern: str, scans: list[str]) -> None:
    """A folder is a scan if a file's name matches the pattern, in any case; system files never count."""
    assert store.scans("/", pattern) == scans


def test_list_scans_with_exclude(store: Store) -> None:
    """A folder whose every file matches `exclude` is not a scan, and is counted as left out."""
    left_out = LeftOut()
    assert store.scans("/", ["*.jpg", "*.las"], exclude="z.*", left_out=left_out) == ["photos"]
    assert str(left_out) == "1 file beside the folders, 2 folders without a file that counts"


def test_folders_without_scans(empty: Store) -> None:
    """Folders with only hidden files and system files are not scans."""
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
    """Every path in the listing of scans leads to that scan's files, for any name of the folder."""
    empty.write({f"{folder}/a.e57": b"a", f"{folder}/sub/b.e57": b"b"})
    (scan,) = list_scans(empty.open, f"{empty.root}/")
    assert [file.size for file in list_files(empty.open, scan)] == [1, 1]
    assert [file.relative for file in list_files(empty.open, scan, recursive=False)] == ["a.e57"]


def test_a_file_with_wildcards_in_its_name(empty: Store) -> None:
    """An existing file is used literally, even if its name looks like a glob."""
    empty.write({"scan [1].e57": b"1", "scan 1.e57": b"22"})
    assert empty.files("/scan [1].e57") == ["scan [1].e57"]


def test_two_stars(store: Store) -> None:
    """Two stars mean no more than one: folders are entered by `recursive` only."""
    assert store.files("/scan/**") == store.files("/scan/*")
    assert store.files("/**/*.e57") == ["scan/a.e57"]


# -- how long ago a scan was written

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("written", "age", "warned"),
    [
        ([-HOUR], HOUR, False),
        ([-HOUR, -DAY], HOUR, False),
        ([1], 0, False),
        ([DAY - 1], 0, False),
        ([DAY - 1, -DAY], 0, False),
        ([DAY + 1], float("inf"), True),
        ([365 * DAY, -HOUR], HOUR, True),
    ],
)
def test_age_of_a_scan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: list[float], age: float, warned: bool
) -> None:
    """A file that is dated ahead by less than a day was just written; further ahead is a warning."""
    for number, seconds in enumerate(written):
        (tmp_path / f"{number}.e57").touch()
        os.utime(tmp_path / f"{number}.e57", (NOW + seconds, NOW + seconds))
    assert snapshot_scan(PathLocation(tmp_path), str(tmp_path), NOW).age == age
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert ("0.e57 has a modification time" in caplog.text) == warned


# -- only on a disk


def test_links(tmp_path: Path) -> None:
    """A link to a file is a file; a link to a folder is not entered, so that no loop is."""
    store = Store("disk", str(tmp_path / "root"), tmp_path / "root")
    store.write({"scan/a.e57": b"a"})
    (tmp_path / "root" / "scan" / "b.e57").symlink_to("a.e57")
    (tmp_path / "root" / "scan" / "loop").symlink_to(tmp_path / "root" / "scan")
    (tmp_path / "root" / "scan" / "folder").symlink_to(".")
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
    with pytest.raises(SourceError, match=r"scan\.e57 is a broken link"):
        store.files("/", "*.jpg")
    assert store.files("/", exclude="scan.*") == []


def test_a_hidden_link_to_nothing(tmp_path: Path) -> None:
    """A hidden link to nothing, such as an editor's lock, is left out like any hidden file."""
    store = Store("disk", str(tmp_path), tmp_path)
    store.write({"notes.txt": b"a"})
    (tmp_path / ".#notes.txt").symlink_to("somebody@host.1234")
    assert store.files("/") == ["notes.txt"]


class Busy(PosixPath):
    """A folder from which a file and a folder are removed during its listing."""

    def iterdir(self) -> Iterator[Busy]:  # type: ignore[override]
        yield from super().iterdir()
        yield self / "gone.part"
        yield self / "gone folder"

    def is_dir(self, **more: Any) -> bool:
        return self.name == "gone folder" or super().is_dir(**more)


def test_taken_away_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is renamed or removed during a listing does not fail it; the log names it."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.e57").write_bytes(b"a")
    listed = list_files(lambda path: PathLocation(Busy(path)), str(tmp_path), recursive=True)
    assert [file.relative for file in listed] == ["scan/a.e57"]
    for name in ("gone.part", "gone folder", "scan/gone.part", "scan/gone folder"):
        assert f"{tmp_path}/{name} was removed or renamed" in caplog.text


def test_a_file_as_a_folder(tmp_path: Path) -> None:
    """A file instead of a folder of scans is an error that names it."""
    store = Store("disk", str(tmp_path), tmp_path)
    store.write({"scan.e57": b"a"})
    with pytest.raises(SourceError, match=r"scan\.e57"):
        store.scans("/scan.e57")


def test_empty_folders(tmp_path: Path) -> None:
    """Empty folders contain no files and are not scans."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    store = Store("disk", str(tmp_path), tmp_path)
    assert store.files("", recursive=True) == []
    assert store.scans("") == []
