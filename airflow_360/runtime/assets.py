"""Asset events for a ready project, for the DAGs that wait for one.

One module for the operator and the sensor, in all their modes. If an asset's name looks like a URL, Airflow
loads all providers to find a handler, which costs every task half a second or more. The names here avoid
this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_360.runtime.results import count_files

if TYPE_CHECKING:
    from airflow_360.api.records import Project

__all__ = ["add_asset_events", "asset_name"]


def add_asset_events(
    context: Any, outlets: Iterable[Any], project: Project, page: str, uploads: Any = None
) -> None:
    """Add a ready project to the events of a task's assets.

    Airflow sends the events when the task succeeds. An asset's event gets the facts as its ``extra``; an
    alias gets an event of the project's own asset. Other outlets are not changed.

    :param context: the task's context.
    :param outlets: the task's outlets.
    :param project: the ready project.
    :param page: the URL of its page.
    :param uploads: the results of the upload tasks, for the number of files; None if they are not known.
    """
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            event = context["outlet_events"][outlet]
            event.add(Asset(asset_name(page)), extra=_facts(project, page, uploads))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(_facts(project, page, uploads))


def asset_name(page: str) -> str:
    """Return the name of a project's own asset: the URL of its page with the scheme ``x-360``.

    :param page: the URL of its page.
    """
    return f"x-360://{page.partition('://')[2]}"  # Airflow looks up no handler for x- schemes


def _facts(project: Project, page: str, uploads: Any) -> dict[str, Any]:
    return {
        "name": project.name,
        "title": project.record.get("title"),
        "url": page,
        "size": project.record.get("size"),
        "files": count_files(uploads),
        "errors": project.errors,
    }
