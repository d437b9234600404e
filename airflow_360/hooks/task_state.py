"""What a task remembers between its attempts, where Airflow can keep it (from 3.3 on).

Keyed by what it is about, never by map index: a cleared listing may put another file at the same index.
Only the task's main thread may use it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["TaskState"]


class TaskState:
    """Keep small JSON values of one task across retries, clears and deferrals.

    :param context: the task's context. Without a task state store nothing is kept, and nothing fails.
    """

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")

    @property
    def available(self) -> bool:
        """Tell whether this Airflow keeps anything."""
        return self._store is not None

    def get(self, *about: str) -> Any:
        """Return what was kept, or None.

        :param about: what it is about, such as ``"project", upload_id``.
        """
        return self._store.get(_key(about)) if self._store is not None else None

    def set(self, *about: str, value: Any) -> None:
        """Keep a value.

        :param about: what it is about.
        :param value: plain JSON, and not None.
        """
        if self._store is not None:
            self._store.set(_key(about), value)


def _key(about: tuple[str, ...]) -> str:
    return "360 " + " ".join(about)
