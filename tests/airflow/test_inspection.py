"""Inspection of files in operators: what is refused, logged, saved, and passed to the project."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException

from airflow_360.__main__ import main
from airflow_360.emulator import Emulator
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.inspection import formats
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.runtime.results import coordinate_system_of
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import StateStore, TaskInstance, context
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
        for name in (
            "b.zip",
            "c.e57",
            "d.glb",
            "Damaged files: 3 of 5",
            "exclude",
            "inspect",
            "InspectionError",
        ):
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
        with pytest.raises(AirflowFailException, match="Damaged files: 3 of 5"):
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
            (tmp_path / f"{number}.jpg").write_bytes(PHOTO[:-2] if number == 3 else PHOTO)
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

    @pytest.mark.parametrize("archive", [None, "all.zip"])
    def test_an_empty_photo_is_found(
        self, emulator: Emulator, tmp_path: Path, upload_id: str, archive: str | None
    ) -> None:
        """A photo without a byte is found too, although nothing of it passes."""
        (tmp_path / "a.jpg").write_bytes(b"")
        (tmp_path / "b.jpg").write_bytes(PHOTO)
        operator = UploadFilesOperator(
            task_id="upload", upload_id=upload_id, path=str(tmp_path), archive=archive
        )
        assert operator.execute(context())["damaged"] == 1

    @pytest.mark.parametrize("how", ["replace one", "replace", "exclude"])
    def test_the_next_step_works(self, emulator: Emulator, tmp_path: Path, upload_id: str, how: str) -> None:
        """After a damaged file was replaced or excluded, the cleared task succeeds, with its saved state."""
        (tmp_path / "a.zip").write_bytes(valid_zip())
        (tmp_path / "b.zip").write_bytes(DAMAGED_ZIP)
        store = StateStore()
        given: dict[str, Any] = {"task_id": "u", "upload_id": upload_id, "inspect": "fail"}

        def upload(**more: Any) -> Any:
            if how == "replace one":
                return UploadFileOperator(path=str(tmp_path / "b.zip"), **given)
            return UploadFilesOperator(path=str(tmp_path), **given, **more)

        with pytest.raises(AirflowFailException, match=r"b\.zip"):
            upload().execute(context(store=store))
        if how != "exclude":
            (tmp_path / "b.zip").write_bytes(valid_zip())
        more = {"exclude": "b.*"} if how == "exclude" else {}
        assert "damaged" not in upload(**more).execute(context(store=store, max_tries=4))

    @pytest.mark.parametrize("name", ["a.zip", "a.jpg"])
    def test_a_defect_of_an_inspection_stops_no_upload(
        self,
        emulator: Emulator,
        tmp_path: Path,
        upload_id: str,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """If the code of an inspection has a defect, the log says so, and the file is uploaded."""

        def broken(*_: Any) -> None:
            raise ValueError("a defect")

        monkeypatch.setattr(formats, "_check_of", lambda _: broken)
        path = tmp_path / name
        path.write_bytes(PHOTO)
        result = UploadFileOperator(task_id="u", upload_id=upload_id, path=str(path)).execute(context())
        assert result == {"filename": name, "path": str(path), "size": len(PHOTO)}
        assert "is accepted" in caplog.text

    def test_a_file_that_is_still_written_is_retried(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With "fail", a file that grows after it was listed is no permanent error."""
        path = tmp_path / "a.zip"
        path.write_bytes(valid_zip()[:50])
        operator = listing(tmp_path, inspect="fail")
        paths, found = operator.hook.paths, operator.hook.paths.list_files(str(path))
        monkeypatch.setattr(paths, "list_files", lambda *_, **__: found)
        path.write_bytes(valid_zip())
        with pytest.raises(AirflowException, match=r"a\.zip changed after it was listed") as raised:
            operator.execute(context())
        assert not isinstance(raised.value, AirflowFailException)

    def test_a_link_beside_a_file_is_not_read(
        self, emulator: Emulator, tmp_path: Path, upload_id: str
    ) -> None:
        """A .prj file that is a link is not read: it may lead to any file that the worker can read."""
        (tmp_path / "scan").mkdir()
        (tmp_path / "scan" / "a.ply").write_bytes(
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n"
        )
        (tmp_path / "secret").write_text('GEOGCS["secret",AUTHORITY["EPSG","4326"]]')
        (tmp_path / "scan" / "a.prj").symlink_to(tmp_path / "secret")
        result = UploadFileOperator(
            task_id="u", upload_id=upload_id, path=str(tmp_path / "scan" / "a.ply")
        ).execute(context())
        assert "coordinate_system" not in result

    def test_a_wrong_mode_in_a_task_of_your_own(
        self, emulator: Emulator, upload_id: str, folder: Path
    ) -> None:
        """The hook refuses a mode that does not exist."""
        with pytest.raises(AirflowFailException, match="inspect must be"):
            ThreeSixtyHook().upload(upload_id, str(folder / "a.zip"), inspect="Fail")


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
        assert "no inspected file states one" in capsys.readouterr().out

    def test_a_changed_result_does_not_stop_the_reuse(
        self, emulator: Emulator, tmp_path: Path, upload_id: str
    ) -> None:
        """If the project exists, a cleared project task reuses it, whatever the files state now."""
        uploads = self.upload(upload_id, tmp_path, a=ifc("EPSG:25832"), b=ifc())
        self.create(upload_id, uploads)
        uploads[1]["coordinate_system"] = "EPSG:31467"
        self.create(upload_id, uploads)
        assert emulator.store.projects[upload_id].options["coordinate_system"] == "EPSG:25832"

    @pytest.mark.parametrize(
        ("stated", "said"),
        [
            ({"coordinate_system": "EPSG:25832, WKT without a code"}, "WKT without an EPSG code"),
            ({"coordinate_system": "EPSG:25832", "unread": 1}, "could not be inspected"),
        ],
    )
    def test_a_part_that_is_not_known_is_a_warning(self, stated: dict[str, Any], said: str) -> None:
        """If one file states no code or could not be read, the code of the others is used, with a warning."""
        system, warning = coordinate_system_of([{"files": 2, "bytes": 2, **stated}])
        assert system == "EPSG:25832"
        assert said in warning

    def test_nothing_to_take_it_from(self) -> None:
        """If no results or no inspection can state one, "auto" is refused when the DAG is parsed."""
        with pytest.raises(ValueError, match="needs uploads"):
            CreateProjectOperator(task_id="p", download_link="https://x/y.e57", coordinate_system="auto")
        with DAG("d", schedule=None), pytest.raises(ValueError, match="inspect"):
            scan_to_project(path="/x", inspect="off", coordinate_system="auto")

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
