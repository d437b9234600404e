"""Tell Airflow's assets that a project is ready, for the DAGs that wait for one.

One place for the operator and the sensor, in whichever way they waited. An address that looks like one to
Airflow makes it load all providers in search of a handler, half a second and more of every task; hence the
form of the names here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_360.hooks.results import count_files

if TYPE_CHECKING:
    from airflow_360.api.records import Project

__all__ = ["announce", "asset_name"]


def announce(context: Any, outlets: Iterable[Any], project: Project, page: str, uploads: Any = None) -> None:
    """Say in a task's asset events which project is ready.

    Airflow sends the events when the task succeeds. An asset's event gets the facts as its ``extra``; an
    alias gets an event of the project's own asset. Other outlets are left alone.

    :param context: the task's context.
    :param outlets: the task's outlets.
    :param project: the project, ready.
    :param page: the address of its page.
    :param uploads: what the upload tasks returned, for the number of files; None where it is not known.
    """
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            event = context["outlet_events"][outlet]
            event.add(Asset(asset_name(page)), extra=_facts(project, page, uploads))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(_facts(project, page, uploads))


def asset_name(page: str) -> str:
    """Return the name of a project's own asset: its page's address with the scheme ``x-360``.

    :param page: the address of its page.
    """
    return f"x-360://{page.partition('://')[2]}"  # Airflow looks for no handler of what begins with x-


def _facts(project: Project, page: str, uploads: Any) -> dict[str, Any]:
    return {
        "name": project.name,
        "title": project.record.get("title"),
        "url": page,
        "size": project.record.get("size"),
        "files": count_files(uploads),
        "errors": project.errors,
    }
