"""A source that is replaced at any moment never ends as a mixture of two versions on the server."""

from __future__ import annotations

import io
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from hypothesis import HealthCheck, Phase, example, find, given, settings
from hypothesis import strategies as st

from airflow_360.emulator import Emulator
from airflow_360.exceptions import ThreeSixtyError
from airflow_360.hooks import paths as hook_paths
from airflow_360.hooks.paths import Paths
from airflow_360.runtime.source_records import SourceRecord
from airflow_360.runtime.task_state import TaskState
from airflow_360.sources import FileInfo, Location, Reader, Source, ahead, archive, path, s3, store
from airflow_360.sources.archive import ArchiveSource, Member
from airflow_360.sources.path import PathLocation
from airflow_360.sources.s3 import S3Location
from airflow_360.sources.store import Store, StoreLocation
from airflow_360.upload import engine
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from tests import file_systems
from tests.fakes import Waits, client_for, held

#: The maximum bytes of a file; the package's block sizes are made smaller than that.
MOST = 120
SMALL = 16
ATTEMPTS = 3
LAST_MOMENT = 40
NAME = "scan.e57"
NUMBERS = itertools.count(1)

#: Ways to replace a file.
NEW, TIME_KEPT, IN_PLACE = "new", "time kept", "in place"


class Killed(BaseException):
    """Takes the place of a worker that dies."""


# -- the stores in which a file is replaced


class World:
    """One file, in some store, and the events at each moment of its upload.

    Each request to the store has two moments: when it arrives, and before its answer is returned.
    """

    def __init__(self) -> None:
        self.moment = 0
        self.events: dict[int, Callable[[], None]] = {}
        self.versions: list[bytes] = []

    def tick(self, *_: object) -> None:
        """Advance to the next moment, and run its event."""
        self.moment += 1
        self.at(self.moment)

    def at(self, moment: int) -> None:
        """Run the event of a moment; each attempt is preceded by one, numbered from 0 downwards."""
        if event := self.events.pop(moment, None):
            event()

    def put(self, data: bytes, how: str = NEW) -> None:
        """Replace the file; only a disk knows more than one way."""
        self.versions.append(data)
        self.write(data, how)

    def write(self, data: bytes, how: str) -> None:
        raise NotImplementedError

    def location(self) -> Location:
        """Return the file's place, as a new process sees it."""
        raise NotImplementedError


class InStore(World):
    """A file in one of the stores in memory."""

    def __init__(self, kind: type[file_systems.FakeFileSystem]) -> None:
        super().__init__()
        world = self

        class Watched(kind):  # type: ignore[misc, valid-type]
            def cat_file(
                self, path: str, start: int | None = None, end: int | None = None, **m: Any
            ) -> bytes:
                data: bytes = super().cat_file(path, start, end, **m)
                world.tick()
                return data

            def info(self, path: str, **more: Any) -> dict[str, Any]:
                info: dict[str, Any] = super().info(path, **more)
                world.tick()
                return info

        self.fs: Any = Watched
        self.fs.on_request = staticmethod(self.tick)
        self.scheme = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
        self.authority = "bucket" if self.scheme in store.OBJECT_STORES else ""

    def write(self, data: bytes, how: str) -> None:
        self.fs.put(f"{self.authority}/scan/{NAME}", data)

    def location(self) -> Location:
        address = f"{self.scheme}://{self.authority}"
        inner = Store(self.fs(), self.scheme, self.authority)
        list(StoreLocation(inner, f"{address}/scan/").files(1))  # which some libraries keep
        return StoreLocation(inner, f"{address}/scan/{NAME}")


