from __future__ import annotations

import io
import random
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Reader, Source
from airflow_360.sources.archive import ArchiveSource, Member
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from airflow_360.sources.zip_records import dos_time
from tests.fakes import HiccupSource, MemorySource, some_bytes

GIB = 1 << 30
EVERY = 16
TIME = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC

UNZIP = shutil.which("unzip")
SEVEN_ZIP = shutil.which("7z") or shutil.which("7zz")


@pytest.fixture(
    params=[
        pytest.param(
            [UNZIP, "-tqq"], id="unzip", marks=pytest.mark.skipif(not UNZIP, reason="unzip is not installed")
        ),
        pytest.param(
            [SEVEN_ZIP, "t", "-bso0", "-bsp0"],
            id="7z",
            marks=pytest.mark.skipif(not SEVEN_ZIP, reason="7zip is not installed"),
        ),
        pytest.param(None, id="zipfile"),
    ]
)
def unpacker(request: pytest.FixtureRequest) -> Any:
    """A program that reads every byte of an archive and reports all errors."""

    def test(path: Path) -> None:
        if request.param:
            done = subprocess.run(
                [*request.param, str(path)], capture_output=True, text=True, timeout=300, check=False
            )
            said = done.stdout + done.stderr
            assert (done.returncode, "arning" in said) == (0, False), said
        else:
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None

    return test


def sources_of(files: Mapping[str, bytes]) -> dict[str, MemorySource]:
    return {name: MemorySource(data, path=f"/photos/{name}") for name, data in files.items()}


def archive_of(sources: Mapping[str, MemorySource], every: int = EVERY) -> ArchiveSource:
    def member(name: str, source: MemorySource) -> Member:
        return Member(FileInfo(source.path, name, source.size, modified=TIME), lambda: source)

    return ArchiveSource("photos.zip", [member(*item) for item in sources.items()], every=every)


def rest(source: Source, offset: int = 0, block: int = 1 << 20) -> bytes:
    """Return a source's bytes from an offset on, read in blocks of one size."""
    reader = source.open(offset)
    data = b"".join(iter(lambda: reader.read(block), b""))
    reader.close()
    return data


def opens(sources: Mapping[str, MemorySource]) -> dict[str, list[int]]:
    return {name: source.opened for name, source in sources.items() if source.opened}


FILES = {
    "100MEDIA/DJI_0001.JPG": some_bytes(40),
    "100MEDIA/DJI_0002.JPG": some_bytes(EVERY),
    "empty.txt": b"",
    "modèle/ü.obj": some_bytes(5),
    "z.mtl": some_bytes(EVERY * 2),
}


class TestTheZip:
    def test_what_is_in_it(self) -> None:
        """Folders, names beyond ASCII, times and bytes come out of the zip as they went in."""
        archive = zipfile.ZipFile(io.BytesIO(rest(archive_of(sources_of(FILES)))))
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == FILES
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}

    def test_unpackers(self, tmp_path: Path, unpacker: Any) -> None:
        """Common unpackers find no errors."""
        path = tmp_path / "photos.zip"
        path.write_bytes(rest(archive_of(sources_of(FILES))))
        unpacker(path)

    @pytest.mark.long
    def test_seventy_thousand_files(self, tmp_path: Path, unpacker: Any) -> None:
        """More files than the old form can count are a zip64, which opens too."""
        path = tmp_path / "photos.zip"
        path.write_bytes(rest(archive_of(sources_of({f"{n}.txt": b"x" for n in range(70_000)}))))
        unpacker(path)
        assert len(zipfile.ZipFile(path).infolist()) == 70_000

    @pytest.mark.long
    def test_five_gibibytes(self, tmp_path: Path) -> None:
        """A file of 5 GiB, and those after it, are a zip64; each program finds it whole."""
        big = tmp_path / "photos" / "a.e57"
        big.parent.mkdir()
        with big.open("wb") as file:
            file.seek(5 * GIB - 4)
            file.write(b"last")
        (big.parent / "b.txt").write_bytes(b"behind 4 GiB")
        archive = folder_archive(big.parent)
        path = tmp_path / "photos.zip"
        assert write_sparse(archive, path) == archive.size > 5 * GIB
        with zipfile.ZipFile(path) as opened:
            large, small = opened.infolist()
            assert (large.file_size, opened.read(small)) == (5 * GIB, b"behind 4 GiB")
            assert small.header_offset > 5 * GIB
        # From kept checksums, behind the big file: neither is read again.
        later = folder_archive(big.parent)
        later.remember(archive.checksums)
        begin = small.header_offset
        with path.open("rb") as file:
            file.seek(begin)
            assert rest(later, begin) == file.read()
        # unzip reads 5 GiB slowly, so it only tests the files behind them.
        programs = [[UNZIP, "-tqq", path, "b.txt"]] * bool(UNZIP) + [[SEVEN_ZIP, "t", path]] * bool(SEVEN_ZIP)
        for program in programs:
            done = subprocess.run([*map(str, program)], capture_output=True, timeout=300, check=False)
            assert done.returncode == 0, done
        path.unlink()
        big.unlink()

    @pytest.mark.parametrize(
        ("modified", "date"),
        [
            pytest.param(None, (1980, 1, 1, 0, 0, 0), id="no time"),
            pytest.param(0.0, (1980, 1, 1, 0, 0, 0), id="before 1980"),
            pytest.param(-1e30, (1980, 1, 1, 0, 0, 0), id="before all years"),
            pytest.param(TIME + 1.5, (2023, 11, 14, 22, 13, 20), id="odd seconds"),
            pytest.param(5e9, (2107, 12, 31, 23, 59, 58), id="after 2107"),
            pytest.param(1e30, (2107, 12, 31, 23, 59, 58), id="after all years"),
        ],
    )
    def test_times_are_written_as_utc(self, modified: float | None, date: tuple[int, ...]) -> None:
        """A time is written as UTC in the zip's two seconds, or as the nearest possible time."""
        packed = dos_time(modified)
        day, second = divmod(packed, 1 << 16)
        year, month, dom = (day >> 9) + 1980, day >> 5 & 15, day & 31
        assert (year, month, dom, second >> 11, second >> 5 & 63, (second & 31) * 2) == date


