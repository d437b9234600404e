"""Wait in the triggerer until a rate limit is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

__all__ = ["RateLimitTrigger"]


class RateLimitTrigger(BaseTrigger):
    """Fire when a rate limit is over.

    :param seconds: how long that is from now.
    :param until: the moment itself, in seconds since the epoch, so that a restart does not begin anew.
    """

    def __init__(self, seconds: float = 0.0, until: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = time.time() + seconds if until is None else until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when it is time."""
        while (left := self.until - time.time()) > 0:
            await asyncio.sleep(min(left, 60.0))
        yield TriggerEvent({"status": "over"})
