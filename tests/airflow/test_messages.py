"""The messages after a failure: the reason, the numbers, and a next step that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_360.emulator import Emulator
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    ListFilesOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.sensors.project import ProjectReadySensor
from tests.airflow.conftest import StateStore, connect, context


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return new_session()


def new_session() -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


def listed(path: Path) -> dict[str, Any]:
    (entry,) = ListFilesOperator(task_id="list", path=path).execute(context())
    return entry


def upload(upload_id: str, store: StateStore | None = None, **given: Any) -> dict[str, Any]:
    operator = UploadFileOperator(task_id="upload", upload_id=upload_id, **given)
    return operator.execute(context(store=store))


class TestSourceChanged:
    """The message about a changed file names the tasks to clear: also the listing task, if it was listed."""

    def test_since_the_listing(self, upload_id: str, tmp_path: Path) -> None:
        """The error for a file that changed since its listing has the sizes; clearing both tasks works."""
        scan = tmp_path / "scan.e57"
        scan.write_bytes(b"x" * 1000)
        entry = listed(scan)
        scan.write_bytes(b"x" * 1001)
        with pytest.raises(AirflowFailException, match=r"1,000 bytes .* 1,001 bytes now") as caught:
            upload(upload_id, **entry)
        assert "Clear the listing task and the session task" in str(caught.value)
        assert upload(new_session(), **listed(scan))["size"] == 1001

    @pytest.mark.parametrize("from_listing", [True, False], ids=["listed", "not listed"])
    def test_since_the_first_attempt(self, upload_id: str, tmp_path: Path, from_listing: bool) -> None:
        """A file that changed between two attempts names the listing task only if there is one."""
        scan, store = tmp_path / "scan.e57", StateStore()
        scan.write_bytes(b"x" * 1000)
        given = listed(scan) if from_listing else {"path": str(scan)}
        upload(upload_id, store, **given)
        scan.write_bytes(b"x" * 1001)
        if from_listing:  # the listing task alone was cleared
            given = listed(scan)
        with pytest.raises(AirflowFailException, match="Clear the session task") as caught:
            upload(upload_id, store, **given)
        assert ("clear the listing task too" in str(caught.value)) == from_listing
        assert upload(new_session(), StateStore(), **given)["size"] == 1001

    def test_the_server_has_bytes_of_another_file(self, upload_id: str, tmp_path: Path) -> None:
        """Without saved state, the server's bytes show the change; the message names the listing task too."""
        scan = tmp_path / "scan.e57"
        scan.write_bytes(b"x" * 1000)
        client = ThreeSixtyHook().client
        client.put_chunk(upload_id, "scan.e57", b"12345", "bytes 0-4/10")
        operator = UploadFileOperator(task_id="upload", upload_id=upload_id, **listed(scan))
        with pytest.raises(AirflowFailException, match=r"Clear the session task.*clear the listing task too"):
            operator.execute(context(try_number=2))

    def test_a_folder_names_the_session_task_only(self, upload_id: str, tmp_path: Path) -> None:
        """A task that lists by itself names the session task only, and to clear it works."""
        (tmp_path / "a.e57").write_bytes(b"a")
        store = StateStore()
        given: dict[str, Any] = {"task_id": "upload", "path": tmp_path}
        UploadFilesOperator(upload_id=upload_id, **given).execute(context(store=store))
        (tmp_path / "b.e57").write_bytes(b"b")
        again = UploadFilesOperator(upload_id=upload_id, **given)
        with pytest.raises(AirflowFailException, match="Clear the session task") as caught:
            again.execute(context(store=store))
        assert "listing" not in str(caught.value)
        fresh = UploadFilesOperator(upload_id=new_session(), **given)
        assert fresh.execute(context(store=store))["files"] == 2