class TestTheBytes:
    def test_two_runs_give_the_same_bytes(self) -> None:
        """Two runs give the same bytes, for any order of the files."""
        items = list(FILES.items())
        random.Random(1).shuffle(items)
        assert list(dict(items)) != list(FILES)
        assert rest(archive_of(sources_of(dict(items)))) == rest(archive_of(sources_of(FILES)))

    def test_size_comes_first(self) -> None:
        """The size is known before any file is opened."""
        sources = sources_of(FILES)
        archive = archive_of(sources)
        size = archive.size
        assert opens(sources) == {}
        assert len(rest(archive)) == size

    @given(
        sizes=st.lists(st.integers(0, 3 * EVERY + 1), min_size=1, max_size=6),
        every=st.integers(1, 2 * EVERY),
        kept=st.floats(0, 1),
        where=st.floats(0, 1),
        block=st.integers(1, 200),
    )
    def test_any_offset(self, sizes: list[int], every: int, kept: float, where: float, block: int) -> None:
        """From any offset, in any blocks, with any saved checksums, the bytes are those of the first run."""
        files = {f"{n % 2}/{n}.jpg": some_bytes(size) for n, size in enumerate(sizes)}
        first = archive_of(sources_of(files), every)
        whole = rest(first)
        assert len(whole) == first.size
        assert zipfile.ZipFile(io.BytesIO(whole)).testzip() is None
        offset = round(where * first.size)
        later = archive_of(sources_of(files), every)
        later.remember(first.checksums[: round(kept * len(first.checksums))])
        assert rest(later, offset, block) == whole[offset:]
        assert later.checksums == first.checksums

    def test_blocks_are_full(self) -> None:
        """A read has the requested length, across files and records, until the end."""
        reader = archive_of(sources_of(FILES)).open(0)
        lengths = [len(block) for block in iter(lambda: reader.read(64), b"")]
        assert set(lengths[:-1]) == {64}

    def test_readers_are_closed(self) -> None:
        """A reader that is closed halfway closes the file that it was reading."""
        sources = sources_of(FILES)
        reader = archive_of(sources).open(0)
        reader.read(70)
        assert sum(source.open_readers for source in sources.values()) == 1
        reader.close()
        assert sum(source.open_readers for source in sources.values()) == 0


