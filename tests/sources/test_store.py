"""Stores read through a library of fsspec: the requests, the metadata, and the failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fsspec.implementations.dirfs import DirFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Source, store
from airflow_360.sources.listing import list_files, list_scans
from airflow_360.sources.store import Store, StoreLocation
from tests import file_systems as fakes

TEN = b"0123456789"
#: How the library of each store writes the path of the file, and how a user does.
PLACES = {
    "gs": ("bucket/scan/a.e57", "gs://google@bucket/scan/a.e57"),
    "abfs": ("container/scan/a.e57", "abfs://azure@container/scan/a.e57"),
    "sftp": ("/srv/scan/a.e57", "sftp://nas@/srv/scan/a.e57"),
    "smb": ("/share/scan/a.e57", "smb://nas@/share/scan/a.e57"),
    "ftp": ("/scan/a.e57", "ftp://nas@/scan/a.e57"),
    "tight": ("/scan/a.e57", "tight://nas@/scan/a.e57"),
    "silent": ("/scan/a.e57", "silent://nas@/scan/a.e57"),
}


class Place:
    """One file in its own store.

    :param kind: a file system of `file_systems`.
    """

    def __init__(self, kind: type[fakes.FakeFileSystem]) -> None:
        self.fs: Any = fakes.fresh(kind)
        protocol = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
        self.inner, self.path = PLACES[protocol]
        self.fs.put(self.inner, TEN)
        self.store = Store(self.fs(), protocol, self.path.partition("://")[2].partition("/")[0])
        self.fs.requests.clear()

    def at(self, path: str) -> StoreLocation:
        return StoreLocation(self.store, path)

    @property
    def file(self) -> StoreLocation:
        return self.at(self.path)

    @property
    def folder(self) -> StoreLocation:
        return self.at(self.path.removesuffix("/a.e57"))

    def info(self, how: str) -> FileInfo:
        """Return the file's info, from itself or from its folder's listing."""
        (info,) = [self.file.info()] if how == "file" else self.folder.files(None)
        return info

    def source(self, how: str = "file") -> Source:
        return self.file.source(self.info(how))

    def put(self, data: bytes) -> None:
        self.fs.put(self.inner, data)


@pytest.fixture(params=fakes.TELLING)
def place(request: pytest.FixtureRequest) -> Place:
    """A file in each store that reports a time or an ETag."""
    return Place(fakes.TELLING[request.param])


def test_ranges(place: Place) -> None:
    """A range of a file is read exactly; an object store gets one request for it."""
    source = place.file.source(place.info("file"))
    place.fs.requests.clear()
    assert [source.read_range(0, 4), source.read_range(7, 3)] == [TEN[:4], TEN[7:]]
    if place.store.is_object_store:
        assert len(place.fs.requests) == 2


def read(source: Source, offset: int = 0, size: int = 1 << 20) -> bytes:
    reader = source.open(offset)
    try:
        return b"".join(iter(lambda: reader.read(size), b""))
    finally:
        reader.close()


# -- reading


def test_reading(place: Place) -> None:
    """A source opens at any offset, any number of times, and returns the rest."""
    source = place.source()
    assert (source.path, source.size) == (place.path, 10)
    expected = [TEN, b"456789", b"456789", b"9", b"", TEN]
    assert [read(source, offset) for offset in (0, 4, 4, 9, 10, 0)] == expected


def test_reading_in_blocks(place: Place) -> None:
    """A reader returns at most the requested bytes, in order, and nothing at the end."""
    reader = place.source().open(1)
    assert [reader.read(4) for _ in range(4)] == [b"1234", b"5678", b"9", b""]
    reader.close()


def test_two_readers(place: Place) -> None:
    """Two readers of one source do not disturb each other."""
    source = place.source()
    one, other = source.open(0), source.open(5)
    assert (one.read(2), other.read(2), one.read(2), other.read(2)) == (b"01", b"56", b"23", b"78")
    one.close()
    other.close()


def test_reading_in_ranges(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are read in ranges, for any size of the reads; the last range ends with the object."""
    monkeypatch.setattr(store, "RANGE_BYTES", 4)
    assert [read(place.source(), offset, size) for offset, size in ((0, 3), (0, 100), (3, 5))] == [
        TEN,
        TEN,
        b"3456789",
    ]


# -- names: a stored file is found under its own name

