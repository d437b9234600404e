"""Storage for values that all runs share and that survive a clear.

Airflow 3.3 and newer save them with an asset, older versions as Variables. Separate because two modules use
it: the history of processed scans, and the records of project creation. Only the task's main thread may use
it.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Asset, Variable

from airflow_360.version_compat import AIRFLOW_VERSION

__all__ = ["AirflowVariables", "lasting_inlets", "lasting_stores"]

#: The asset whose state holds the keys. Nothing updates it, so no DAG is scheduled by it.
ASSET_NAME = "airflow_360_scans"


class AirflowVariables:
    """Airflow's variables with the methods of an asset's state.

    :param description: the description of each variable in Airflow's list.
    """

    def __init__(self, description: str) -> None:
        self._description = description

    def get(self, key: str) -> Any:
        """Return a value, or None."""
        return Variable.get(key, None, True)  # by position: the default's name differs between versions

    def set(self, key: str, value: Any) -> None:
        """Save a value."""
        Variable.set(key, value, description=self._description, serialize_json=True)

    def delete(self, key: str) -> None:
        """Delete a value if it exists."""
        Variable.delete(key)


def lasting_inlets() -> list[Any]:
    """Return the asset that a task must have among its inlets to use its state; none before Airflow 3.3."""
    if AIRFLOW_VERSION < (3, 3):
        return []
    return [Asset(ASSET_NAME)]


def lasting_stores(context: Any, description: str) -> list[Any]:
    """Return the stores to read from; new values are written to the first.

    :param context: the task's context.
    :param description: the description of a value in Airflow's list of variables.
    """
    assets = context.get("asset_state_store") or {}
    kept = [assets[asset] for asset in lasting_inlets() if assets]
    return [*kept, AirflowVariables(description)]
