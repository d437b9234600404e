"""The operators on every kind of store, in memory, with the replies of the real libraries."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_360.emulator import Emulator
from airflow_360.hooks import paths
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    ListScansOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.runtime import lasting_store
from airflow_360.sources import listing
from airflow_360.sources import store as stores
from harness.s3 import LocalS3
from tests import file_systems
from tests.airflow.conftest import StateStore, context
from tests.airflow.test_only_new import Nights, Variables
from tests.fakes import held, some_bytes
from tests.scans import PHOTO

FILES = {"a.e57": some_bytes(3000), "sub/b.jpg": some_bytes(2000), "sub/c.jpg": b""}


class Site:
    """A folder in a store that Airflow was given.

    :param scheme: of its paths.
    :param fs: the file system's class.
    """

    def __init__(self, scheme: str, fs: Any) -> None:
        self.scheme = scheme
        self.fs = fs
        objects = scheme in stores.OBJECT_STORES
        self.inner = "bucket/night" if objects else "/srv/night"
        self.url = f"{scheme}://nas@{'' if objects else '/'}{self.inner.lstrip('/')}"

    def put(self, name: str, data: bytes) -> None:
        self.fs.put(f"{self.inner}/{name}", data)


@pytest.fixture(params=file_systems.TELLING)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A folder with files, in each kind of store."""
    site = Site(request.param, file_systems.fresh(file_systems.TELLING[request.param]))
    for name, data in FILES.items():
        site.put(name, data)
    with file_systems.attached(site.fs, request.param, "nas"):
        yield site


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


def listed(site: Site, **more: Any) -> list[dict[str, Any]]:
    files = ListFilesOperator(task_id="list", path=site.url, **more).execute(context())
    given: list[dict[str, Any]] = json.loads(json.dumps(files))  # the form in which XCom returns it
    return given


def test_listed_and_uploaded(emulator: Emulator, upload_id: str, site: Site) -> None:
    """An upload accepts each entry of a listing."""
    files = listed(site)
    assert [file["filename"] for file in files] == ["a.e57", "sub_b.jpg", "sub_c.jpg"]
    assert all(file["etag"] or file["modified"] for file in files)
    for file in files:
        result = UploadFileOperator(task_id="upload", upload_id=upload_id, **file).execute(context())
        assert result["path"] == file["path"]
    assert {name: held(emulator, upload_id, name.replace("/", "_")) for name in FILES} == FILES


def test_what_a_listing_tells_of_google_cloud() -> None:
    """The generation is passed on as the ETag, together with the modification time."""
    site = Site("gs", file_systems.fresh(file_systems.GoogleCloud))
    site.put("a.e57", b"points")
    with file_systems.attached(site.fs, "gs", "nas"):
        (file,) = listed(site)
    assert file["etag"].isdecimal()
    assert file["modified"] > file_systems.BEGINNING.timestamp()


@pytest.mark.parametrize("size", [3000, 2999])
def test_replaced_after_it_was_listed(emulator: Emulator, upload_id: str, site: Site, size: int) -> None:
    """A file that was replaced between the two tasks is not uploaded, also if it has the same size."""
    (file,) = listed(site, pattern="*.e57")
    site.put("a.e57", bytes(size))
    with pytest.raises(AirflowFailException) as caught:
        UploadFileOperator(task_id="upload", upload_id=upload_id, **file).execute(context())
    assert file["path"] in str(caught.value)
    assert not [exchange for exchange in emulator.exchanges if exchange.method == "PUT"]


