"""What a task remembers between its attempts, where Airflow can keep it (from 3.3 on).

Keyed by what it is about, never by map index: a cleared listing may put another file at the same index.
Only the task's main thread may use it.
"""

from __future__ import annotations

import time
from typing import Any

__all__ = ["TaskState", "time_left"]


class TaskState:
    """Keep small JSON values of one task across retries, clears and deferrals.

    :param context: the task's context. Without a task state store nothing is kept, and nothing fails.
    """

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")
        #: Changes when a person clears the task, and not on a retry; part of what is begun anew by a clear.
        self.clears = str(getattr(context.get("ti"), "max_tries", 0))

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


def time_left(state: TaskState, project_name: str, timeout: float) -> float:
    """Return how many seconds of a wait are left, counted from its first attempt; a clear begins anew.

    :param state: what the task remembers.
    :param project_name: what it waits for.
    :param timeout: seconds in all.
    """
    since: float | None = state.get("waiting for", project_name, state.clears)
    if since is None:
        since = time.time()
        state.set("waiting for", project_name, state.clears, value=since)
    return max(1.0, since + timeout - time.time())


def _key(about: tuple[str, ...]) -> str:
    return "360 " + " ".join(about)