NAMES = [
    "a?b.e57",
    "a#b.e57",
    "a?b#c.e57",
    "a%41.e57",
    "a b&c+d.e57",
    "tab\there.e57",
    "new\nline.e57",
    "[a]*.e57",
    "点云.e57",
    "'a\".e57",
    "a:b.e57",
    "a@b.e57",
    "a::b.e57",
    "a\\b.e57",
]


@pytest.mark.parametrize("name", NAMES)
def test_names(place: Place, name: str) -> None:
    """A name with any characters is listed, and its own bytes are read, by listing and directly."""
    folder = place.inner.rpartition("/")[0]
    place.fs.put(f"{folder}/{name}", b"odd")
    path = f"{place.path.removesuffix('a.e57')}{name}"
    files = {file.path: file for file in place.folder.files(None)}
    assert sorted(files) == sorted([place.path, path])
    assert files[path].relative == name
    assert read(place.at(path).source(files[path])) == b"odd"
    assert place.at(path).is_file()
    assert place.at(path).info().size == 3


@pytest.mark.parametrize("kind", ["gs", "abfs"])
def test_names_without_a_folder(kind: str) -> None:
    """An object below a folder without a name is listed and read; a disk has no such folder."""
    place = Place(fakes.KINDS[kind])
    bucket = place.inner.partition("/")[0]
    place.fs.put(f"{bucket}/scan//b.e57", b"odd")
    found = {file.relative: file for file in place.folder.files(None)}
    assert sorted(found) == ["/b.e57", "a.e57"]
    assert read(place.folder.source(found["/b.e57"])) == b"odd"


@pytest.mark.parametrize("kind", fakes.TELLING)
def test_the_topmost_folder(kind: str) -> None:
    """The paths below a bucket, or below the root of a share, open again, with a connection and without."""
    fs = fakes.fresh(fakes.TELLING[kind])
    objects = kind in store.OBJECT_STORES
    fs.put("bucket/a.e57" if objects else "/a.e57", TEN)
    for conn_id in ("", "nas@"):
        authority = f"{conn_id}bucket" if objects else conn_id
        top = StoreLocation(Store(fs(), kind, authority), f"{kind}://{authority}/")
        assert (top.is_folder(), top.is_file()) == (True, False)
        for depth in (1, None):
            (file,) = top.files(depth)
            assert file.path == f"{kind}://{authority}/a.e57"
            assert read(top.source(file)) == TEN


@pytest.mark.parametrize("kind", ["gs", "abfs"])
def test_markers_of_folders(kind: str) -> None:
    """An empty object that has the name of a folder is its marker; adlfs takes its slash away."""
    fs = fakes.fresh(fakes.KINDS[kind])
    for name in ("bucket/scan", "bucket/scan/sub", "bucket/scan/deep", "bucket/scan/deep/below"):
        fs.put(name if kind == "abfs" else f"{name}/", b"")
    fs.put("bucket/scan/sub/a.e57", TEN)
    fs.put("bucket/scan/deep/below/b.e57", TEN)
    fs.put("bucket/scan/empty.e57", b"")
    location = StoreLocation(Store(fs(), kind, "bucket"), f"{kind}://bucket/scan/")
    files = list_files(lambda path: location, f"{kind}://bucket/scan/")
    assert [file.relative for file in files] == ["deep/below/b.e57", "empty.e57", "sub/a.e57"]
    files = list_files(lambda path: location, f"{kind}://bucket/scan/", recursive=False)
    assert [file.relative for file in files] == ["empty.e57"]


@pytest.mark.parametrize("kind", ["gs", "abfs"])
def test_an_object_with_the_name_of_its_folder(kind: str) -> None:
    """An object whose name is also that of a folder hides nothing that is in the folder."""
    fs = fakes.fresh(fakes.KINDS[kind])
    for name in ("bucket/scan", "bucket/scan/a.e57", "bucket/scan/sub/deep/b.e57"):
        fs.put(name, TEN)
    location = StoreLocation(Store(fs(), kind, "bucket"), f"{kind}://bucket/scan/")
    assert sorted(file.relative for file in location.files(None)) == ["a.e57", "sub/deep/b.e57"]


