"""Inspection of files in operators: what is refused, logged, saved, and passed to the project."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_360.__main__ import main
from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from tests.airflow.conftest import TaskInstance, context
from tests.scans import DAMAGED_ZIP, PHOTO, ifc, valid_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan with three damaged files, and two that are well."""
    files = {
        "a.zip": valid_zip(),
        "b.zip": DAMAGED_ZIP,
        "c.e57": b"",
        "d.glb": b"PK\3\4 no model",
        "e.ifc": ifc("EPSG:25832"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


def listing(folder: Path, **more: Any) -> ListFilesOperator:
    return ListFilesOperator(task_id="list", path=str(folder), **more)


def pushed(given: Any) -> dict[str, Any]:
    ti: TaskInstance = given["ti"]
    found: dict[str, Any] = ti.pushed["inspection"]
    return found


class TestModes:
    def test_a_failing_listing_names_all_damaged_files(self, emulator: Emulator, folder: Path) -> None:
        """With "fail", the listing fails at once, names all damaged files, and saves them for the UI."""
        given = context()
        with pytest.raises(AirflowFailException) as raised:
            listing(folder, inspect="fail").execute(given)
        for name in ("b.zip", "c.e57", "d.glb", "3 of 5 files", "exclude", "inspect", "InspectionError"):
            assert name in str(raised.value)
        assert "a.zip" not in str(raised.value)
        assert (pushed(given)["damaged"], pushed(given)["doubtful"]) == (3, 0)
        assert [Path(text.partition(": ")[0]).name for text in pushed(given)["files"]] == [
            "b.zip",
            "c.e57",
            "d.glb",
        ]
        assert not emulator.exchanges

    def test_a_warning_listing_lists_all_files(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With "warn", the default, all files are listed, and each damaged one has a line in the log."""
        given = context()
        with caplog.at_level(logging.INFO):
            entries = listing(folder).execute(given)
        assert len(entries) == 5
        assert pushed(given)["damaged"] == 3
        warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert sum("is damaged: " in text for text in warnings) == 3
        assert "5 files inspected: 3 damaged; coordinate system EPSG:25832." in caplog.text

    def test_nothing_is_read_if_it_is_off(self, folder: Path) -> None:
        """With "off", files are not opened, and nothing is saved."""
        given = context()
        (folder / "a.zip").chmod(0)
        assert len(listing(folder, inspect="off").execute(given)) == 5
        assert given["ti"].pushed == {}

    @pytest.mark.parametrize("mode", ["warn", "fail"])
    def test_a_file_that_vanishes(self, folder: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be read any more is a warning, or with "fail" an error that names it."""
        operator = listing(folder, pattern="a.zip", inspect=mode)
        paths, found = operator.hook.paths, operator.hook.paths.list_files(str(folder / "a.zip"))
        monkeypatch.setattr(paths, "list_files", lambda *_, **__: found)
        (folder / "a.zip").unlink()
        if mode == "warn":
            assert len(operator.execute(context())) == 1
        else:
            with pytest.raises(AirflowFailException, match=r"a\.zip"):
                operator.execute(context())

    @pytest.mark.parametrize(
        "kind", [ListFilesOperator, UploadFileOperator, UploadFilesOperator], ids=lambda kind: kind.__name__
    )
    def test_a_wrong_mode_is_refused_when_the_dag_is_parsed(self, kind: Any) -> None:
        """A wrong literal is refused when the DAG is parsed; a template when the task runs."""
        session = {} if kind is ListFilesOperator else {"upload_id": "x"}
        with pytest.raises(ValueError, match="inspect"):
            kind(task_id="t", path="/x", inspect="maybe", **session)
        kind(task_id="t", path="/x", inspect="{{ params.mode }}", **session)


class TestUploads:
    @pytest.mark.parametrize("archive", [None, "all.zip"])
    def test_a_folder_with_damaged_files_is_refused_before_the_first_byte(
        self, emulator: Emulator, folder: Path, upload_id: str, archive: str | None
    ) -> None:
        """With "fail", no byte of a folder is sent if a file of it is damaged."""
        given, begun = context(), len(emulator.exchanges)
        operator = UploadFilesOperator(
            task_id="upload", upload_id=upload_id, path=str(folder), inspect="fail", archive=archive
        )
        with pytest.raises(AirflowFailException, match="3 of 5 files"):
            operator.execute(given)
        assert pushed(given)["damaged"] == 3
        assert len(emulator.exchanges) == begun

    @pytest.mark.parametrize("archive", [None, "all.zip"])
    def test_a_warning_upload_returns_the_counts(
        self, emulator: Emulator, folder: Path, upload_id: str, archive: str | None
    ) -> None:
        """With "warn", everything is uploaded, and the result has the counts and the coordinate system."""
        given = context()
        operator = UploadFilesOperator(
            task_id="upload", upload_id=upload_id, path=str(folder), archive=archive
        )
        result = operator.execute(given)
        assert result["files"] == (1 if archive else 5)
        assert (result["damaged"], result["coordinate_system"]) == (3, "EPSG:25832")
        assert pushed(given)["damaged"] == 3

    def test_one_file(self, emulator: Emulator, folder: Path, upload_id: str) -> None:
        """One file: the result has its coordinate system, or that it is damaged; "fail" sends nothing."""

        def upload(name: str, **more: Any) -> dict[str, Any]:
            path = str(folder / name)
            return UploadFileOperator(task_id="u", upload_id=upload_id, path=path, **more).execute(context())

        assert upload("e.ifc")["coordinate_system"] == "EPSG:25832"
        assert "damaged" not in upload("a.zip")
        begun = len(emulator.exchanges)
        with pytest.raises(AirflowFailException, match=r"b\.zip"):
            upload("b.zip", inspect="fail")
        assert len(emulator.exchanges) == begun
        assert upload("b.zip")["damaged"] == 1

    def test_a_photo_is_inspected_from_the_bytes_that_are_sent(
        self, emulator: Emulator, tmp_path: Path, upload_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With "warn", photos need no reads of their own, and a damaged one is still found."""
        from airflow_360.sources.path import PathSource

        def read_range(*_: Any) -> bytes:
            raise AssertionError("a photo was read twice")

        monkeypatch.setattr(PathSource, "read_range", read_range)
        for number in range(4):
            (tmp_path / f"{number}.jpg").write_bytes(PHOTO[: -2 * (number == 3)])
        given = context()
        result = UploadFilesOperator(task_id="upload", upload_id=upload_id, path=str(tmp_path)).execute(given)
        assert (result["files"], result["damaged"]) == (4, 1)
        (text,) = pushed(given)["files"]
        assert "3.jpg" in text

    def test_a_coordinate_system_beside_the_file(
        self, emulator: Emulator, tmp_path: Path, upload_id: str
    ) -> None:
        """A file that states no coordinate system has that of the .prj file beside it."""
        (tmp_path / "a.ply").write_bytes(
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
            b"end_header\n0 0 0\n"
        )
        (tmp_path / "a.prj").write_text(
            'PROJCS["ETRS89 / UTM 32N",GEOGCS["ETRS89",DATUM["ETRS89",SPHEROID["GRS 1980",6378137,298.2]],'
            'PRIMEM["Greenwich",0],UNIT["degree",0.017]],PROJECTION["Transverse_Mercator"],UNIT["metre",1],'
            'AUTHORITY["EPSG","25832"]]'
        )
        result = UploadFilesOperator(
            task_id="upload", upload_id=upload_id, path=str(tmp_path), exclude="*.prj"
        ).execute(context())
        assert result["coordinate_system"] == "EPSG:25832"


class TestPhotoSets:
    def test_few_photos_are_worth_a_warning(
        self, emulator: Emulator, tmp_path: Path, upload_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A whole folder of few photos gets a warning; a shard of it does not."""
        for number in range(4):
            (tmp_path / f"{number}.jpg").write_bytes(PHOTO)
        upload: dict[str, Any] = {"task_id": "upload", "upload_id": upload_id, "path": str(tmp_path)}
        UploadFilesOperator(shards=2, shard=0, **upload).execute(context())
        assert "a survey usually needs at least 20" not in caplog.text
        UploadFilesOperator(**upload, inspect="fail").execute(context())
        assert "4 photos: a survey usually needs at least 20" in caplog.text


class TestCoordinateSystem:
    def create(self, upload_id: str, uploads: Any, **more: Any) -> CreateProjectOperator:
        operator = CreateProjectOperator(
            task_id="project", upload_id=upload_id, uploads=uploads, coordinate_system="auto", **more
        )
        operator.execute(context())
        return operator

    def upload(self, upload_id: str, folder: Path, **files: bytes) -> list[dict[str, Any]]:
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / f"{name}.ifc").write_bytes(data)
        return [
            UploadFileOperator(task_id="u", upload_id=upload_id, path=str(folder / f"{name}.ifc")).execute(
                context()
            )
            for name in files
        ]

    def test_the_stated_one_reaches_the_project(
        self, emulator: Emulator, tmp_path: Path, upload_id: str
    ) -> None:
        """With "auto" the project has the coordinate system that the files state."""
        uploads = self.upload(upload_id, tmp_path, a=ifc("EPSG:25832"), b=ifc("EPSG:25832"), c=ifc())
        self.create(upload_id, uploads)
        assert emulator.store.projects[upload_id].options["coordinate_system"] == "EPSG:25832"

    def test_different_ones_are_refused(self, emulator: Emulator, tmp_path: Path, upload_id: str) -> None:
        """If the files state different ones, the task fails, lists them, and creates nothing."""
        uploads = self.upload(upload_id, tmp_path, a=ifc("EPSG:25832"), b=ifc("EPSG:31467"))
        with pytest.raises(AirflowFailException) as raised:
            self.create(upload_id, uploads)
        for text in ("EPSG:25832 (a.ifc)", "EPSG:31467 (b.ifc)", "set coordinate_system"):
            assert text in str(raised.value)
        assert not emulator.store.projects

    def test_none_is_a_warning(
        self, emulator: Emulator, tmp_path: Path, upload_id: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """If no file states one, the project is created without one, and a warning says so."""
        self.create(upload_id, self.upload(upload_id, tmp_path, a=ifc()))
        assert "coordinate_system" not in emulator.store.projects[upload_id].options
        assert "No uploaded file states its coordinate system" in capsys.readouterr().out

    def test_the_summary_of_a_folder(self, emulator: Emulator, tmp_path: Path, upload_id: str) -> None:
        """The summary of a folder whose files state different ones is refused too."""
        for name, system in (("a", "EPSG:25832"), ("b", "EPSG:31467")):
            (tmp_path / f"{name}.ifc").write_bytes(ifc(system))
        summary = UploadFilesOperator(task_id="u", upload_id=upload_id, path=str(tmp_path)).execute(context())
        with pytest.raises(AirflowFailException, match="EPSG:25832; EPSG:31467"):
            self.create(upload_id, summary)


class TestCommand:
    def test_a_table_for_people(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The command prints a line per file and each problem below it, and exits with 1."""
        assert main(["inspect", str(folder)]) == 1
        said = capsys.readouterr().out
        lines = {line.split()[-1].rpartition("/")[2]: line.split()[0] for line in said.splitlines()}
        assert {name: lines[name] for name in ("a.zip", "b.zip", "c.e57", "d.glb", "e.ifc")} == {
            "a.zip": "ok",
            "b.zip": "damaged",
            "c.e57": "damaged",
            "d.glb": "damaged",
            "e.ifc": "ok",
        }
        assert "EPSG:25832" in said
        assert main(["inspect", str(folder / "a.zip")]) == 0

    def test_json_for_programs(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With --json each line is an object with the problems of one file."""
        assert main(["inspect", "--json", str(folder / "c.e57"), str(folder / "e.ifc")]) == 1
        empty, model = map(json.loads, capsys.readouterr().out.splitlines())
        assert (empty["size"], empty["problems"][0]["code"]) == (0, "empty")
        assert model["coordinate_system"]["code"] == "EPSG:25832"

    def test_a_missing_path(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A path that does not exist is an error; the other paths are inspected."""
        assert main(["inspect", str(folder / "no" / "x.e57"), str(folder / "a.zip")]) == 1
        said = capsys.readouterr()
        assert "x.e57" in said.err
        assert "a.zip" in said.out
