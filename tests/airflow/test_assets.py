"""The events of assets for a ready project."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias, TaskDeferred

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.runtime.assets import asset_name
from airflow_360.sensors.project import ProjectReadySensor
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import AIRFLOW, StateStore, context
from tests.airflow.test_dags import DAGS, load

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors

ASSET, ALIAS = Asset("360_projects"), AssetAlias("360_projects_of_today")
UPLOADS = [{"files": 2, "bytes": 30}, {"filename": "a.e57", "path": "/a.e57", "size": 3}]


def with_events(**more: Any) -> Any:
    return {**context(**more), "outlet_events": OutletEventAccessors()}


def events_of(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the asset and the extra of each event in a context."""
    asset, alias = given["outlet_events"][ASSET], given["outlet_events"][ALIAS]
    if AIRFLOW < (3, 0):
        sent = [(event["dest_dataset_uri"], event["extra"]) for event in alias.dataset_alias_events]
    else:
        sent = [(event.dest_asset_key.uri, event.extra) for event in alias.asset_alias_events]
    return [(ASSET.uri, asset.extra), *sent]


def expected(emulator: Emulator, name: str, files: int | None) -> list[tuple[str, dict[str, Any]]]:
    url = f"{emulator.url}/projects/{name}"
    facts = {"name": name, "title": "Bridge", "url": url, "size": 0, "files": files, "errors": 0}
    return [(ASSET.uri, facts), (f"x-360://{url.removeprefix('http://')}", facts)]


def make(**more: Any) -> CreateProjectOperator:
    return CreateProjectOperator(
        task_id="p",
        download_link="https://example.com/secret-of-a-link.e57",
        title="Bridge",
        outlets=[ASSET, ALIAS],
        **more,
    )


@pytest.fixture
def project(emulator: Emulator) -> str:
    return make().execute(context())


RESCHEDULE = pytest.param(
    {"mode": "reschedule"}, marks=pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 asks its database")
)


@pytest.mark.parametrize("how", [{"mode": "poke"}, RESCHEDULE, {"deferrable": True}], ids=str)
def test_the_event_of_a_sensor_names_the_project(
    emulator: Emulator, project: str, how: dict[str, Any]
) -> None:
    """A sensor's event names the ready project, in every mode, for an asset and for an alias."""
    given = with_events()
    ProjectReadySensor(
        task_id="r", project_name=project, uploads=UPLOADS, outlets=[ASSET, ALIAS], **how
    ).execute(given)
    assert events_of(given) == expected(emulator, project, 3)


def test_sensor_after_its_wait(emulator: Emulator, project: str) -> None:
    """A sensor that waited in the triggerer sends the same event; without uploads it counts no files."""
    given = with_events()
    event = {"status": "ready", "record": emulator.store.get_project(project)}
    ProjectReadySensor(task_id="r", project_name=project, outlets=[ASSET, ALIAS]).execute_complete(
        given, event
    )
    assert events_of(given) == expected(emulator, project, None)


def test_operator_that_waits(emulator: Emulator) -> None:
    """The operator sends the event for a project that is ready immediately, and after a wait."""
    given = with_events(store=StateStore())
    name = make(wait_for_completion=True).execute(given)
    assert events_of(given) == expected(emulator, name, None)
    emulator.store.processing_seconds = 60
    with pytest.raises(TaskDeferred):
        make(wait_for_completion=True, deferrable=True).execute(given := with_events())
    assert events_of(given) == [(ASSET.uri, {})]
    emulator.store.processing_seconds = 0
    event = {"status": "ready", "record": emulator.store.get_project(name)}
    make(wait_for_completion=True).execute_complete(given, event)
    assert events_of(given) == expected(emulator, name, None)


def test_operator_that_does_not_wait(emulator: Emulator) -> None:
    """A project that was only created is not called ready."""
    make().execute(given := with_events())
    assert events_of(given) == [(ASSET.uri, {})]


def test_no_link_in_an_event(emulator: Emulator) -> None:
    """The link from which a project was created is in no event."""
    make(wait_for_completion=True).execute(given := with_events())
    assert "secret" not in str(events_of(given))


def test_other_outlets_are_left_alone(emulator: Emulator, project: str) -> None:
    """A task without an asset needs no events in its context."""
    ProjectReadySensor(task_id="r", project_name=project, outlets=["a file"], mode="poke").execute(context())


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="measured on 3.3")
@pytest.mark.parametrize("uri", [ASSET.uri, asset_name("https://scans.example.com:8443/projects/x")])
def test_no_provider_is_searched_for(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Airflow does not load its providers for the assets of the package and its examples."""
    from airflow.sdk.definitions import asset

    def search(scheme: str) -> None:
        raise AssertionError(f"Airflow searches its providers for {scheme}.")

    monkeypatch.setattr(asset, "_get_uri_normalizer", search)
    assert Asset(uri).uri == uri
    with pytest.raises(AssertionError, match="https"):
        Asset("https://example.com/projects/x")


def test_the_task_group_passes_its_outlets_on() -> None:
    """The task group passes its outlets to the sensor, and the upload results too."""
    from airflow.providers.common.compat.sdk import DAG

    with DAG("d", schedule=None) as dag:
        scan_to_project(path="/scans/bridge", outlets=[ASSET])
    ready: Any = dag.task_dict["scan_to_project.ready"]
    assert ready.outlets == [ASSET]
    assert ready.uploads.operator.task_id == "scan_to_project.upload"


@pytest.mark.parametrize("word", ["triggering_asset_events", "triggering_dataset_events"])
def test_the_example_reads_what_an_event_says(word: str) -> None:
    """The DAG that the asset schedules records each event's project, and nothing if a person starts it."""
    example: Any = load(DAGS / "example_new_scans.py").example_new_scans_catalog()
    enter = example.task_dict["enter"].python_callable
    extra = {"title": "Bridge", "files": 3, "errors": 0, "url": "https://example.com/projects/x"}
    event = SimpleNamespace(extra=extra)
    assert enter(**{word: {"360_projects": [event, event]}}) == [extra, extra]
    assert enter(**{word: {}}) == []