def test_a_file_system_under_another_name(tmp_path: Any) -> None:
    """A file system may be attached under a scheme that is not its own."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.e57").write_bytes(TEN)
    for fs, root in (
        (DirFileSystem(str(tmp_path), LocalFileSystem()), ""),
        (LocalFileSystem(), str(tmp_path)),
    ):
        path = f"nas://{root}/scan"
        location = StoreLocation(Store(fs, "nas", ""), path)
        (file,) = location.files(None)
        assert file.path == f"{path}/a.e57"
        assert read(location.source(file)) == TEN


# -- changes


@pytest.mark.parametrize("how", ["file", "folder"])
@pytest.mark.parametrize("data", [b"abcdefghij", TEN, b"longer than it was", b"short", b""])
def test_a_replaced_file_is_noticed(place: Place, how: str, data: bytes) -> None:
    """A replaced file is noticed on resume and before the last byte, also if the bytes are equal."""
    source = place.source(how)
    place.put(data)
    for look in (source.check, lambda: source.open(3)):
        with pytest.raises(SourceChangedError, match=r"a\.e57 changed") as raised:
            look()
        assert not raised.value.retryable
    assert source.fingerprint != place.source(how).fingerprint


def test_replaced_past_a_kept_listing(place: Place) -> None:
    """A listing that the library keeps, or kept before the package came, does not hide a replacement."""
    fs = place.fs()
    fs.ls(place.inner.rpartition("/")[0])
    place.store = Store(fs, place.path.partition("://")[0], place.path.partition("://")[2].partition("/")[0])
    source = place.source("folder")
    list(place.folder.files(1))
    place.put(b"abcdefghij")
    with pytest.raises(SourceChangedError):
        source.check()
    assert place.info("folder") != source.info if hasattr(source, "info") else True


def test_reading_does_not_change_the_fingerprint(place: Place) -> None:
    """Reading does not change the fingerprint; a listing and the file itself have the same."""
    source = place.source("folder")
    read(source)
    source.check()
    assert source.size == 10
    if not place.path.startswith("tight://"):
        assert source.fingerprint == place.source("file").fingerprint


@pytest.mark.parametrize("now", [b"", b"01234"])
def test_cut_off_before_the_first_byte(place: Place, now: bytes) -> None:
    """A file that became shorter before its first read ends early, or is found changed, without a wait."""
    source = place.source()
    place.put(now)
    try:
        assert len(read(source)) < 10
    except SourceChangedError:
        pass


def test_a_file_that_vanished_is_missing(place: Place) -> None:
    """A file that vanished is reported as missing, at any time."""
    source = place.source()
    del place.fs.store[place.inner]
    for look in (source.check, lambda: read(source), lambda: read(source, 4), place.file.info):
        with pytest.raises(SourceError, match=r"a\.e57 does not exist") as raised:
            look()
        assert not raised.value.retryable


def test_a_folder_in_its_place(place: Place) -> None:
    """An empty file that a folder took the place of is another one."""
    place.put(b"")
    source = place.source()
    del place.fs.store[place.inner]
    place.fs.put(f"{place.inner}/b.e57", TEN)
    with pytest.raises(SourceChangedError):
        source.check()


def test_the_generation_counts() -> None:
    """In Google Cloud Storage the generation identifies versions; the time is that of the last change."""
    info = Place(fakes.GoogleCloud).info("folder")
    assert info.etag is not None
    assert info.etag.isdecimal()
    assert info.modified is None
    assert info.written is not None
    assert info.written > fakes.BEGINNING.timestamp()


def test_time_and_etag_count() -> None:
    """In other stores both count, as far as they are told."""
    azure, sftp = Place(fakes.Azure).info("file"), Place(fakes.Sftp).info("file")
    assert azure.etag is not None
    assert azure.etag.startswith("0x8DE")
    assert azure.modified == azure.written is not None
    assert (sftp.etag, sftp.modified) == (None, sftp.written)
    assert sftp.modified is not None


def test_what_only_one_of_two_answers_tells_is_no_change() -> None:
    """A store that reports the ETag of a file but not in its listings does not fail every upload."""
    place = Place(fakes.TightLipped)
    info = place.info("folder")
    assert info.etag is None
    place.folder.source(info).check()
    with pytest.raises(SourceChangedError):
        place.folder.source(replace(place.file.info(), etag="other")).check()


# -- a store that reports too little


def test_a_store_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A store with neither time nor ETag gets one warning, which names the changes that cannot be noticed."""
    place = Place(fakes.Silent)
    place.fs.put("/scan/b.e57", TEN)
    list(place.folder.files(None))
    source = place.source()
    place.put(b"abcdefghij")
    source.check()  # cannot know better
    place.put(b"abc")
    with pytest.raises(SourceChangedError):
        source.check()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    for part in ("silent://nas@/scan/", "neither a modification time nor an ETag", "the same size"):
        assert part in warnings[0]


