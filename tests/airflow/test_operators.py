from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    DeleteUploadSessionOperator,
    ListFilesOperator,
    ListScansOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from tests.airflow.conftest import AirflowRescheduleException, StateStore, context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans of one night, and other files next to them."""
    for name in ("a.E57", "b.las", ".hidden.las", "Thumbs.db", "sub/c.las"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return tmp_path


def session(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


def upload_all(upload_id: str, folder: Path, **more: Any) -> dict[str, int]:
    operator = UploadFilesOperator(task_id="upload", upload_id=upload_id, path=str(folder), **more)
    return operator.execute(context())


def sent(emulator: Emulator) -> list[str]:
    return [f"{exchange.method} {exchange.path}" for exchange in emulator.exchanges]


class TestListFiles:
    def test_entries_are_arguments_of_an_upload_task(self, folder: Path) -> None:
        """Each entry has the keyword arguments of an upload task; hidden and system files are left out."""
        entries = ListFilesOperator(task_id="list", path=str(folder), recursive=False).execute(context())
        assert entries == [
            {
                "path": str(folder / name),
                "filename": name.lower(),
                "size": 500,
                "etag": None,
                "modified": (folder / name).stat().st_mtime,
            }
            for name in ("a.E57", "b.las")
        ]

    def test_subfolders_are_entered_and_kept_apart(self, folder: Path) -> None:
        """By default a folder means all files below it, under names made from their paths."""
        operator = ListFilesOperator(task_id="list", path=str(folder), pattern="*.LAS")
        assert [entry["filename"] for entry in operator.execute(context())] == ["b.las", "sub_c.las"]

    def test_patterns_and_exclude(self, folder: Path) -> None:
        """`pattern` and `exclude` accept a glob or a list of globs, without regard to case."""
        both = ListFilesOperator(
            task_id="list", path=str(folder), pattern=["*.LAS", "A.*"], exclude=["SUB/*", "*.txt"]
        )
        assert [entry["filename"] for entry in both.execute(context())] == ["a.e57", "b.las"]

    def test_files_in_subfolders_are_warned_of(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With `recursive=False` a warning counts the files in subfolders."""
        ListFilesOperator(task_id="list", path=str(folder), recursive=False).execute(context())
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert any("1 file in 1 subfolder" in warning for warning in warnings)

    def test_the_store_does_not_know_when_a_file_was_modified(self, folder: Path) -> None:
        """An unknown modification time is None, and is not compared later."""
        os.utime(folder / "b.las", (0, 0))
        operator = ListFilesOperator(task_id="list", path=str(folder / "b.las"))
        assert operator.execute(context())[0]["modified"] is None

    def test_two_files_of_one_name_fail(self, folder: Path) -> None:
        """Two files of one name fail before any byte moves, and the error names both and both ways out."""
        (folder / "sub" / "B.LAS").write_bytes(b"x")
        operator = ListFilesOperator(task_id="list", path=str(folder), names="basename")
        with pytest.raises(AirflowFailException, match=r'b\.las and .*sub/B\.LAS .*names="path".*archive'):
            operator.execute(context())

    def test_a_night_without_files_is_skipped(self, tmp_path: Path) -> None:
        """A night without files is skipped."""
        with pytest.raises(AirflowSkipException, match="No files in"):
            ListFilesOperator(task_id="list", path=str(tmp_path)).execute(context())

    def test_nothing_fails_when_asked(self, tmp_path: Path) -> None:
        """A night without files fails if on_empty says so, and the message contains the pattern."""
        operator = ListFilesOperator(task_id="list", path=str(tmp_path), pattern="*.e57", on_empty="fail")
        with pytest.raises(AirflowFailException, match=r"No files in .* that match \*\.e57"):
            operator.execute(context())

    def test_nothing_says_what_was_left_out(self, folder: Path) -> None:
        """If all files are left out, the message counts them, because that may be a mistake."""
        operator = ListFilesOperator(task_id="list", path=str(folder), pattern="*.laz", exclude="c.*")
        with pytest.raises(AirflowSkipException, match=r"\*\.laz without c\..*3 files not matching pattern"):
            operator.execute(context())

    def test_a_missing_parent_fails(self) -> None:
        """A path whose parent is missing, such as a drive that is not mounted, fails."""
        with pytest.raises(AirflowFailException, match="/no/such/folder does not exist"):
            ListFilesOperator(task_id="list", path="/no/such/folder").execute(context())


