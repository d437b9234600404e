"""An archive that breaks off, in a real Airflow whose own store keeps its checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.system.conftest import AIRFLOW, Site

pytestmark = [pytest.mark.system, pytest.mark.long]

CHUNK = 256 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.e57", "two.e57", "three.e57"):
        (tmp_path / name).write_bytes((name.encode() * CHUNK)[: CHUNK * 5 + 17])
    return tmp_path


def test_clear_an_archive(site: Site, folder: Path) -> None:
    """An interrupted zip continues at the server's mark, from the checksums that Airflow 3.3 saves."""
    site.emulator.faults.add({"on": "PUT /uploads/*/photos.zip", "skip": 8, "do": "status", "status": 402})
    run = site.run("chunked_archive", folder=str(folder))
    assert site.airflow.wait(*run) == "failed"

    before = len(site.exchanges("PUT", "/photos.zip"))
    site.airflow.clear(*run, ["upload"])
    site.airflow.wait(*run, must_succeed=True)
    assert site.exchanges("PUT", "/photos.zip")[before].start == 8 * CHUNK
    read_again = "bytes again, because the checksums" in site.airflow.log(*run, "upload")
    assert read_again == (AIRFLOW < (3, 3))
    project = site.airflow.xcom(*run, "create_project")
    with zipfile.ZipFile(site.emulator.store.file_path(project, "photos.zip")) as photos:
        arrived = {name: photos.read(name) for name in photos.namelist()}
    assert arrived == {path.name: path.read_bytes() for path in folder.iterdir()}