def test_no_warning_for_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A store with either of them gets no warning, and neither does a path that is not a file."""
    list(place.folder.files(None))
    place.file.info()
    place.folder.is_folder()
    assert caplog.records == []


def test_hidden_sizes() -> None:
    """A file of unknown size cannot be uploaded, and is refused by name."""
    fs = fakes.fresh(fakes.HiddenSizes)
    fs.put("/scan/a.e57", TEN)
    inner = Store(fs(), "hidden", "")
    with pytest.raises(SourceError, match=r"a\.e57 has a size that its store does not tell"):
        StoreLocation(inner, "hidden:///scan/a.e57").info()
    with pytest.raises(SourceError, match=r"a\.e57 has a size that its store does not tell"):
        list_files(lambda path: StoreLocation(inner, path), "hidden:///scan/", recursive=True)


# -- threads


@pytest.mark.parametrize("scheme", ["ftp", "smb"])
def test_a_library_with_one_connection_is_used_by_one_thread_at_a_time(scheme: str) -> None:
    """Files of an FTP server are read one block after the other, because its library has one connection."""
    fs = fakes.fresh(fakes.Disk)
    names = [f"/scan/{number}.e57" for number in range(8)]
    for name in names:
        fs.put(name, TEN)
    inner = Store(fs(), scheme, "nas@")
    sources = [(at := StoreLocation(inner, f"{scheme}://nas@{name}")).source(at.info()) for name in names]
    in_use = threading.Lock()
    collisions = []

    def use(*_: Any) -> None:
        if not in_use.acquire(blocking=False):
            collisions.append(1)
            return
        time.sleep(0.005)
        in_use.release()

    fs.on_request = staticmethod(use)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, sources)) == [TEN] * 8
    assert bool(collisions) == (scheme != "ftp")


# -- links, pipes, folders


def sftp(*files: str) -> tuple[Any, Callable[[str], StoreLocation]]:
    fs = fakes.fresh(fakes.Sftp)
    for file in files:
        fs.put(file, TEN)
    inner = Store(fs(), "sftp", "nas@")
    return fs, lambda path: StoreLocation(inner, path)


def test_links(caplog: pytest.LogCaptureFixture) -> None:
    """A link to a file is a file of its size; one to a folder is not entered, and warned of."""
    fs, open_location = sftp("/srv/scan/a.e57", "/srv/other/b.e57")
    fs.links.update({"/srv/scan/link.e57": "/srv/other/b.e57", "/srv/scan/folder": "/srv/other"})
    files = list_files(open_location, "sftp://nas@/srv/scan/")
    assert [(file.relative, file.size) for file in files] == [("a.e57", 10), ("link.e57", 10)]
    assert read(open_location("").source(files[1])) == TEN
    assert "sftp://nas@/srv/scan/folder is a link to a folder, and is not entered" in caplog.text


def test_a_link_to_nothing() -> None:
    """A link to nothing is refused by name, unless exclude or pattern leaves it out."""
    fs, open_location = sftp("/srv/scan/a.e57")
    fs.links["/srv/scan/link.las"] = "/srv/gone.las"
    with pytest.raises(SourceError, match=r"link\.las is a broken link"):
        list_files(open_location, "sftp://nas@/srv/scan/")
    for more in ({"exclude": "link.*"}, {"pattern": "*.e57"}):
        files = list_files(open_location, "sftp://nas@/srv/scan/", **more)  # type: ignore[arg-type]
        assert [file.relative for file in files] == ["a.e57"]


def test_a_hidden_link_is_not_looked_at() -> None:
    """A hidden link is left out like any hidden file, wherever it leads."""
    fs, open_location = sftp("/srv/scan/a.e57")
    fs.links["/srv/scan/.#lock"] = "somebody@host.1234"
    assert len(list_files(open_location, "sftp://nas@/srv/scan/")) == 1


def test_pipes() -> None:
    """An entry that is neither file nor folder is refused by name, alone and in a folder, unless excluded."""
    fs, open_location = sftp("/srv/scan/a.e57")
    fs.pipes.add("/srv/scan/pipe.e57")
    with pytest.raises(SourceError, match=r"pipe\.e57 is no regular file"):
        list_files(open_location, "sftp://nas@/srv/scan/")
    with pytest.raises(SourceError, match=r"pipe\.e57 is no regular file"):
        open_location("sftp://nas@/srv/scan/pipe.e57").info()
    assert len(list_files(open_location, "sftp://nas@/srv/scan/", exclude="pipe.*")) == 1


def test_a_folder_where_a_file_is_meant(place: Place) -> None:
    """A folder instead of a file is an error that names it, and the operator for folders."""
    for path in (place.folder.path, f"{place.folder.path}/"):
        location = place.at(path)
        assert (location.is_file(), location.is_folder()) == (False, True)
        with pytest.raises(SourceError, match="UploadFilesOperator") as raised:
            location.info()
        assert raised.value.path == path


def test_a_file_where_a_folder_is_meant() -> None:
    """A file instead of a folder of scans is an error that names it."""
    _, open_location = sftp("/srv/scan/a.e57")
    with pytest.raises(SourceError, match=r"sftp://nas@/srv/scan/a\.e57 .*Not a directory") as raised:
        list_scans(open_location, "sftp://nas@/srv/scan/a.e57")
    assert not raised.value.retryable


@pytest.mark.parametrize("kind", ["gs", "abfs"])
def test_an_empty_bucket(kind: str) -> None:
    """A bucket without an object has no files; a missing bucket is an error."""
    fs = fakes.fresh(fakes.KINDS[kind])
    fs.make_bucket("empty")
    for depth in (1, None):
        assert list(StoreLocation(Store(fs(), kind, "empty"), f"{kind}://empty/").files(depth)) == []
        missing = StoreLocation(Store(fs(), kind, "nas@none"), f"{kind}://nas@none/scan/")
        with pytest.raises(SourceError, match=f"{kind}://nas@none/scan/ does not exist") as raised:
            list(missing.files(depth))
        assert not raised.value.retryable


@pytest.mark.parametrize("kind", ["gs", "sftp"])
@pytest.mark.parametrize("failure", [OSError("timed out"), PermissionError("denied")])
def test_a_parent_that_cannot_be_asked_for(kind: str, failure: Exception) -> None:
    """A failure while the parent of an empty folder is read does not mean that the folder is missing."""
    place = Place(fakes.KINDS[kind])

    def look(fs: Any, name: str, path: str) -> None:
        if name == "info":
            raise failure

    place.fs.on_request = staticmethod(look)
    location = place.at(f"{place.folder.path}/none/")
    if isinstance(failure, PermissionError) and kind == "gs":
        assert list(location.files(None)) == []  # a key that may list cannot always read the bucket itself
        return
    with pytest.raises(SourceError) as raised:
        list(location.files(None))
    assert "does not exist" not in str(raised.value)
    assert raised.value.retryable == (kind == "gs" or not isinstance(failure, PermissionError))


# -- faults


@pytest.mark.parametrize("refusal", fakes.REFUSALS.values(), ids=fakes.REFUSALS.keys())
def test_wrong_credentials_are_final(refusal: Exception) -> None:
    """Wrong credentials and missing permissions are final; the error has the reason and the connection."""
    fs = fakes.fresh(fakes.Denied)
    fs.refusal = refusal
    location = StoreLocation(Store(fs(), "denied", "my_nas@"), "denied://my_nas@/scan/a.e57")
    source = location.source(FileInfo(location.path, "a.e57", 10, modified=1.0))
    for call in (
        location.is_file,
        location.info,
        lambda: list(location.files(None)),
        lambda: list(location.folders()),
        lambda: source.open(0).read(1),
        source.check,
    ):
        with pytest.raises(SourceError) as raised:
            call()
        assert (raised.value.path, raised.value.retryable) == (location.path, False)
        for part in (location.path, "connection 'my_nas'", str(refusal)):
            assert part in str(raised.value)


FAULTS: dict[str, tuple[Exception, bool]] = {
    "gone": (FileNotFoundError(2, "No such file"), False),
    "folder": (IsADirectoryError(21, "Is a directory"), False),
    "file as folder": (NotADirectoryError(20, "Not a directory"), False),
    "no library": (ImportError("install asyncssh"), False),
    "timeout": (TimeoutError("timed out"), True),
    "store's own": (RuntimeError("503 Service Unavailable"), True),
    "a bug in the library": (TypeError("'NoneType' object"), True),
}


@pytest.mark.parametrize("at", ["info", "open", "read", "cat_file", "ls", "find"])
@pytest.mark.parametrize("kind", ["gs", "sftp"])
@pytest.mark.parametrize(("failure", "retryable"), FAULTS.values(), ids=FAULTS.keys())
def test_every_failure_becomes_one_error(kind: str, failure: Exception, retryable: bool, at: str) -> None:
    """Any error of a library, at any call, becomes one error with path, retryable if it is temporary."""
    place = Place(fakes.KINDS[kind])
    objects = kind == "gs"
    if at in (("open", "read") if objects else ("cat_file", "find")):
        return
    info = place.info("file")

    def fail(fs: Any, name: str, path: str) -> None:
        if name == at:
            raise failure

    place.fs.on_request = staticmethod(fail)

    def do() -> None:
        source = place.file.source(info)
        if at in ("ls", "find"):
            list(place.folder.files(1 if at == "ls" else None))
        else:
            read(source, 3)

    if at in ("ls", "find") and isinstance(failure, FileNotFoundError):
        return  # a folder that is not there: see the tests of listings
    with pytest.raises(SourceError) as raised:
        do()
    assert (raised.value.path, raised.value.retryable) == (raised.value.path, retryable)
    assert place.folder.path in raised.value.path
    assert raised.value.path in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_long_reason_is_cut() -> None:
    """The text of a library's error is one printable line of bounded length."""
    error = store.store_error(RuntimeError("a\nb\x1b" + "x" * 10_000), "gs://b/a", "")
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert "the store's default connection" in str(error)
    assert "RuntimeError: a b" in str(error)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ValueError("Can't create any SFTP connections!"), True),
        (ValueError("no such key"), False),
        (PermissionError("denied"), False),
        (OSError("Forbidden: https://store/a"), False),
        (OSError("timed out"), True),
        (TypeError("no setting"), True),
    ],
)
def test_which_errors_are_temporary(error: Exception, retryable: bool) -> None:
    """A line that breaks while sshfs opens a channel is temporary; a wrong value or a refusal is not."""
    assert store.store_error(error, "sftp://nas@/a.e57", "nas").retryable is retryable


