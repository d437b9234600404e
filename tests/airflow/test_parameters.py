"""Parameters: the values that are refused while a DAG is parsed, and the accepted kinds of paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath, task

from airflow_360.emulator import Emulator
from airflow_360.hooks.parameters import path_text
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import (
    CreateUploadSessionOperator,
    ListFilesOperator,
    ListScansOperator,
    UploadFileOperator,
    UploadFilesOperator,
)
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import context

TEMPLATE = "{{ params.choice }}"
#: Each parameter with its operators.
CHOICES: list[tuple[str, str, Callable[..., Any]]] = [
    ("names", "path", lambda **more: ListFilesOperator(task_id="t", path="/", **more)),
    ("names", "basename", lambda **more: UploadFilesOperator(task_id="t", upload_id="x", path="/", **more)),
    ("on_empty", "skip", lambda **more: ListFilesOperator(task_id="t", path="/", **more)),
    ("on_empty", "fail", lambda **more: ListScansOperator(task_id="t", path="/", **more)),
    ("on_empty", "skip", lambda **more: CreateUploadSessionOperator(task_id="t", path="/", **more)),
    ("on_empty", "skip", lambda **more: UploadFilesOperator(task_id="t", upload_id="x", path="/", **more)),
    ("privacy_mode", "link", lambda **more: CreateProjectOperator(task_id="t", upload_id="x", **more)),
]
IDS = [f"{name} {number}" for number, (name, _, _) in enumerate(CHOICES)]
KINDS: list[Callable[[str], Any]] = [str, Path, lambda path: ObjectStoragePath(f"file://{path}")]
KIND_IDS = ["text", "Path", "ObjectStoragePath"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scan" / "sub").mkdir(parents=True)
    (tmp_path / "scan" / "a.e57").write_bytes(b"a")
    (tmp_path / "scan" / "sub" / "b.e57").write_bytes(b"bb")
    return tmp_path


@pytest.fixture
def upload_id(emulator: Emulator) -> str:
    return CreateUploadSessionOperator(task_id="session").execute(context())


class TestWrongLiterals:
    @pytest.mark.parametrize(("name", "right", "make"), CHOICES, ids=IDS)
    @pytest.mark.parametrize("wrong", ["Skipp", "", None, 5, True], ids=repr)
    def test_refused_while_the_dag_is_parsed(
        self, name: str, right: str, make: Callable[..., Any], wrong: Any
    ) -> None:
        """A wrong literal is refused before any byte is sent, with the parameter and its allowed values."""
        with pytest.raises(ValueError, match=rf"{name} must be .*{right}.*, not {wrong!r}"):
            make(**{name: wrong})

    @pytest.mark.parametrize(("name", "right", "make"), CHOICES, ids=IDS)
    def test_templates_and_right_values_pass(self, name: str, right: str, make: Callable[..., Any]) -> None:
        """The value of a template is not known while the DAG is parsed."""
        assert getattr(make(**{name: TEMPLATE}), name) == TEMPLATE
        assert getattr(make(**{name: right}), name) == right
        assert name in make().template_fields

    @pytest.mark.parametrize(("name", "right", "make"), CHOICES, ids=IDS)
    def test_a_template_that_gives_a_wrong_value_fails_the_task(
        self, name: str, right: str, make: Callable[..., Any]
    ) -> None:
        """A wrong value from a template fails permanently, with the parameter and its allowed values."""
        operator = make(**{name: TEMPLATE})
        setattr(operator, name, "wrong")  # as it is after rendering
        with pytest.raises(AirflowFailException, match=rf"{name} must be .*{right}.*, not 'wrong'"):
            operator.execute(context())

    def test_output_of_a_task_passes(self) -> None:
        """The output of another task is no literal."""

        @task
        def choose() -> str:
            return "link"

        with DAG("d", schedule=None):
            project = CreateProjectOperator(task_id="t", upload_id="x", privacy_mode=choose())  # type: ignore[arg-type]
        assert project.upstream_task_ids == {"choose"}

    @pytest.mark.parametrize(
        "wrong", [{"privacy_mode": "secret"}, {"names": "folder"}, {"on_empty": "ignore"}], ids=str
    )
    @pytest.mark.parametrize("mapped", [False, True], ids=["called", "mapped"])
    def test_in_a_task_group(self, wrong: dict[str, str], mapped: bool) -> None:
        """`scan_to_project` refuses a wrong literal while the DAG is parsed, also if it is mapped."""
        (name,) = wrong
        make: Any = scan_to_project
        if mapped:
            make = lambda path, **more: scan_to_project.partial(**more).expand(path=[path])  # noqa: E731
        with DAG("d", schedule=None), pytest.raises(ValueError, match=f"{name} must be"):
            make("/a", **wrong)


class TestPaths:
    @pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
    def test_every_operator_takes_every_kind_of_path(
        self, emulator: Emulator, upload_id: str, folder: Path, kind: Any
    ) -> None:
        """Every operator takes a path as a text, as a `Path` and as an `ObjectStoragePath`."""
        scan = kind(str(folder / "scan"))
        entries = ListFilesOperator(task_id="t", path=scan).execute(context())
        assert [entry["filename"] for entry in entries] == ["a.e57", "sub_b.e57"]
        (listed,) = ListScansOperator(task_id="t", path=kind(str(folder))).execute(context())
        assert listed.endswith(f"{folder}/scan")
        assert CreateUploadSessionOperator(task_id="t", path=scan).execute(context())
        file = kind(str(folder / "scan" / "a.e57"))
        sent = UploadFileOperator(task_id="t", upload_id=upload_id, path=file).execute(context())
        assert (sent["filename"], sent["path"]) == ("a.e57", path_text(file))
        assert isinstance(sent["path"], str)
        for given in ({"path": scan}, {"paths": [scan]}):
            whole = UploadFilesOperator(
                task_id="t", upload_id=upload_id, names="basename", inspect="off", **given
            )
            assert whole.execute(context()) == {"files": 2, "bytes": 3}
        project = CreateProjectOperator(task_id="t", upload_id=upload_id, path=scan)
        name = project.execute(context())
        assert emulator.store.projects[name].options["title"] == "scan"

    @pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
    def test_the_hook_takes_every_kind_of_path(self, upload_id: str, folder: Path, kind: Any) -> None:
        """The hook takes the same paths, for use inside a `@task`."""
        hook, scan, file = ThreeSixtyHook(), kind(str(folder / "scan")), kind(str(folder / "scan/a.e57"))
        assert len(hook.paths.list_files(scan)) == 2
        assert hook.paths.has_files(scan)
        assert len(hook.paths.list_scans(kind(str(folder)))) == 1
        assert hook.paths.open_source(file).size == 1
        assert hook.upload(upload_id, file)["path"] == path_text(file)

    def test_the_hook_keeps_folders_apart(self, emulator: Emulator, upload_id: str, folder: Path) -> None:
        """By default the hook includes subfolders too, and makes names from paths, as the operators do."""
        hook = ThreeSixtyHook()
        assert hook.uploads.files(upload_id, hook.paths.list_files(folder / "scan"))["files"] == 2
        assert set(emulator.store.sessions[upload_id].files) == {"a.e57", "sub_b.e57"}

    @pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
    def test_every_kind_of_path_can_be_mapped_over(self, emulator: Emulator, folder: Path, kind: Any) -> None:
        """Paths of every kind can be mapped over, and the DAG can be stored."""
        paths = [kind(str(folder / "scan" / "a.e57")), kind(str(folder / "scan" / "sub" / "b.e57"))]
        with DAG("d", schedule=None) as dag:
            mapped = UploadFileOperator.partial(task_id="u", upload_id="x").expand(path=paths)
            ListFilesOperator.partial(task_id="l", path=paths[0]).expand(pattern=["*.e57"])
            scan_to_project.expand(path=paths)
        unmapped: Any = mapped.unmap({"path": paths[0]})
        assert unmapped.path == path_text(paths[0])
        assert "a.e57" in serialized(dag)

    @pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
    def test_values_that_arrive_with_the_run(self, folder: Path, kind: Any) -> None:
        """A path from another task, or from a mapped task group, is a text once it is rendered."""
        with DAG("d", schedule=None):
            operator = UploadFilesOperator(task_id="u", upload_id="x", path="{{ ds }}")
            several = UploadFilesOperator(task_id="v", upload_id="x", paths=["{{ ds }}"])
        for tested, name, value in (
            (operator, "path", kind(str(folder))),
            (several, "paths", [kind(str(folder))]),
        ):
            setattr(tested, name, Resolved(value))
            tested._do_render_template_fields(tested, (name,), {"ds": ""}, jinja2.Environment(), set())
            assert getattr(tested, name) == path_text(value)

    def test_a_template_in_a_path(self) -> None:
        """A `Path` may contain a template, as a text may."""
        with DAG("d", schedule=None):
            operator = ListFilesOperator(task_id="l", path=Path("/scans") / "{{ ds }}")
        operator._do_render_template_fields(
            operator, operator.template_fields, {"ds": "2026-01-01"}, jinja2.Environment(), set()
        )
        assert operator.path == "/scans/2026-01-01"

    def test_the_connection_of_a_path(self) -> None:
        """The AWS connection that an `ObjectStoragePath` names stays part of it, on every Airflow."""
        assert path_text(ObjectStoragePath("s3://my_aws@scans/a/b.e57")) == "s3://my_aws@scans/a/b.e57"

    @pytest.mark.parametrize("value", [None, 5, {"a": 1}], ids=repr)
    def test_what_is_no_path(self, value: Any) -> None:
        """A value that is not a path stays unchanged, for the error messages."""
        assert path_text(value) == value


class TestModified:
    def entry(self, folder: Path) -> dict[str, Any]:
        path = folder / "scan" / "a.e57"
        (entry,) = ListFilesOperator(task_id="l", path=str(path)).execute(context())
        return entry

    @pytest.mark.parametrize("as_given", [float, str], ids=["number", "from a template"])
    def test_the_same_file(self, upload_id: str, folder: Path, as_given: Any) -> None:
        """A file with the listed modification time is uploaded; the time may be a text."""
        entry = self.entry(folder)
        entry["modified"] = as_given(entry["modified"])
        UploadFileOperator(task_id="u", upload_id=upload_id, **entry).execute(context())

    @pytest.mark.parametrize("unknown", [None, "", "None"], ids=repr)
    def test_an_unknown_time_is_not_compared(self, upload_id: str, folder: Path, unknown: Any) -> None:
        """A time that the store does not know is not compared."""
        entry = {**self.entry(folder), "modified": unknown, "etag": unknown}
        UploadFileOperator(task_id="u", upload_id=upload_id, **entry).execute(context())

    def test_a_file_of_another_time(self, emulator: Emulator, upload_id: str, folder: Path) -> None:
        """A file that was rewritten with the same size since the listing is refused before a byte is sent."""
        entry = self.entry(folder)
        os.utime(folder / "scan" / "a.e57", (1_700_000_000, 1_700_000_000))
        with pytest.raises(AirflowFailException, match=r"time .* and has 2023-11-14 22:13:20\+00:00 now"):
            UploadFileOperator(task_id="u", upload_id=upload_id, **entry).execute(context())
        assert [exchange.method for exchange in emulator.exchanges] == ["POST"]

    def test_an_invalid_time_names_the_parameter(self, upload_id: str, folder: Path) -> None:
        """A time that is no number is an error that names the parameter."""
        entry = {**self.entry(folder), "modified": "yesterday"}
        with pytest.raises(AirflowFailException, match="modified must be seconds since the epoch"):
            UploadFileOperator(task_id="u", upload_id=upload_id, **entry).execute(context())


try:
    from airflow.utils.mixins import ResolveMixin  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # since Airflow 3
    ResolveMixin = object  # type: ignore[assignment,misc,unused-ignore]


class Resolved(ResolveMixin):  # type: ignore[misc,unused-ignore]
    """A placeholder for a value that Airflow only knows at run time."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def resolve(self, context: Any, *args: Any, **more: Any) -> Any:
        return self._value

    def iter_references(self) -> Any:
        return iter(())


def serialized(dag: DAG) -> str:
    """Return a DAG as Airflow stores it."""
    from airflow.serialization import serialized_objects

    # Its name before Airflow 3.2 was the second one.
    names = ("DagSerialization", "SerializedDAG")
    kind: Any = next(filter(None, (getattr(serialized_objects, name, None) for name in names)))
    return str(kind.to_dict(dag))