class TestListScans:
    def test_only_folders_with_a_file_are_scans(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Only folders with a file count, and a warning names files next to them."""
        (folder / "empty").mkdir()
        (folder / ".cache").mkdir()
        scans = ListScansOperator(task_id="list", path=str(folder)).execute(context())
        assert scans == [str(folder / "sub")]
        assert "2 files beside the folders will not be uploaded" in caplog.text

    def test_a_folder_without_a_match_is_no_scan(self, folder: Path) -> None:
        """A folder without a file of the pattern is not a scan."""
        with pytest.raises(AirflowSkipException):
            ListScansOperator(task_id="list", path=str(folder), pattern="*.e57").execute(context())


class TestUploadFile:
    def test_the_result_has_the_name_on_the_server(self, emulator: Emulator, folder: Path) -> None:
        """The result contains the file's name on the server."""
        operator = UploadFileOperator(
            task_id="upload", upload_id=session(emulator), path=str(folder / "a.E57"), inspect="off"
        )
        assert operator.execute(context()) == {
            "filename": "a.e57",
            "path": str(folder / "a.E57"),
            "size": 500,
        }
        assert sent(emulator)[1:] == [f"PUT /uploads/{operator.upload_id}/a.e57"]

    def test_second_attempt_asks(self, emulator: Emulator, folder: Path) -> None:
        """A retry of a complete file costs one request and no bytes."""
        operator = UploadFileOperator(
            task_id="upload", upload_id=session(emulator), path=str(folder / "b.las")
        )
        operator.execute(context())
        operator.execute(context(try_number=2))
        assert sent(emulator)[2:] == [f"GET /uploads/{operator.upload_id}/b.las"]

    def test_timed_out_and_killed(self, emulator: Emulator, folder: Path) -> None:
        """A task that times out and is killed leaves its session and its files to the retry."""

        class TimedOut(BaseException):
            pass

        def wait(seconds: float) -> None:
            raise TimedOut

        emulator.faults.add({"on": "PUT /uploads/*/b.las", "do": "lost_reply", "skip": 1})
        upload_id = session(emulator)

        def upload(attempt: int, sleep: Any = None) -> Any:
            operator = UploadFileOperator(
                task_id="upload", upload_id=upload_id, path=str(folder / "b.las"), chunk_size=200
            )
            if sleep:
                object.__setattr__(operator.hook.client.backoff, "sleep", sleep)
            try:
                return operator.execute(context(attempt))
            finally:
                operator.on_kill()

        with pytest.raises(TimedOut):
            upload(1, wait)
        assert upload(2)["size"] == 500
        starts = [exchange.start for exchange in emulator.exchanges if exchange.method == "PUT"]
        assert starts == [0, 200, 400]
        assert not [request for request in sent(emulator) if request.startswith("DELETE")]

    def test_numbers_may_be_rendered_as_text(self, emulator: Emulator, folder: Path) -> None:
        """Numbers may come out of a template as text."""
        operator = UploadFileOperator(
            task_id="upload",
            upload_id=session(emulator),
            path=str(folder / "b.las"),
            size="500",
            chunk_size="200",
        )
        operator.execute(context())
        assert [exchange.body_bytes for exchange in emulator.exchanges if exchange.method == "PUT"] == [
            200,
            200,
            100,
        ]

    def test_an_invalid_chunk_size_is_named(self, emulator: Emulator, folder: Path) -> None:
        """A chunk size that is no number is named."""
        operator = UploadFileOperator(task_id="upload", upload_id="x", path=str(folder / "b.las"))
        operator.chunk_size = "8 MiB"
        with pytest.raises(AirflowFailException, match="chunk_size must be a whole number"):
            operator.execute(context())

    def test_a_missing_session_names_the_task_to_clear(self, emulator: Emulator, folder: Path) -> None:
        """A session that is gone fails permanently, and the message names the task to clear."""
        operator = UploadFileOperator(task_id="upload", upload_id="gone0000", path=str(folder / "b.las"))
        with pytest.raises(AirflowFailException, match="clear the session task"):
            operator.execute(context())

    def test_refused_extension(
        self, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An extension that the server refuses is sent once and fails with the list of allowed extensions."""
        (tmp_path / "notes.docx").write_bytes(b"x")
        operator = UploadFileOperator(
            task_id="upload", upload_id=session(emulator), path=str(tmp_path / "notes.docx")
        )
        with pytest.raises(AirflowFailException, match=r"415 extension_not_allowed.*docx.*e57"):
            operator.execute(context())
        assert len(emulator.exchanges) == 2
        assert "'docx'" in capsys.readouterr().out

    def test_a_mapped_row_is_labelled_by_its_file(self) -> None:
        """A mapped row is labelled by its file's name, unless the user says otherwise."""
        assert UploadFileOperator(task_id="a", upload_id="", path="").map_index_template
        own = UploadFileOperator(task_id="b", upload_id="", path="", map_index_template="{{ 1 }}")
        assert own.map_index_template == "{{ 1 }}"


class TestUploadFiles:
    def test_the_result_is_a_summary_of_fixed_size(self, emulator: Emulator, folder: Path) -> None:
        """The result is a summary of fixed size; the session is listed once and each file sent once."""
        upload_id = session(emulator)
        assert upload_all(upload_id, folder, inspect="off") == {"files": 3, "bytes": 1900}
        assert sent(emulator)[1] == f"GET /uploads/{upload_id}"
        names = ("a.e57", "b.las", "sub_c.las")
        assert sorted(sent(emulator)[2:]) == [f"PUT /uploads/{upload_id}/{name}" for name in names]

    def test_what_was_left_out_is_said_at_the_end(
        self, emulator: Emulator, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The last log line counts the files that were left out, by reason."""
        (folder / "old.las").write_bytes(b"x")
        UploadFilesOperator(
            task_id="upload",
            upload_id=session(emulator),
            path=str(folder),
            pattern="*.las",
            exclude="old*",
            recursive=False,
        ).execute(context())
        last = capsys.readouterr().out.strip().splitlines()[-1]
        for said in (
            "Left out: ",
            "1 hidden file",
            "1 system file",
            "1 file not matching pattern",
            "1 file matching exclude",
            "1 file in 1 subfolder (recursive=False)",
        ):
            assert said in last

    def test_nothing_left_out_is_not_worth_a_line(
        self, emulator: Emulator, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """If nothing was left out, the log has no line about it."""
        UploadFilesOperator(task_id="upload", upload_id=session(emulator), path=str(folder / "sub")).execute(
            context()
        )
        assert "left out" not in capsys.readouterr().out.lower()

    def test_a_second_run_costs_one_request(self, emulator: Emulator, folder: Path) -> None:
        """Running it again costs one request."""
        upload_id = session(emulator)
        upload_all(upload_id, folder)
        upload_all(upload_id, folder)
        assert sent(emulator)[5:] == [f"GET /uploads/{upload_id}"]

    def test_several_paths_go_into_one_session(self, emulator: Emulator, folder: Path) -> None:
        """Several paths are uploaded into one session."""
        operator = UploadFilesOperator(
            task_id="upload",
            upload_id=session(emulator),
            paths=[str(folder / "a.E57"), str(folder / "sub")],
            inspect="off",
        )
        assert operator.execute(context()) == {"files": 2, "bytes": 1400}

    @pytest.mark.parametrize("given", [{}, {"path": "/a", "paths": ["/b"]}], ids=["neither", "both"])
    def test_path_or_paths(self, given: dict[str, Any]) -> None:
        """Neither or both of path and paths is an error when the DAG is parsed."""
        with pytest.raises(ValueError, match="either path or paths"):
            UploadFilesOperator(task_id="upload", upload_id="x", **given)

    def test_a_folder_without_files_is_skipped(self, emulator: Emulator, tmp_path: Path) -> None:
        """A folder without files is skipped without a request."""
        with pytest.raises(AirflowSkipException):
            upload_all("x", tmp_path)
        assert emulator.exchanges == []

    def test_a_refused_file_does_not_stop_the_others(self, emulator: Emulator, folder: Path) -> None:
        """A refused file is named at the end, and the others are complete."""
        (folder / "notes.docx").write_bytes(b"x")
        (folder / "more.docx").write_bytes(b"xy")
        upload_id = session(emulator)
        operator = UploadFilesOperator(task_id="upload", upload_id=upload_id, path=str(folder), parallel=1)
        with pytest.raises(AirflowFailException, match=r"(?s)2 of 5 files.*\.docx.*\.docx"):
            operator.execute(context())
        assert set(emulator.store.sessions[upload_id].files) == {"a.e57", "b.las", "sub_c.las"}
        assert sum(".docx" in line for line in sent(emulator)) == 1

    def test_an_unreadable_file_fails_before_any_byte(
        self, emulator: Emulator, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that the worker cannot read is an error before a byte of any file is sent."""
        # Root may read everything, so the question is answered for it.
        monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("b.las"))
        with pytest.raises(AirflowFailException, match=r"not allowed to read .*b\.las"):
            upload_all("AAAAAAAA", folder)
        assert emulator.exchanges == []


class TestDeleteUploadSession:
    def test_deleting_twice_succeeds(self, emulator: Emulator) -> None:
        """Deleting a session twice is as good as once."""
        operator = DeleteUploadSessionOperator(task_id="delete", upload_id=session(emulator))
        operator.execute(context())
        operator.execute(context())
        assert sent(emulator).count(f"DELETE /uploads/{operator.upload_id}") == 2

    def test_a_session_with_a_project_is_kept(self, emulator: Emulator, folder: Path) -> None:
        """A session that became a project is not deleted."""
        upload_id = session(emulator)
        upload_all(upload_id, folder)
        CreateProjectOperator(task_id="project", upload_id=upload_id).execute(context())
        with pytest.raises(AirflowFailException, match="became project"):
            DeleteUploadSessionOperator(task_id="delete", upload_id=upload_id).execute(context())
        assert upload_id in emulator.store.sessions

    def test_project_of_another_name(self, emulator: Emulator, folder: Path) -> None:
        """A session whose project has another name is not deleted if that name is given."""
        upload_id = emulator.store.take_name()
        assert session(emulator) == upload_id
        upload_all(upload_id, folder)
        name = CreateProjectOperator(task_id="project", upload_id=upload_id, title="T").execute(context())
        assert name != upload_id
        operator = DeleteUploadSessionOperator(task_id="delete", upload_id=upload_id, project_name=name)
        with pytest.raises(AirflowFailException, match=f"became project {name}"):
            operator.execute(context())
        assert upload_id in emulator.store.sessions

    @pytest.mark.parametrize("project_name", [None, "None"], ids=["nothing", "as a template says it"])
    def test_a_teardown_deletes_only_a_session_without_a_project(
        self, emulator: Emulator, folder: Path, project_name: str | None
    ) -> None:
        """As a teardown it is skipped if there is a project, and deletes a session without one."""
        upload_id = session(emulator)
        upload_all(upload_id, folder)
        operator = DeleteUploadSessionOperator(
            task_id="delete", upload_id=upload_id, project_name=project_name
        ).as_teardown()
        CreateProjectOperator(task_id="project", upload_id=upload_id).execute(context())
        with pytest.raises(AirflowSkipException, match="became project"):
            operator.execute(context())
        operator.upload_id = session(emulator)
        operator.execute(context())
        assert operator.upload_id not in emulator.store.sessions


class TestCreateProject:
    def create(self, upload_id: str, **more: Any) -> CreateProjectOperator:
        return CreateProjectOperator(task_id="project", upload_id=upload_id, **more)

    def test_the_server_gets_the_given_fields(self, emulator: Emulator, folder: Path) -> None:
        """The server gets the given fields, private by default, and the page's URL is saved."""
        upload_id = session(emulator)
        uploads = upload_all(upload_id, folder)
        operator = self.create(
            upload_id, uploads=uploads, title="T", coordinate_system="EPSG:25832", options={"anonymize": True}
        )
        given = context()
        name = operator.execute(given)
        assert name == upload_id
        assert emulator.store.projects[name].options == {
            "title": "T",
            "privacy_mode": 2,
            "coordinate_system": "EPSG:25832",
            "anonymize": True,
        }
        page = f"{emulator.url}/projects/{name}"
        assert given["ti"].pushed == {"project_request": "asked", "project_url": page}

    def test_a_second_run_reuses_the_project(self, emulator: Emulator, folder: Path) -> None:
        """A second run reuses the project and creates no second one, even if the session is gone."""
        upload_id = session(emulator)
        operator = self.create(upload_id, uploads=upload_all(upload_id, folder))
        store = StateStore()
        first = operator.execute(context(store=store))
        assert operator.execute(context(try_number=2, store=store)) == first
        assert sent(emulator).count("POST /projects") == 1

    @pytest.mark.parametrize(
        ("uploads", "said"),
        [
            pytest.param([], "uploads is empty", id="nothing uploaded"),
            pytest.param(
                [{"filename": "a.e57", "size": 500}], "b.las is there and was not", id="one too much"
            ),
            pytest.param(
                {"filename": "c.las", "size": 1}, "c.las should have 1 byte and is not", id="missing"
            ),
            pytest.param({"filename": "a.e57", "size": 1}, "a.e57 should have 1 byte and has 500", id="size"),
            pytest.param(
                {"files": 1, "bytes": 1},
                "contains 2 files of 1,000 bytes, and .* 1 file of 1 byte",
                id="count",
            ),
            pytest.param(
                {"files": 2, "bytes": 999}, "and the upload tasks sent 2 files of 999 bytes", id="bytes"
            ),
            pytest.param("a.e57", "must be the result of upload tasks", id="a text"),
            pytest.param([None], "must be the result of upload tasks", id="None"),
        ],
    )
    def test_a_session_with_other_files_becomes_no_project(
        self, emulator: Emulator, folder: Path, uploads: Any, said: str
    ) -> None:
        """No project is created from a session that does not contain exactly the uploaded files."""
        upload_id = session(emulator)
        upload_all(upload_id, folder, recursive=False)
        with pytest.raises(AirflowFailException, match=said):
            self.create(upload_id, uploads=uploads).execute(context())
        assert not emulator.store.projects

    def test_mixed_uploads(self, emulator: Emulator, folder: Path) -> None:
        """Results of both upload operators may be given together."""
        upload_id = session(emulator)
        one = UploadFileOperator(task_id="u", upload_id=upload_id, path=str(folder / "sub/c.las"))
        results = [one.execute(context()), upload_all(upload_id, folder, recursive=False)]
        assert self.create(upload_id, uploads=results).execute(context()) == upload_id

    def test_an_incomplete_session_becomes_no_project(self, emulator: Emulator) -> None:
        """No project is created from a session with an incomplete file."""
        upload_id = session(emulator)
        client = self.create(upload_id).hook.client
        client.put_chunk(upload_id, "a.e57", b"12345", "bytes 0-4/10")
        with pytest.raises(AirflowFailException, match=r"a\.e57 is not complete \(5 of 10 bytes\)"):
            self.create(upload_id).execute(context())
        assert not emulator.store.projects

    def test_an_empty_session_becomes_no_project(self, emulator: Emulator) -> None:
        """No project is created from an empty session."""
        with pytest.raises(AirflowFailException, match="it is empty"):
            self.create(session(emulator)).execute(context())

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"upload_id": "a", "download_link": "https://x"},
            {"upload_id": "a", "download_from": "s3://b/k"},
            {"download_link": "https://x", "download_from": "s3://b/k"},
        ],
        ids=["none", "session and link", "session and object", "link and object"],
    )
    def test_exactly_one_origin_is_required(self, given: dict[str, Any]) -> None:
        """None or two of session, link and object is an error when the DAG is parsed."""
        with pytest.raises(ValueError, match="give one of upload_id, download_link, download_from"):
            CreateProjectOperator(task_id="project", **given)

    def test_template_came_out_empty(self, emulator: Emulator) -> None:
        """A session that a template left empty is named, and the link is not shown."""
        with pytest.raises(AirflowFailException, match="upload_id is None"):
            self.create("").execute(context())

    @pytest.mark.parametrize("mode", ["private", "PRIVATE", 2, "2"], ids=str)
    def test_privacy_is_a_word_or_a_number(self, emulator: Emulator, mode: Any) -> None:
        """Privacy is a word or the server's number."""
        operator = CreateProjectOperator(
            task_id="project", download_link="https://x/y.e57", privacy_mode=mode
        )
        name = operator.execute(context())
        assert emulator.store.projects[name].options["privacy_mode"] == 2

    def test_a_field_that_is_given_twice(self, emulator: Emulator) -> None:
        """An option for which the operator has a parameter fails before any request."""
        with pytest.raises(AirflowFailException, match="options must not contain title"):
            self.create("x", title="a", options={"title": "b"}).execute(context())
        assert emulator.exchanges == []

    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (402, "storage_quota_exceeded", "Free storage"),
            (403, "project_limit_reached", "Delete projects"),
            (403, "insufficient_scope", "projects:write"),
        ],
        ids=["quota", "limit", "scope"],
    )
    def test_a_refused_request_is_sent_once(
        self, emulator: Emulator, folder: Path, status: int, code: str, said: str
    ) -> None:
        """A refused request is sent once and fails permanently, with the next step."""
        upload_id = session(emulator)
        upload_all(upload_id, folder)
        emulator.faults.add(
            {"on": "POST /projects", "do": "status", "status": status, "body": {"error": code}}
        )
        with pytest.raises(AirflowFailException, match=said):
            self.create(upload_id).execute(context())
        assert sent(emulator).count("POST /projects") == 1

    def test_a_repeated_presigned_link_is_not_in_the_error(self, emulator: Emulator) -> None:
        """A presigned link that the server repeats in its refusal is not in the error."""
        link = "https://bucket.example.com/scan.e57?X-Amz-Signature=0123456789abcdef"
        body = {"error": "project_creation_failed", "link": link, "query": link.partition("?")[2]}
        emulator.faults.add({"on": "POST /projects", "do": "status", "status": 400, "body": body})
        with pytest.raises(AirflowFailException, match="project_creation_failed") as caught:
            CreateProjectOperator(task_id="project", download_link=link).execute(context(store=StateStore()))
        assert "0123456789abcdef" not in f"{caught.value} {caught.value.__cause__!r}"

    def test_wait_defers(self, emulator: Emulator, folder: Path) -> None:
        """Waiting for completion defers with plain arguments, and ends with the project's name."""
        emulator.store.processing_seconds = 3600
        upload_id = session(emulator)
        upload_all(upload_id, folder)
        operator = self.create(upload_id, wait_for_completion=True, deferrable=True, poll_interval=7)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context())
        arguments = deferred.value.trigger.serialize()[1]
        assert arguments.pop("deferred_at") == pytest.approx(time.time(), abs=60)
        assert arguments == {
            "project_name": upload_id,
            "three_sixty_conn_id": "three_sixty_default",
            "poll_interval": 7,
            "stall_timeout": None,
            "first_poll_after": 0,
        }
        event = {"status": "ready", "record": {"name": upload_id, "status": 100, "errors": 0}}
        assert operator.execute_complete(context(), event) == upload_id

    def test_wait_reschedules(self, emulator: Emulator) -> None:
        """Without deferral a wait reschedules, and the next run continues with the created project."""
        emulator.store.processing_seconds = 3600
        store = StateStore()
        operator = CreateProjectOperator(
            task_id="project", download_link="https://x/y.e57", wait_for_completion=True, deferrable=False
        )
        for _ in range(2):
            with pytest.raises(AirflowRescheduleException):
                operator.execute(context(store=store))
        assert sent(emulator).count("POST /projects") == 1


def test_log_for_a_person(emulator: Emulator, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log contains the file, its name on the server, and its completion."""
    upload_id = session(emulator)
    UploadFileOperator(task_id="upload", upload_id=upload_id, path=str(folder / "a.E57")).execute(context())
    log = capsys.readouterr().out
    assert "a.E57 is sent as a.e57" in log
    assert f"a.e57: 500 bytes from {folder / 'a.E57'} to session {upload_id}" in log
    assert "a.e57: complete, 500 bytes in 0 s" in log