def lossy() -> tuple[Any, StoreLocation]:
    fs = fakes.fresh(fakes.LostLine)
    fs.put("/scan/a.e57", TEN)
    fs.opened = 0
    return fs, StoreLocation(Store(fs("host", port=22), "lossy", "nas@"), "lossy://nas@/scan/a.e57")


@pytest.mark.parametrize("lose_at", [1, 2, 3, 4])
def test_a_lost_line_is_opened_again(lose_at: int) -> None:
    """A file system whose connection is lost is created again, with the same settings, within the attempt."""
    fs, location = lossy()
    source = location.source(location.info())
    fs.lose_at = lose_at
    failures: list[SourceError] = []
    for _ in range(2):
        try:
            assert read(source, 1, 4) == TEN[1:]
            source.check()
            break
        except SourceError as error:
            failures.append(error)
    (failure,) = failures
    assert failure.retryable
    for part in ("lossy://nas@/scan/a.e57", "SFTPNoConnection", "The store may not answer"):
        assert part in str(failure)
    assert fs.opened == 2
    location.info()


def test_a_lost_line_is_opened_again_once() -> None:
    """Several readers whose line was lost share one new file system."""
    fs, location = lossy()
    source = location.source(location.info())
    readers = [source.open(0) for _ in range(3)]
    fs.lose_at = 1
    for reader in readers:
        with pytest.raises(SourceError):
            reader.read(4)
        reader.close()
    assert fs.opened == 2
    assert read(source) == TEN


