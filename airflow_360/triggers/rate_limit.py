"""Wait in the triggerer until a rate limit is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

__all__ = ["RateLimitTrigger"]


class RateLimitTrigger(BaseTrigger):
    """Fire when a rate limit is over.

    :param seconds: how long that is. A duration and no moment: the triggerer's clock need not be the
        worker's. A triggerer that is restarted waits anew.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when it is time."""
        await asyncio.sleep(self.seconds)
        yield TriggerEvent({"status": "over"})