class OnDisk(World):
    """A local file; it may be written to in place, or replaced with its time kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder / str(next(NUMBERS))
        self.folder.mkdir()
        self.seen: set[int] = set()

    def write(self, data: bytes, how: str) -> None:
        target, new = self.folder / NAME, self.folder / f"{NAME}.new"
        time = target.stat().st_mtime_ns if how == TIME_KEPT else next(NUMBERS) * 10**9
        if how == IN_PLACE:
            target.write_bytes(data)
        else:
            new.write_bytes(data)
            new.replace(target)
        while True:  # the clock of the system ticks only every few milliseconds
            os.utime(target, ns=(time, time))
            if target.stat().st_ctime_ns not in self.seen:
                break
        self.seen.add(target.stat().st_ctime_ns)

    def location(self) -> Location:
        return _Ticking(PathLocation(self.folder / NAME), self.tick)


class _Ticking(PathLocation):
    """A local file; each access to it is a moment."""

    def __init__(self, inner: PathLocation, tick: Callable[[], None]) -> None:
        super().__init__(inner._path)
        self.tick = tick

    def source(self, listed: FileInfo) -> Any:
        source, tick = super().source(listed), self.tick

        class Ticking:
            path, size, fingerprint = source.path, source.size, source.fingerprint

            def open(self, offset: int) -> Reader:
                tick()
                reader = source.open(offset)
                tick()
                real = reader.read

                def read(size: int, /) -> bytes:
                    tick()
                    return real(size)

                reader.read = read  # type: ignore[method-assign]
                return reader

            def check(self) -> None:
                tick()
                source.check()
                tick()

        return Ticking()


class InS3(World):
    """An object in S3, or in a store that speaks S3 and takes no notice of conditions."""

    def __init__(self, *, heeds: bool) -> None:
        super().__init__()
        self.heeds = heeds

    def write(self, data: bytes, how: str) -> None:
        self.data = data

    @property
    def etag(self) -> str:
        return f'"{md5(self.data).hexdigest()}"'

    def location(self) -> Location:
        return S3Location(self, "bucket", f"scan/{NAME}")

    # -- the client

    def head_object(self, **wanted: Any) -> dict[str, Any]:
        self.tick()
        return {"ContentLength": len(self.data), "ETag": self.etag}

    def get_object(self, **wanted: Any) -> dict[str, Any]:
        self.tick()
        if self.heeds and wanted["IfMatch"] != self.etag:
            reply = {"Error": {"Code": "412"}, "ResponseMetadata": {"HTTPStatusCode": 412}}
            raise ClientError(reply, "GetObject")
        offset = int(wanted["Range"].removeprefix("bytes=").removesuffix("-"))
        return {"Body": _Body(self.data[offset:], self.tick), "ETag": self.etag}


class _Body:
    def __init__(self, data: bytes, tick: Callable[[], None]) -> None:
        self.data = data
        self.tick = tick

    def read(self, size: int) -> bytes:
        self.tick()
        block, self.data = self.data[:size], self.data[size:]
        return block

    def close(self) -> None:
        pass


WORLDS: dict[str, Callable[[Path], World]] = {
    **{name: lambda folder, kind=kind: InStore(kind) for name, kind in file_systems.TELLING.items()},  # type: ignore[misc]
    "disk": OnDisk,
    "s3": lambda folder: InS3(heeds=True),
    "s3 that ignores If-Match": lambda folder: InS3(heeds=False),
}


# -- the events


@dataclass(frozen=True)
class Plan:
    """A plan of an upload, and of the events at its moments.

    :param sizes: the sizes of the versions of the file, one after the other.
    :param replaced: the moments at which the file is replaced, and how; 0, -1 and -2 are those before the
       attempts.
    :param killed: the moments at which the worker dies.
    :param chunk: bytes of a chunk.
    :param listed: whether an earlier task listed the file, and passed on its metadata.
    :param remembered: whether Airflow keeps the state of the task.
    :param archive: whether the file is sent in an archive.
    """

    sizes: list[int]
    replaced: dict[int, str]
    killed: set[int]
    chunk: int
    listed: bool
    remembered: bool
    archive: bool


#: The worker dies after the last byte of a file in an archive, and before its checksum is saved.
REPLACED_DURING_THE_SECOND_READ = Plan(
    [97, 97], {20: NEW}, {15}, 5, listed=False, remembered=True, archive=True
)


@st.composite
def plans(draw: st.DrawFn, *, disk: bool = False) -> Plan:
    """Draw a plan; a listing or the task's state contains the version with which the upload started."""
    moments = st.integers(1, LAST_MOMENT)
    size = draw(st.integers(2 * SMALL, MOST) | st.integers(1, MOST))
    told = draw(st.sampled_from(["listed", "remembered", "both"]))
    ways = [NEW, IN_PLACE, *([TIME_KEPT] if told != "listed" else [])] if disk else [NEW]
    when = draw(st.lists(st.sampled_from([0, -1, -2]) | moments, min_size=1, max_size=3, unique=True))
    return Plan(
        [size, *(draw(st.sampled_from([size, size, size, size + 1, size - 1, 0])) for _ in when)],
        {moment: draw(st.sampled_from(ways)) for moment in when},
        set(draw(st.lists(moments, max_size=2))),
        draw(st.sampled_from([5, SMALL, 1000])),
        listed=told != "remembered",
        remembered=told != "listed",
        archive=told != "listed" and draw(st.sampled_from([False, False, True])),
    )


def version(number: int, size: int) -> bytes:
    """Return the bytes of a version, which no other version has at any place."""
    return bytes((number * 64 + place % 64) % 256 for place in range(size))