def test_a_line_that_stays_lost() -> None:
    """If the file system cannot be opened again, the error of the old one is raised."""
    fs, location = lossy()
    fs.lose_at = 1
    fs.__init__ = lambda *a, **k: (_ for _ in ()).throw(OSError("no route to host"))
    for _ in range(2):
        with pytest.raises(SourceError, match="SFTPNoConnection: Connection not open"):
            location.info()


def test_a_final_error_keeps_the_line() -> None:
    """A file that is missing is no reason to log in again."""
    fs, location = lossy()
    with pytest.raises(SourceError):
        StoreLocation(location._store, "lossy://nas@/scan/none.e57").info()
    assert fs.opened == 1


def test_closing_a_lost_file() -> None:
    """A file that cannot be closed, because its connection is lost, is not an error."""
    place = Place(fakes.Sftp)
    reader = place.source().open(0)

    def fail() -> None:
        raise fakes.SFTPNoConnection("Connection not open")

    reader._file.close = fail  # type: ignore[attr-defined]
    reader.close()


def test_a_file_that_cannot_be_sought_is_closed() -> None:
    """A file that was opened and cannot be brought to its offset is not left open."""
    opened: list[Any] = []

    class Unseekable(fakes.Sftp):
        def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
            file = super()._open(path, mode, **more)
            opened.append(file)
            file.seek = fail
            return file

    def fail(offset: int, whence: int = 0) -> int:
        raise OSError("no seek")

    source = Place(Unseekable).source()
    with pytest.raises(SourceError, match="no seek"):
        source.open(3)
    assert [file.closed for file in opened] == [True]


