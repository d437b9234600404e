"""Files of a real store: listed, and uploaded in each way."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from typing import Any

import pytest
import requests

from airflow_360.operators.project import CreateProjectOperator
from tests.airflow.conftest import context
from tests.fakes import some_bytes
from tests.stores.conftest import Site
from tests.stores.table import shows

pytestmark = pytest.mark.long

TREE = {"a.e57": 3_000, "b.jpg": 2_000, "sub/c.e57": 1_000, "sub/deep/d.e57": 500, "empty.e57": 0}


@pytest.fixture
def tree(site: Site) -> Site:
    """A folder with files in folders, and system files."""
    for name, size in {**TREE, ".DS_Store": 10}.items():
        site.put(name, some_bytes(size))
    return site


def names_of(site: Site, path: str = "", **parameters: object) -> set[str]:
    """Return the paths of the listed files below the test's folder."""
    listed = site.listed(site.url(path), **parameters)
    return {str(file["path"]).removeprefix(site.url()) for file in listed}


@shows("list: folder, recursive, glob, pattern, one file")
def test_listing(tree: Site) -> None:
    """A folder, a glob, a pattern and a file select the right files."""
    assert names_of(tree) == set(TREE)
    assert names_of(tree, recursive=False) == {"a.e57", "b.jpg", "empty.e57"}
    assert names_of(tree, pattern="*.E57", exclude="empty*") == {"a.e57", "sub/c.e57", "sub/deep/d.e57"}
    assert names_of(tree, "*.e57") == {"a.e57", "empty.e57"}
    assert names_of(tree, "s*/*.e57") == {"sub/c.e57"}
    (file,) = tree.listed(tree.url("sub/c.e57"))
    assert (file["size"], file["filename"]) == (1_000, "c.e57")
    assert bool(file["etag"] or file["modified"]) == tree.store.tells_changes


@shows("list: a folder without files skips the task")
def test_empty_folder(tree: Site) -> None:
    """A folder in which nothing matches, and one that is not there, skip the task."""
    for path, pattern in ((tree.url(), "*.las"), (tree.url("none/"), None)):
        outcome = tree.run("ListFilesOperator", path=path, pattern=pattern)
        assert outcome.errors[:1] == ["AirflowSkipException"], outcome


@shows("upload one file, listed or by its path")
def test_one_file(tree: Site) -> None:
    """Each listed file arrives as it is, in chunks too, and so does one that was not listed."""
    for file in tree.listed():
        outcome = tree.upload(**file, chunk_size=700)
        assert not outcome.errors, outcome
    for name, size in TREE.items():
        assert tree.held(name.replace("/", "_")) == some_bytes(size)
    outcome = tree.upload(path=tree.url("sub/c.e57"), filename="direct.e57")
    assert not outcome.errors, outcome
    assert tree.held("direct.e57") == some_bytes(1_000)


@shows("upload a folder")
def test_folder(tree: Site) -> None:
    """All files of a folder arrive; a second attempt sends nothing."""
    order: dict[str, Any] = {"upload_id": tree.upload_id, "path": tree.url(), "inspect": "off"}
    outcome = tree.run("UploadFilesOperator", **order)
    assert outcome.result == {"files": len(TREE), "bytes": sum(TREE.values())}, outcome
    for name, size in TREE.items():
        assert tree.held(name.replace("/", "_")) == some_bytes(size)
    before = tree.sent()
    again = tree.run("UploadFilesOperator", **order, again=True)
    assert again.result == outcome.result
    assert tree.sent() == before


@shows("upload a folder as one zip")
def test_archive(tree: Site) -> None:
    """A folder arrives as one zip with its folders, whose entries have the dates of the files."""
    outcome = tree.run("UploadFilesOperator", upload_id=tree.upload_id, path=tree.url(), archive="scan.zip")
    assert not outcome.errors, outcome
    with zipfile.ZipFile(io.BytesIO(tree.held("scan.zip") or b"")) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == {
            name: some_bytes(size) for name, size in TREE.items()
        }
        assert {info.date_time[0] for info in archive.infolist()} != {1980}


@shows("manifest in a folder of the store")
def test_manifest(tree: Site) -> None:
    """A manifest is written into the store, with the SHA-256 of each file."""
    folder = tree.url("manifests/")
    outcome = tree.run(
        "UploadFilesOperator", upload_id=tree.upload_id, path=tree.url("sub/"), manifest=folder
    )
    assert not outcome.errors, outcome
    written = tree.store.get(f"{tree.folder}manifests/{tree.upload_id}.csv").decode()
    digests = {row["filename"]: row["sha256"] for row in csv.DictReader(written.splitlines())}
    assert digests == {
        "c.e57": hashlib.sha256(some_bytes(1_000)).hexdigest(),
        "deep_d.e57": hashlib.sha256(some_bytes(500)).hexdigest(),
    }


@shows("`settle_seconds`")
def test_settling(site: Site) -> None:
    """A folder in which a file was just written is left to a later run."""
    site.put("new/a.e57", b"new")
    unsettled = site.run("ListScansOperator", path=site.url(), settle_seconds=600)
    assert unsettled.errors[:1] == ["AirflowSkipException"], unsettled
    settled = site.run("ListScansOperator", path=site.url(), settle_seconds=0)
    assert [path.rstrip("/") for path in settled.result] == [site.url("new")]
    (scan,) = site.look()
    assert scan.age is not None
    assert scan.age < 120


@shows("`only_new` sees a scan that was replaced at the same size")
def test_only_new(site: Site) -> None:
    """A scan has one fingerprint as long as it is the same, and another one once a file was replaced."""
    site.put("scan/a.e57", some_bytes(1_000), age=5)
    (before,) = site.look()
    (same,) = site.look()
    assert same.fingerprint == before.fingerprint
    site.replace("scan/a.e57", some_bytes(1_001)[:1_000])
    (after,) = site.look()
    assert after.fingerprint != before.fingerprint


@shows("`download_from`")
def test_download_from(site: Site, request: pytest.FixtureRequest) -> None:
    """A store that can sign gives the 360 server a URL that returns the object; another one is refused."""
    site.put("büro #1.e57", b"points")
    task = CreateProjectOperator(task_id="project", download_from=site.url("büro #1.e57"))
    if not site.store.signs:
        from airflow.providers.common.compat.sdk import AirflowFailException

        with pytest.raises(AirflowFailException):
            task.execute(context())
        request.node.user_properties.append(("cell", "refused"))
        return
    task.execute(context())
    (project,) = site.emulator.store.projects.values()
    with requests.Session() as anybody:
        anybody.trust_env = False
        reply = anybody.get(str(project.options["download_link"]), timeout=10)
    assert (reply.status_code, reply.content) == (200, b"points")