def test_replaced_between_attempts(
    emulator: Emulator, upload_id: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was replaced by one of the same size between two attempts is not mixed with it."""
    state, path = StateStore(), f"{site.url}/a.e57"
    task = UploadFileOperator(task_id="upload", upload_id=upload_id, path=path, chunk_size=1000)

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("airflow_360.upload.engine._Upload._learn", _after(2, kill))
        with pytest.raises(Killed):
            task.execute(context(store=state))
    site.put("a.e57", bytes(3000))
    with pytest.raises(AirflowFailException, match="changed since this upload started"):
        task.execute(context(2, state))


def _after(calls: int, then: Any) -> Any:
    from airflow_360.upload.engine import _Upload

    real, made = _Upload._learn, []

    def learn(self: Any, progress: Any) -> None:
        made.append(progress)
        real(self, progress)
        if len(made) > calls:
            then()

    return learn


@pytest.mark.parametrize("more", [{}, {"archive": "night.zip"}], ids=["loose", "archive"])
def test_a_folder_at_once(emulator: Emulator, upload_id: str, site: Site, more: dict[str, Any]) -> None:
    """A folder is uploaded in one task, file by file or as one archive."""
    task = UploadFilesOperator(task_id="upload", upload_id=upload_id, path=site.url, **more)
    summary = task.execute(context())
    assert summary["files"] == (1 if more else 3)
    if not more:
        assert {name: held(emulator, upload_id, name.replace("/", "_")) for name in FILES} == FILES
        return
    with zipfile.ZipFile(io.BytesIO(held(emulator, upload_id, "night.zip"))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        dates = {info.date_time[:3] for info in archive.infolist()}
    assert dates <= {file_systems.BEGINNING.timetuple()[:3]}


def test_a_folder_at_once_after_it_changed(emulator: Emulator, upload_id: str, site: Site) -> None:
    """If a file in a folder was replaced by one of the same size, the folder counts as changed."""
    state = StateStore()
    task = UploadFilesOperator(task_id="upload", upload_id=upload_id, path=site.url)
    task.execute(context(store=state))
    assert task.execute(context(2, state))["files"] == 3
    site.put("sub/b.jpg", bytes(2000))
    with pytest.raises(AirflowFailException, match="changed since this upload started"):
        task.execute(context(3, state))


def test_requests_of_a_folder(emulator: Emulator, upload_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object costs one range and one request for metadata; a folder of objects is listed once."""
    site = Site("gs", file_systems.fresh(file_systems.GoogleCloud))
    for number in range(20):
        site.put(f"{number}.jpg", PHOTO)
    with file_systems.attached(site.fs, "gs", "nas"):
        UploadFilesOperator(task_id="upload", upload_id=upload_id, path=site.url).execute(context())
    names = site.fs.names()
    assert (names.count("find"), names.count("cat_file"), names.count("ls")) == (1, 20, 0)
    assert names.count("info") <= 20 + 2  # both tasks read the kind of the path


def test_an_unsettled_scan_is_left_to_a_later_run(
    site: Site, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan in which a file was written a moment ago is left to a later run."""
    newest = max(
        vars(file).setdefault("number", next(file_systems.NUMBERS)) for file in site.fs.store.values()
    )
    written, look = file_systems.BEGINNING.timestamp() + newest, listing.snapshot_scan
    task = ListScansOperator(task_id="list", path=site.url, settle_seconds=600)
    for seconds in (601, 60):
        monkeypatch.setattr(
            paths,
            "snapshot_scan",
            lambda folder, path, _, seconds=seconds: look(folder, path, written + seconds),
        )
        if seconds > 600:
            assert [path.rstrip("/") for path in task.execute(context())] == [f"{site.url}/sub"]
        else:
            with pytest.raises(AirflowSkipException):
                task.execute(context())


class Url(str):
    """A path in a store that is put together as one of a disk is."""

    __slots__ = ()

    def __truediv__(self, name: str) -> str:
        return f"{self}/{name}"


def test_only_new(site: Site, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan becomes a project once, and again if a file was replaced, even by one of the same size."""
    variables = Variables()
    monkeypatch.setattr(lasting_store, "Variable", variables)
    monkeypatch.setattr(lasting_store, "lasting_inlets", list)
    folder: Any = Url(site.url)
    nights = Nights(folder, None)
    assert nights.lists("monday") == ["sub"]
    nights.make("monday", "sub")
    with pytest.raises(AirflowSkipException):
        nights.lists("tuesday")
    site.put("sub/b.jpg", bytes(2000))
    assert nights.lists("wednesday") == ["sub"]


@pytest.mark.parametrize("site", file_systems.KINDS, indirect=True)  # others Airflow does not write to
def test_manifest(emulator: Emulator, upload_id: str, site: Site) -> None:
    """A manifest can be written into the store, too, and has the digests of the sent files."""
    path = f"{site.url}/lists/manifest.csv"
    UploadFilesOperator(task_id="upload", upload_id=upload_id, path=site.url, manifest=path).execute(
        context()
    )
    written = site.fs.store[f"{site.inner}/lists/manifest.csv"].getvalue().decode()
    sums = {row["path"]: row["sha256"] for row in csv.DictReader(io.StringIO(written))}
    url = site.url.replace("nas@", "")  # as lineage has it, without the connection
    assert sums == {f"{url}/{name}": hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.mark.parametrize(("scheme", "signature"), [("gs", "X-Goog-Signature"), ("abfs", "sig=")])
def test_download_from(
    emulator: Emulator, scheme: str, signature: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server gets a link to the object, which is in no log, XCom or saved state."""
    caplog.set_level(logging.DEBUG)
    site = Site(scheme, file_systems.fresh(file_systems.KINDS[scheme]))
    site.put("a.e57", b"points")
    state, given = StateStore(), context()
    given["task_state_store"] = state
    with file_systems.attached(site.fs, scheme, "nas"):
        task = CreateProjectOperator(task_id="project", download_from=f"{site.url}/a.e57")
        name = task.execute(given)
    link = str(emulator.store.projects[name].options["download_link"])
    assert f"{site.inner}/a.e57" in link
    assert signature in link
    kept = [vars(task), vars(task.hook), given["ti"].pushed, state, name]
    assert "5ec7e7" in link
    assert "5ec7e7" not in f"{kept!r}{caplog.text}"


@pytest.mark.parametrize("scheme", ["sftp", "smb"])
def test_download_from_a_store_without_links(emulator: Emulator, scheme: str) -> None:
    """A store without presigned links fails permanently before any request, with the next step."""
    site = Site(scheme, file_systems.fresh(file_systems.KINDS[scheme]))
    site.put("a.e57", b"points")
    task = CreateProjectOperator(task_id="project", download_from=f"{site.url}/a.e57")
    with file_systems.attached(site.fs, scheme, "nas"):
        with pytest.raises(
            AirflowFailException, match=f"{scheme}://nas@/srv/night/a.e57.*cannot create presigned URLs"
        ):
            task.execute(context(store=StateStore()))
    assert emulator.exchanges == []


def test_a_store_that_tells_nothing(
    emulator: Emulator, upload_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store without times and ETags works, with one warning; features that need a time raise an error."""
    site = Site("silent", file_systems.fresh(file_systems.Silent))
    for number in range(3):
        site.put(f"sub/{number}.e57", b"points")
    with file_systems.attached(site.fs, "silent", "nas"):
        (file, *_) = listed(site)
        assert (file["etag"], file["modified"]) == (None, None)
        caplog.clear()
        UploadFilesOperator(task_id="upload", upload_id=upload_id, path=site.url).execute(context())
        warnings = [r.getMessage() for r in caplog.records if "neither a modification time" in r.getMessage()]
        assert len(warnings) == 1
        with pytest.raises(AirflowFailException, match="does not say when a file was written"):
            ListScansOperator(task_id="scans", path=site.url, settle_seconds=60).execute(context())


def test_a_denied_store(emulator: Emulator, upload_id: str) -> None:
    """A store that refuses the connection ends the task immediately."""
    fs = file_systems.fresh(file_systems.Denied)
    task = UploadFileOperator(task_id="upload", upload_id=upload_id, path="denied://nas@/a.e57")
    with file_systems.attached(fs, "denied", "nas"):
        with pytest.raises(AirflowFailException, match=r"connection 'nas'.*Permission denied"):
            task.execute(context())


def test_a_line_that_is_lost_while_reading(emulator: Emulator, upload_id: str) -> None:
    """A line that is lost in the middle of a file is opened again within the attempt."""
    fs = file_systems.fresh(file_systems.LostLine)
    fs.put("/srv/a.e57", some_bytes(3000))
    task = UploadFileOperator(
        task_id="upload", upload_id=upload_id, path="lossy://nas@/srv/a.e57", chunk_size=1000
    )
    with file_systems.attached(fs, "lossy", "nas"):
        fs.lose_at = 4
        task.execute(context())
    assert fs.opened >= 2
    assert held(emulator, upload_id, "a.e57") == some_bytes(3000)


# -- S3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A local S3 with a bucket ``scans``, which the default connection leads to."""
    with LocalS3(tmp_path / "s3") as server:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json)
        server.make_bucket("scans")
        from airflow_360.hooks.paths import Paths

        yield Paths().s3_client("aws_default")


def test_the_time_of_an_object_in_s3(emulator: Emulator, upload_id: str, s3: Any) -> None:
    """A listing hands on when an object was written; an upload believes the ETag alone."""
    s3.put_object(Bucket="scans", Key="a.e57", Body=b"points")
    (file,) = ListFilesOperator(task_id="list", path="s3://scans/").execute(context())
    written = s3.head_object(Bucket="scans", Key="a.e57")["LastModified"].timestamp()
    assert abs(file["modified"] - written) < 1
    s3.put_object(Bucket="scans", Key="a.e57", Body=b"points")  # the same bytes, written again
    given = {**file, "modified": file["modified"] - 3600}
    UploadFileOperator(task_id="upload", upload_id=upload_id, **given).execute(context())
    assert held(emulator, upload_id, "a.e57") == b"points"
    s3.put_object(Bucket="scans", Key="a.e57", Body=b"others")
    with pytest.raises(AirflowFailException, match="ETag"):
        UploadFileOperator(task_id="upload", upload_id=upload_id, **file).execute(context())


def test_the_times_in_an_archive_of_s3(emulator: Emulator, upload_id: str, s3: Any) -> None:
    """The entries of an archive have the modification times of their objects in S3."""
    s3.put_object(Bucket="scans", Key="night/a.e57", Body=b"points")
    UploadFilesOperator(
        task_id="upload", upload_id=upload_id, path="s3://scans/night/", archive="night.zip"
    ).execute(context())
    written = s3.head_object(Bucket="scans", Key="night/a.e57")["LastModified"]
    with zipfile.ZipFile(io.BytesIO(held(emulator, upload_id, "night.zip"))) as archive:
        (info,) = archive.infolist()
    assert info.date_time[:5] == written.timetuple()[:5]


# -- local files


def test_a_local_file_that_was_replaced_with_its_time_kept(
    emulator: Emulator, upload_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the machine of the first attempt a file's inode counts too; on another one it does not."""
    path, state = tmp_path / "a.e57", StateStore()
    path.write_bytes(b"points")
    task = UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(path))
    task.execute(context(store=state))
    task.execute(context(2, state))
    before = path.stat()
    other = tmp_path / "new"
    other.write_bytes(b"others")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    with pytest.raises(AirflowFailException, match="changed since this upload started"):
        task.execute(context(3, state))
    monkeypatch.setattr("socket.gethostname", lambda: "another-worker")
    task.execute(context(4, state))
