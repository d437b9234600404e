from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_360.emulator import Emulator
from airflow_360.runtime import lasting_store

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # before 3.2
    from airflow.exceptions import AirflowRescheduleException

__all__ = ["AIRFLOW", "AirflowRescheduleException"]

AIRFLOW = tuple(int(part) for part in airflow_version.split(".")[:2])
CONNECTION = "AIRFLOW_CONN_THREE_SIXTY_DEFAULT"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator as the server of the default connection; all scripted faults must have happened."""
    with Emulator(processing_seconds=0) as emulator:
        connect(monkeypatch, host=emulator.url)
        yield emulator
        assert not emulator.faults.unused()
        assert not emulator.violations


def connect(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Set the fields of the default connection."""
    fields = {"conn_type": "three_sixty", "password": "sk_test_key", **fields}
    monkeypatch.setenv(CONNECTION, json.dumps(fields))


class TaskInstance:
    """Records the values that a task pushes."""

    def __init__(self, try_number: int = 1, max_tries: int = 2) -> None:
        self.try_number = try_number
        self.max_tries = max_tries
        self.pushed: dict[str, Any] = {}
        self.pulled: dict[tuple[str, str], Any] = {}

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int = -1) -> Any:
        return self.pulled.get((task_ids, key))

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_first_reschedule_date(self, context: Any) -> None:
        return None


class StateStore(dict[str, Any]):
    """Airflow's task state store, as far as it is used: JSON in, JSON out."""

    def set(self, key: str, value: Any) -> None:
        assert value is not None  # Airflow's raises a ValueError
        kept = json.loads(json.dumps(value))
        assert kept == value, "Airflow takes plain JSON only, and no tuple"
        self[key] = kept


class Lasting:
    """Airflow's storage that survives a clear: the state of an asset, or variables before 3.3.

    :param monkeypatch: replaces Airflow's variables with this store; without it they are not replaced.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.store = StateStore()
        if monkeypatch is not None:
            monkeypatch.setattr(lasting_store, "Variable", self)

    def assets(self) -> Any:
        return dict.fromkeys(lasting_store.lasting_inlets(), self.store)

    def get(self, key: str, default: Any = None, deserialize_json: bool = False) -> Any:
        return self.store.get(key, default)

    def set(self, key: str, value: Any, description: str = "", serialize_json: bool = False) -> None:
        self.store.set(key, value)

    def delete(self, key: str) -> None:
        self.store.pop(key, None)


def context(
    try_number: int = 1,
    store: StateStore | None = None,
    max_tries: int = 2,
    lasting: Lasting | None = None,
) -> Any:
    """Return a task's context; ``max_tries`` grows when a person clears the task."""
    assets = lasting.assets() if lasting else {}
    return {
        "ti": TaskInstance(try_number, max_tries),
        "task_state_store": store,
        "asset_state_store": assets,
    }