class TestConnection:
    """An error that the connection may be the cause of names its id."""

    OPERATORS: tuple[tuple[str, Any], ...] = (
        ("POST /uploads", lambda more: CreateUploadSessionOperator(task_id="t", **more)),
        ("DELETE /uploads/*", lambda more: DeleteUploadSessionOperator(task_id="t", upload_id="x", **more)),
        (
            "GET /projects/*",
            lambda more: ProjectReadySensor(task_id="t", project_name="x", deferrable=True, **more),
        ),
        (
            "POST /projects",
            lambda more: CreateProjectOperator(task_id="t", download_link="https://x/y.e57", **more),
        ),
    )

    @pytest.fixture
    def conn_id(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv(
            "AIRFLOW_CONN_SITE_B",
            f'{{"conn_type": "three_sixty", "password": "sk_b", "host": "{emulator.url}"}}',
        )
        return "site_b"

    @pytest.mark.parametrize(("request_", "make"), OPERATORS, ids=[name for name, _ in OPERATORS])
    def test_a_refused_key(self, emulator: Emulator, conn_id: str, request_: str, make: Any) -> None:
        """The message about a refused key names its connection."""
        refused = {"do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
        emulator.faults.add({"on": request_, **refused})
        if request_.startswith("DELETE"):
            emulator.faults.add({"on": "GET /projects/*", "do": "status", "status": 404, "body": NOT_FOUND})
        with pytest.raises(AirflowFailException, match=r"401 invalid_api_key.*'site_b'"):
            make({"three_sixty_conn_id": conn_id}).execute(context())

    def test_a_refused_key_during_an_upload(self, emulator: Emulator, tmp_path: Path, conn_id: str) -> None:
        """An upload that is refused names the connection, once."""
        (tmp_path / "a.e57").write_bytes(b"a")
        emulator.faults.add(
            {"on": "PUT /uploads/*/*", "do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
        )
        with pytest.raises(AirflowFailException, match="invalid_api_key") as caught:
            upload("AAAAAAAA", path=tmp_path / "a.e57", three_sixty_conn_id=conn_id)
        assert str(caught.value).count("site_b") == 1

    def test_an_unreachable_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that cannot be reached names the connection whose host it is."""
        connect(monkeypatch, host="http://127.0.0.1:9")
        hook = ThreeSixtyHook()
        object.__setattr__(hook.client.backoff, "tries", 0)
        operator = DeleteUploadSessionOperator(task_id="t", upload_id="AAAAAAAA", project_name=None)
        operator.hook = hook
        with pytest.raises(AirflowException, match=r"127\.0\.0\.1:9.*'three_sixty_default'"):
            operator.execute(context())

    def test_a_wrong_field(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong field of a connection names field and connection."""
        connect(monkeypatch, extra={"read_timeout": "soon"})
        with pytest.raises(AirflowFailException, match=r"'three_sixty_default': .*'read_timeout'"):
            CreateUploadSessionOperator(task_id="t").execute(context())

    def test_other_errors_do_not_name_it(self, emulator: Emulator, upload_id: str, tmp_path: Path) -> None:
        """A refused file has nothing to do with the connection."""
        (tmp_path / "a.docx").write_bytes(b"a")
        with pytest.raises(AirflowFailException, match="415") as caught:
            upload(upload_id, path=tmp_path / "a.docx")
        assert "three_sixty_default" not in str(caught.value)


NOT_FOUND = {"error": "project_not_found"}


class TestRefusedFiles:
    @pytest.mark.parametrize("several", [False, True], ids=["one file", "a folder"])
    def test_a_file_that_is_too_large(
        self, emulator: Emulator, upload_id: str, tmp_path: Path, several: bool
    ) -> None:
        """A 413's message contains the file's size, the limit, and the possible next steps."""
        (tmp_path / "a.e57").write_bytes(bytes(5000))
        emulator.faults.add(
            {
                "on": "PUT /uploads/*/*",
                "do": "status",
                "status": 413,
                "body": {"error": "file_too_large", "limit": 2048},
            }
        )
        store = StateStore()
        with pytest.raises(AirflowFailException, match="413 file_too_large") as caught:
            send(upload_id, tmp_path, several, store)
        for said in ("a.e57", "4.9 KiB", "2.0 KiB", "Split the file", "clear the listing task"):
            assert said in str(caught.value)
        for part in ("a1.e57", "a2.e57"):
            (tmp_path / part).write_bytes(bytes(2000))
        (tmp_path / "a.e57").unlink()
        again = UploadFilesOperator(task_id="u", upload_id=new_session(), path=tmp_path)
        assert again.execute(context(store=store))["files"] == 2

    def test_further_files_that_are_too_large(
        self, emulator: Emulator, upload_id: str, tmp_path: Path
    ) -> None:
        """Files that are not sent because of the limit get the same message."""
        for name in ("a.e57", "b.e57"):
            (tmp_path / name).write_bytes(bytes(5000))
        body = {"error": "file_too_large", "limit": 2048}
        emulator.faults.add({"on": "PUT /uploads/*/*", "do": "status", "status": 413, "body": body})
        with pytest.raises(AirflowFailException, match="2 of 2 files") as caught:
            UploadFilesOperator(task_id="u", upload_id=upload_id, path=tmp_path, parallel=1).execute(
                context()
            )
        assert str(caught.value).count("4.9 KiB") == 2
        assert str(caught.value).count("2.0 KiB") == 2

    def test_a_session_that_is_full(self, emulator: Emulator, upload_id: str, tmp_path: Path) -> None:
        """The message about a full session says that the limit is the session's."""
        (tmp_path / "a.e57").write_bytes(bytes(5000))
        body = {"error": "session_too_large", "limit": 2048}
        emulator.faults.add({"on": "PUT /uploads/*/*", "do": "status", "status": 413, "body": body})
        with pytest.raises(AirflowFailException, match=r"2\.0 KiB for a whole session") as caught:
            send(upload_id, tmp_path, several=True)
        assert "several sessions" in str(caught.value)

    def test_a_proxy_that_takes_small_requests_only(
        self, emulator: Emulator, upload_id: str, tmp_path: Path
    ) -> None:
        """A 413 of a proxy advises a smaller `chunk_size`, and that works."""
        (tmp_path / "a.e57").write_bytes(bytes(5000))
        emulator.faults.add(
            {"on": "PUT /uploads/*/*", "do": "status", "status": 413, "body": "<html>too large</html>"}
        )
        with pytest.raises(AirflowFailException, match="set chunk_size to less than its limit"):
            send(upload_id, tmp_path, several=False)
        assert upload(upload_id, path=tmp_path / "a.e57", chunk_size=1000)["size"] == 5000

    def test_the_list_of_extensions_stands_once(
        self, emulator: Emulator, upload_id: str, tmp_path: Path
    ) -> None:
        """Each refused file has a line, the allowed extensions appear once, and excluding the files works."""
        for name in ("a.docx", "b.docx", "c.xlsx", "d.e57"):
            (tmp_path / name).write_bytes(b"a")
        store = StateStore()
        with pytest.raises(AirflowFailException, match="3 of 4 files") as caught:
            send(upload_id, tmp_path, several=True, store=store)
        message = str(caught.value)
        for name in ("a.docx", "b.docx", "c.xlsx"):
            assert f"\n- {name}: " in message
        assert message.count("e57, ") == 1
        assert "exclude" in message
        rest = UploadFilesOperator(
            task_id="u", upload_id=upload_id, path=tmp_path, exclude=["*.docx", "*.xlsx"], inspect="off"
        )
        assert rest.execute(context(store=store)) == {"files": 1, "bytes": 1}


def send(upload_id: str, folder: Path, several: bool, store: StateStore | None = None) -> None:
    if several:
        UploadFilesOperator(task_id="u", upload_id=upload_id, path=folder).execute(context(store=store))
    else:
        (path,) = folder.iterdir()
        upload(upload_id, store, path=path)


class TestWords:
    def test_one_file_is_singular(
        self, emulator: Emulator, upload_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A log of one file does not speak of files."""
        (tmp_path / "a.e57").write_bytes(b"a")
        UploadFilesOperator(task_id="u", upload_id=upload_id, path=tmp_path).execute(context())
        log = capsys.readouterr().out
        assert f"1 file, 1 byte, to session {upload_id}" in log
        assert f"session {upload_id}: 1 file complete" in log
        assert "1 files" not in log

    def test_a_name_with_its_folder(
        self, emulator: Emulator, upload_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A refused name shows the path from which it was made."""
        (tmp_path / "100MEDIA").mkdir()
        (tmp_path / "100MEDIA" / "DJI_1.JPG").write_bytes(b"a")
        UploadFilesOperator(task_id="u", upload_id=upload_id, path=tmp_path).execute(context())
        assert "100MEDIA/DJI_1.JPG is sent as 100MEDIA_DJI_1.jpg" in capsys.readouterr().out

    def test_an_extension_that_is_not_usual(
        self, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Files of unusual extensions, and without one, are warned of before they are sent."""
        for name in ("README", "a.docx"):
            (tmp_path / name).write_bytes(b"a")
        with pytest.raises(AirflowFailException):
            UploadFilesOperator(task_id="u", upload_id="AAAAAAAA", path=tmp_path).execute(context())
        assert "files without an extension, 'docx'" in capsys.readouterr().out

    def test_a_missing_result_says_what_to_clear(self) -> None:
        """If a task was marked as success it returned nothing, and the message contains the next step."""
        with pytest.raises(AirflowFailException, match=r"marked that task as success.*clear it"):
            UploadFileOperator(task_id="u", upload_id="None", path="/a.e57").execute(context())
