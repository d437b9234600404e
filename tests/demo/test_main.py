"""The command reports an error in one sentence, and the output of a run is short."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from pathlib import Path

import pytest

import demo.__main__ as command
from demo.report import UploadedFile, progress_line, table
from harness.s3 import LocalS3


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo that runs on this machine at the same time keeps its folder."""
    folder = tmp_path / "state"
    monkeypatch.setattr(command, "STATE", folder)
    return folder


def folder_of(tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / "files"
    if kind != "missing":
        folder.mkdir()
    if kind == "a file":
        folder = folder / "scan.las"
        folder.touch()
    if kind == "only system files":
        (folder / ".DS_Store").touch()
    if kind == "only folders":
        (folder / "inside").mkdir()
    return folder


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "there is no folder"),
        ("empty", "holds no files to upload"),
        ("only system files", "holds no files to upload"),
        ("only folders", "It has 1 folder: give one of them"),
        ("a file", "is a file: give the folder that it lies in"),
    ],
)
def test_a_wrong_folder_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, sentence: str
) -> None:
    """A folder that cannot be used ends with exit status 1 and a sentence that names it."""
    folder = folder_of(tmp_path, kind)
    assert command.main(["--files", str(folder)]) == 1
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert str(folder) in error
    assert "\n" not in error


def test_a_second_demo_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one demo runs, another refuses to start and does not touch its folder."""
    state.mkdir()
    (state / "airflow").mkdir()
    with (state / "pid").open("w") as holder:
        holder.write("4711")
        holder.flush()
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert command.main([]) == 1
    assert "another demo is running (process 4711)" in capsys.readouterr().err
    assert (state / "airflow").is_dir()


def test_progress_is_one_line_in_the_order_of_starting() -> None:
    """Mapped tasks are counted, and tasks whose turn has not come are not shown."""
    line = progress_line(
        [
            {"task_id": "ready", "state": None, "start_date": None},
            {"task_id": "upload", "state": "running", "start_date": "2"},
            {"task_id": "upload", "state": "success", "start_date": "3"},
            {"task_id": "list", "state": "success", "start_date": "1"},
        ],
        1024,
        2048,
    )
    assert line == "list ✓ · upload 1 of 2 done, 1 running · 1.0 KiB of 2.0 KiB"


RUN = [
    {"task_id": "list_files", "state": "success", "start_date": "1"},
    {"task_id": "create_session", "state": "success", "start_date": "2"},
    *({"task_id": "upload", "state": "success", "start_date": f"3{number}"} for number in range(12)),
    {"task_id": "create_project", "state": "success", "start_date": "4"},
    {"task_id": "ready", "state": "deferred", "start_date": "5"},
]


@pytest.mark.parametrize("width", [79, 59, 45], ids=str)
def test_the_task_that_runs_is_on_a_narrow_screen(width: int) -> None:
    """If a line does not fit, tasks that are finished are only counted, and the one that runs is shown."""
    line = progress_line(RUN, 33 * 1024**2, 33 * 1024**2, width)
    assert len(progress_line(RUN, 33 * 1024**2, 33 * 1024**2)) > 79
    assert len(line) <= width
    assert "ready deferred" in line
    assert "✓" in line


def test_several_tasks_that_run_are_all_shown() -> None:
    """Only finished tasks are counted, with any tasks before or behind them."""
    run = [
        {"task_id": "upload", "state": "running", "start_date": "1"},
        {"task_id": "a_task_that_is_done", "state": "success", "start_date": "2"},
        {"task_id": "ready", "state": "failed", "start_date": "3"},
    ]
    assert progress_line(run, 0, 0, 45) == "1 ✓ · upload running · ready failed"


def test_a_terminal_shows_the_task_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal of 80 columns the line is made to fit."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    screen = command.Screen()
    screen.show(progress_line(RUN, 1, 2, screen.width), last=True)
    assert "ready deferred" in capsys.readouterr().out


def test_progress_of_a_dag_that_uploads_nothing() -> None:
    """If there are no bytes to wait for, none are shown."""
    instances = [{"task_id": "enter", "state": "running", "start_date": "1"}]
    assert progress_line(instances, 0, 0) == "enter running"


def test_table_names_a_copy_that_differs() -> None:
    """Each file has a row, and a copy that differs cannot be overlooked."""
    text = table(
        [
            UploadedFile("Süd.LAS", 2048, "Sud.las", identical=True),
            UploadedFile("b.e57", 1, "b.e57", identical=False),
        ]
    )
    assert text.splitlines()[2].split() == ["Süd.LAS", "2.0", "KiB", "Sud.las", "yes"]
    assert text.splitlines()[3].split() == ["b.e57", "1", "byte", "b.e57", "NO"]


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-03-01T01:59", "2026-02-28"),
        ("2026-03-01T02:00", "2026-03-01"),
        ("2026-03-01T23:59", "2026-03-01"),
    ],
)
def test_last_night_is_when_the_dags_were_due(now: str, night: str) -> None:
    """The scheduler must find a run for the night that it would otherwise catch up."""
    assert command._last_night(datetime.fromisoformat(f"{now}+00:00")) == datetime.fromisoformat(
        f"{night}T02:00+00:00"
    )


def test_the_dated_folder_is_the_day_on_which_the_interval_began() -> None:
    """The demo's files are in the folder that the nightly DAG reads, in the DAG's time zone."""
    began = command._last_interval(datetime.fromisoformat("2026-07-01T00:30+00:00"))
    assert f"{began:%Y-%m-%d %H:%M}" == "2026-06-30 02:00"


def test_a_scan_for_the_dag_of_new_scans(tmp_path: Path) -> None:
    """The bucket that example_new_scans lists has a folder with the smallest file."""
    small, large = tmp_path / "small.e57", tmp_path / "large.e57"
    small.write_bytes(b"1")
    large.write_bytes(b"22")
    with LocalS3(tmp_path / "s3") as s3:
        command._fill(s3, [large, small], datetime(2026, 1, 1, tzinfo=UTC))
        listed = s3.client().list_objects_v2(Bucket="new-scans")["Contents"]
    assert [(item["Key"], item["Size"]) for item in listed] == [("bridge/small.e57", 1)]