def is_mixed(emulator: Emulator, world: World, plan: Plan) -> bool:
    """Carry out a plan, and return whether the server then has bytes that were never a file."""
    contents = (version(number, size) for number, size in enumerate(plan.sizes))
    world.put(next(contents))
    listed = world.location().info() if plan.listed else None
    state = TaskState({"task_state_store": _Kept()} if plan.remembered else {})
    world.moment = 0
    for moment, how in plan.replaced.items():
        data = next(contents)
        world.events[moment] = lambda data=data, how=how: world.put(data, how)  # type: ignore[misc]
    for moment in plan.killed - world.events.keys():
        world.events[moment] = _kill
    client = client_for(emulator, sleep=Waits())
    upload_id = client.create_upload_session().upload_id
    for attempt in range(ATTEMPTS):
        world.at(-attempt)
        try:
            _attempt(client, upload_id, world, plan, listed, state)
            break
        except (ThreeSixtyError, Killed):
            client.close()  # as a process that ends does
            client = client_for(emulator, sleep=Waits())
    progress = client.get_file_progress(upload_id, NAME)
    client.close()
    emulator.exchanges.clear()
    if progress is None or not progress.complete:
        return False
    complete = held(emulator, upload_id, NAME)
    if plan.archive:
        try:
            with zipfile.ZipFile(io.BytesIO(complete)) as zipped:
                complete = zipped.read(NAME)
        except zipfile.BadZipFile:
            return True
    return complete not in world.versions


class _Kept(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = value


def _kill() -> None:
    raise Killed


def _attempt(
    client: Any, upload_id: str, world: World, plan: Plan, listed: FileInfo | None, state: TaskState
) -> None:
    """Upload as the operators do."""
    paths = Paths()
    paths.open = lambda *_, **__: world.location()  # type: ignore[method-assign]
    told = (listed.size, listed.etag, listed.modified) if listed else (None, None, None)
    location, found = paths.find("scan", None, *told)
    source: Source = location.source(found)
    if plan.archive:
        source = ArchiveSource("a.zip", [Member(found, lambda: location.source(found))])
    if plan.remembered:
        SourceRecord(state, "scan").check_unchanged("scan", source.fingerprint, [found])
    upload(client, upload_id, source, NAME, chunks=ChunkSizer(plan.chunk))


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """One for all examples."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Let a hundred bytes be read as gigabytes are: in blocks, in ranges, and ahead of the upload."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (engine, "BLOCK_BYTES"),
            (ahead, "BLOCK_BYTES"),
            (store, "RANGE_BYTES"),
            (store, "SMALL_BYTES"),
            (archive, "BLOCK_BYTES"),
        ):
            patch.setattr(module, name, SMALL)
        yield


@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize("examples", [20, pytest.param(300, marks=pytest.mark.soak)])
def test_never_mixed(kind: str, examples: int, emulator: Emulator, tmp_path: Path) -> None:
    """Whenever a file is replaced, the server has one version whole, or none that it calls complete."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(plan=plans(disk=kind == "disk"))
    @example(REPLACED_DURING_THE_SECOND_READ)
    def holds(plan: Plan) -> None:
        assert not is_mixed(emulator, WORLDS[kind](tmp_path), plan)

    holds()


# -- the property would notice


def _unseen(*_: object, **__: object) -> bool:
    return False


def _no_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store.StoreSource, "check", _unseen)
    patch.setattr(path.PathSource, "check", _unseen)


def _no_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SourceRecord, "check_unchanged", _unseen)


def _no_listing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hook_paths, "_check_as_listed", _unseen)


def _no_etag(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(s3.S3Source, "open", _open_without_a_look)


def _open_without_a_look(self: Any, offset: int) -> Reader:
    reply = self._client.get_object(Range=f"bytes={offset}-", IfMatch=f'"{self._etag}"')
    reader: Reader = reply["Body"]
    return reader


def _no_inode(patch: pytest.MonkeyPatch) -> None:
    real = path._file_info
    patch.setattr(path, "_file_info", lambda *told: _without_inode(real(*told)))


def _without_inode(info: FileInfo) -> FileInfo:
    return replace(info, local="")


def _only_sizes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "version_of", lambda info: None)
    patch.setattr(store, "modified_of", lambda info: None)


def _kept_listings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "_uncached", lambda fs: fs)


BUGS = {
    "not compared while it is read": (_no_check, ["gs", "abfs", "sftp", "disk"]),
    "not compared between attempts": (_no_memory, ["gs", "sftp", "disk", "s3"]),
    "not compared with the listing": (_no_listing, ["gs", "sftp", "disk", "s3"]),
    "size alone": (_only_sizes, ["gs", "abfs", "smb"]),
    "listings of the library are kept": (_kept_listings, ["abfs"]),
    "no inode": (_no_inode, ["disk"]),
    "no ETag of the reply": (_no_etag, ["s3 that ignores If-Match"]),
}


@pytest.mark.soak
@pytest.mark.parametrize(("bug", "kind"), [(bug, kind) for bug, (_, kinds) in BUGS.items() for kind in kinds])
def test_a_bug_would_be_found(bug: str, kind: str, emulator: Emulator, tmp_path: Path) -> None:
    """Without one of the comparisons, some plan ends in a mixture: the property is not empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "BLOCK_BYTES", 1000)  # without a thread, so that a plan has the same end twice
        BUGS[bug][0](patch)
        find(
            plans(disk=kind == "disk"),
            lambda plan: is_mixed(emulator, WORLDS[kind](tmp_path), plan),
            settings=settings(max_examples=2000, deadline=None, database=None, phases=[Phase.generate]),
        )
