"""The part that operators and the sensor share: their hook, and template fields that are rendered safely.

Separate because operators and sensors do not import each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from airflow_360.hooks.parameters import path_text
from airflow_360.hooks.three_sixty import ThreeSixtyHook

__all__ = ["UsesThreeSixty"]

#: Template fields that accept paths.
PATH_FIELDS = ("path", "paths", "download_from")


class UsesThreeSixty:
    """A mixin that gives an operator or a sensor its hook."""

    three_sixty_conn_id: str

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **more: Any
    ) -> None:
        """Render templates, except in mapped fields.

        Mapped values are data, like a file's name: a name that is rendered could read any connection. Airflow
        documents that mapped fields are not rendered, but 3.3 does render them.
        """
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[attr-defined]
        partial = getattr(task, "partial_kwargs", None)
        if partial is not None:
            template_fields = [field for field in template_fields if field in partial]
        super()._do_render_template_fields(parent, template_fields, *args, **more)  # type: ignore[misc]
        for field in PATH_FIELDS:
            if field in template_fields:  # an XCom, or a mapping of a task group, may contain a path
                setattr(parent, field, path_text(getattr(parent, field)))

    @cached_property
    def hook(self) -> ThreeSixtyHook:
        """Return the hook of this task's connection."""
        return ThreeSixtyHook(self.three_sixty_conn_id)