class TestResuming:
    def test_with_kept_checksums(self) -> None:
        """With saved checksums only the file at the cut is opened, at the last of its own checksums."""
        first = archive_of(sources_of(FILES))
        whole = rest(first)
        offset = whole.index(FILES["z.mtl"]) + EVERY + 3
        sources = sources_of(FILES)
        later = archive_of(sources)
        later.remember(first.checksums)
        assert rest(later, offset) == whole[offset:]
        assert opens(sources) == {"z.mtl": [EVERY]}

    def test_at_the_end(self) -> None:
        """With kept checksums the directory at the end is written without opening any file."""
        first = archive_of(sources_of(FILES))
        whole = rest(first)
        sources = sources_of(FILES)
        later = archive_of(sources)
        later.remember(first.checksums)
        assert rest(later, whole.index(b"PK\1\2")) == whole[whole.index(b"PK\1\2") :]
        assert opens(sources) == {}

    def test_without_checksums_files_are_read_once_more(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without saved checksums each sent file is read once more, which is logged."""
        whole = rest(archive_of(sources_of(FILES)))
        sources = sources_of(FILES)
        later = archive_of(sources)
        caplog.set_level("INFO")
        assert rest(later, whole.index(FILES["z.mtl"])) == whole[whole.index(FILES["z.mtl"]) :]
        assert opens(sources) == {name: [0] for name, data in FILES.items() if data}
        assert "bytes again, because the checksums" in caplog.text

    def test_catching_up_comes_before(self) -> None:
        """Bytes that `catch_up` has read are not read again when the archive is opened there."""
        sources = sources_of(FILES)
        archive = archive_of(sources)
        whole = rest(archive_of(sources_of(FILES)))
        archive.catch_up(whole.index(b"z.mtl"))
        before = {name: list(offsets) for name, offsets in opens(sources).items()}
        archive.catch_up(whole.index(b"z.mtl"))
        archive.open(whole.index(b"z.mtl")).close()
        assert opens(sources) == before

    def test_a_broken_second_read_resumes_at_a_checksum(self) -> None:
        """If the store closes the connection during the second read, it resumes at the last checksum."""
        data = some_bytes(4 * EVERY)
        source = HiccupSource(data, at=2 * EVERY + 1)
        archive = archive_of({"a.jpg": source})
        archive.catch_up(archive.size)
        assert source.opened == [0, 2 * EVERY]

    def test_hiccups_without_end(self) -> None:
        """A store that hangs up at the same place twice is left to the next attempt."""
        source = HiccupSource(some_bytes(4 * EVERY), at=2 * EVERY + 1, readers=9)
        archive = archive_of({"a.jpg": source})
        with pytest.raises(SourceError, match="hung up"):
            archive.catch_up(archive.size)
        assert source.opened == [0, 2 * EVERY]

    def test_hiccup_for_good(self) -> None:
        """A file without read permission is tried once."""
        source = HiccupSource(some_bytes(40), at=1, retryable=False)
        archive = archive_of({"a.jpg": source})
        with pytest.raises(SourceError):
            archive.catch_up(archive.size)
        assert source.opened == [0]


class TestChanges:
    def test_a_file_that_ends_early_is_an_error(self) -> None:
        """A file that ends early is an error that names it."""
        sources = sources_of(FILES)
        archive = archive_of(sources)
        sources["z.mtl"].data = b"short"
        with pytest.raises(SourceChangedError, match=r"/photos/z\.mtl ends at 5 bytes and had 32"):
            rest(archive)

    @pytest.mark.parametrize("name", ["z.mtl", "empty.txt"])
    def test_a_changed_file_is_an_error(self, name: str) -> None:
        """A file whose source reports a change is an error, also if it was empty."""
        sources = sources_of(FILES)
        archive = archive_of(sources)
        sources[name].changed = True
        with pytest.raises(SourceChangedError, match=f"{name} changed"):
            rest(archive)

    def test_a_file_that_changed_is_noticed_before_its_last_bytes_are_used(self) -> None:
        """A second read up to a file's last byte checks the file, and keeps no checksum of another one."""
        sources = sources_of({"a.jpg": bytes(EVERY * 2)})
        whole = rest(archive_of(sources))
        archive = archive_of(sources)
        sources["a.jpg"].changed = True
        with pytest.raises(SourceChangedError, match=r"a\.jpg changed"):
            archive.catch_up(whole.index(b"PK\x07\x08"))
        assert len(archive.checksums) == 4

    def test_changed_in_secret(self) -> None:
        """A file with other bytes than those that were sent, of one size and time, is an error."""
        sources = sources_of(FILES)
        archive = archive_of(sources)
        rest(archive)
        sources["z.mtl"].data = bytes(EVERY * 2)
        with pytest.raises(SourceChangedError, match=r"/photos/z\.mtl changed after its bytes were sent"):
            rest(archive)

    def test_the_fingerprint_differs_for_other_files(self) -> None:
        """The fingerprint differs for any other listing, and any other layout."""
        info = FileInfo("/photos/a.jpg", "a.jpg", 3, "etag", TIME)
        others = [
            info,
            FileInfo("/photos/a.jpg", "a.jpg", 4, "etag", TIME),
            FileInfo("/photos/a.jpg", "a.jpg", 3, "other", TIME),
            FileInfo("/photos/a.jpg", "a.jpg", 3, "etag", TIME + 1),
            FileInfo("/photos/a.jpg", "b/a.jpg", 3, "etag", TIME),
        ]
        by_etag = FileInfo("/photos/a.jpg", "a.jpg", 3, "etag", None)
        others += [by_etag, replace(by_etag, written=TIME), replace(by_etag, written=TIME + 100)]
        prints = [fingerprint([other]) for other in others] + [fingerprint([info], 5), fingerprint([])]
        assert len(set(prints)) == len(prints)
        assert fingerprint([info]) == prints[0]


class TestNames:
    @pytest.mark.parametrize("other", ["a.JPG", "a\u0308.jpg"], ids=["case", "composed or not"])
    def test_two_files_in_one_place_are_refused(self, other: str) -> None:
        """Two files that unpacking might put in one place are refused, and both are named."""
        names = {"a.jpg", "\u00e4.jpg", other}
        with pytest.raises(SourceError, match=r"/photos/\S+ and /photos/\S+ would both be"):
            archive_of(sources_of(dict.fromkeys(names, b"x")))

    @pytest.mark.parametrize("name", ["day/bridge", "day/Bridge"], ids=["same", "case"])
    def test_file_and_folder(self, name: str) -> None:
        """A file whose name another one needs for its folder, as a store allows it, is refused."""
        files = [name, "day/bridge/a/b.jpg", "day/bridge/a/c.jpg", "day/bridge.jpg"]
        with pytest.raises(SourceError, match=rf"/{name} is a file, but \S+/b\.jpg needs a folder"):
            archive_of(sources_of(dict.fromkeys(files, b"x")))

    def test_a_part_of_255_bytes_is_accepted(self, tmp_path: Path, unpacker: Any) -> None:
        """A part of 255 bytes is the longest that a disk takes, and is fine."""
        path = tmp_path / "photos.zip"
        path.write_bytes(rest(archive_of(sources_of({"x" * 255 + "/" + "y" * 255: b"x"}))))
        unpacker(path)

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("../a.jpg", "relative folders"),
            ("/a.jpg", "empty or relative folders"),
            ("a//b.jpg", "empty or relative folders"),
            ("a\\b.jpg", "a backslash"),
            ("a\nb.jpg", "a control character"),
            ("\udcff.jpg", "not UTF-8"),
            ("/".join(["x" * 255] * 257), "longer than 65,535"),
            ("\u00e4" * 128 + "/a.jpg", "a part of it is longer than 255 bytes"),
        ],
    )
    def test_a_dangerous_name_is_refused(self, name: str, fault: str) -> None:
        """A name that unpackers would put elsewhere or cannot read is refused before any byte."""
        with pytest.raises(SourceError, match=fault):
            archive_of(sources_of({name: b"x"}))


