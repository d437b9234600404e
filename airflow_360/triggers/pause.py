"""Pause a task in the triggerer, for example until a rate limit is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_360.projects.times import pause_left

__all__ = ["PauseTrigger"]


class PauseTrigger(BaseTrigger):
    """A trigger that fires after some seconds.

    The pause ends on time even if the triggerer is restarted again and again. A restarted triggerer waits for
    at least 30 seconds, or for the whole pause if it is shorter. The clocks of worker and triggerer may
    differ by up to a minute.

    :param seconds: the length of the pause. If ``started`` is given, it is prolonged to 10 seconds: see
       ``after_deferral`` of :class:`~airflow_360.projects.times.WaitTimes`.
    :param started: when the pause began, as the worker's ``time.time()``. Without it, a triggerer that is
       restarted waits for the whole pause again.
    """

    def __init__(self, seconds: float, started: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds
        self.started = started

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"seconds": self.seconds, "started": self.started},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the pause is over."""
        await asyncio.sleep(pause_left(self.seconds, self.started, time.time()))
        yield TriggerEvent({"status": "over"})