# -- links that anybody can read


@pytest.mark.parametrize("kind", ["gs", "abfs"])
def test_a_store_that_can_sign_returns_a_link(kind: str) -> None:
    """A store whose library can sign returns a link to an existing object."""
    place = Place(fakes.KINDS[kind])
    link = place.file.link(3600)
    assert place.inner in link
    assert "3600" in link
    with pytest.raises(SourceError, match="does not exist"):
        place.at(f"{place.path}x").link(3600)
    with pytest.raises(SourceError, match="UploadFilesOperator"):
        place.folder.link(3600)


def test_a_store_that_cannot_sign_names_an_alternative() -> None:
    """If the store's library cannot sign links, the error says so, and names an alternative."""
    with pytest.raises(SourceError, match=r"cannot create presigned URLs.*download_link") as raised:
        Place(fakes.Sftp).file.link(3600)
    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [(AttributeError("you need a private key to sign credentials"), False), (OSError("timed out"), True)],
)
def test_a_connection_that_cannot_sign(failure: Exception, retryable: bool) -> None:
    """A connection without a key to sign with is a final error that names it."""
    place = Place(fakes.GoogleCloud)

    def sign(self: Any, path: str, **more: Any) -> str:
        raise failure

    place.fs.sign = sign
    with pytest.raises(SourceError, match="connection 'google'") as raised:
        place.file.link(3600)
    assert raised.value.retryable == retryable
    assert str(failure) in str(raised.value)


# -- requests


@pytest.mark.parametrize("kind", fakes.KINDS)
@pytest.mark.parametrize("recursive", [False, True])
def test_requests_of_a_listing(kind: str, recursive: bool) -> None:
    """A folder of 300 files costs one request, or one for each of its folders, and none for each file."""
    place = Place(fakes.KINDS[kind])
    folder = place.inner.rpartition("/")[0]
    for number in range(100):
        place.fs.put(f"{folder}/{number}.e57", b"a")
        place.fs.put(f"{folder}/one/{number}.e57", b"a")
        place.fs.put(f"{folder}/two/{number}.e57", b"a")
    assert len(list(place.folder.files(None if recursive else 1))) == (301 if recursive else 101)
    objects = kind in store.OBJECT_STORES
    expected = ["find"] if objects and recursive else ["ls"] * (3 if recursive else 1)
    assert place.fs.names() == expected


@pytest.mark.parametrize("kind", fakes.KINDS)
def test_requests_of_a_small_file(kind: str) -> None:
    """A listed small object costs one range and one request for metadata before its last byte."""
    place = Place(fakes.KINDS[kind])
    source = place.source("folder")
    place.fs.requests.clear()
    reader = source.open(0)
    assert reader.read(10) == TEN
    source.check()
    reader.close()
    objects = kind in store.OBJECT_STORES
    assert place.fs.names() == (["cat_file", "info"] if objects else ["open", "read", "info"])


def test_requests_of_a_large_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long object is compared before its first byte too, and read a range at a time."""
    monkeypatch.setattr(store, "SMALL_BYTES", 9)
    monkeypatch.setattr(store, "RANGE_BYTES", 4)
    place = Place(fakes.Azure)
    source = place.source("folder")
    place.fs.requests.clear()
    assert read(source, 0, 1) == TEN
    source.check()
    assert place.fs.names() == ["info", "cat_file", "cat_file", "cat_file", "info"]