class TestOtherStores:
    def test_objects_in_s3_are_archived(self, s3: Any, bucket: str) -> None:
        """Objects in S3 are archived under their keys below the prefix, and resume at any offset."""
        for name, data in FILES.items():
            s3.put_object(Bucket=bucket, Key=f"day/{name}", Body=data)
        location = S3Location(s3, bucket, "day/")
        files = list(location.files(None))
        archive = ArchiveSource("a.zip", [Member(file, partial(location.source, file)) for file in files])
        whole = rest(archive)
        opened = zipfile.ZipFile(io.BytesIO(whole))
        assert {info.filename: opened.read(info) for info in opened.infolist()} == FILES
        assert rest(archive, 100) == whole[100:]

    def test_replaced_object(self, s3: Any, bucket: str) -> None:
        """An object that was replaced after the listing is an error."""
        s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"one")
        location = S3Location(s3, bucket, "")
        (file,) = location.files(None)
        s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"two")
        with pytest.raises(SourceChangedError):
            rest(ArchiveSource("a.zip", [Member(file, lambda: location.source(file))]))


def fingerprint(files: list[FileInfo], every: int = EVERY) -> str:
    members = [Member(file, lambda: MemorySource(b"")) for file in files]
    return ArchiveSource("a.zip", members, every=every).fingerprint


def folder_archive(folder: Path) -> ArchiveSource:
    location = PathLocation(folder)
    return ArchiveSource("a.zip", [Member(f, partial(location.source, f)) for f in location.files(None)])


def write_sparse(source: Source, path: Path) -> int:
    """Write a source's bytes to a file with holes for the zeros, and return the number of bytes."""
    zeros = bytes(1 << 20)
    with path.open("wb") as file:
        for block in blocks(source.open(0)):
            if block == zeros:
                file.seek(len(block), 1)
            else:
                file.write(block)
        return file.tell()


def blocks(reader: Reader) -> Iterator[bytes]:
    yield from iter(lambda: reader.read(1 << 20), b"")
    reader.close()
