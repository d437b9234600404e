"""What the connections of one emulator share, and the record that they leave behind.

This file is separate because tests read it and handlers write it, and neither should know the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from airflow_360.emulator.faults import FaultScript
from airflow_360.emulator.limits import RateLimiter
from airflow_360.emulator.store import Store

__all__ = ["Exchange", "Site"]


@dataclass
class Exchange:
    """Record one request to the API and what became of it.

    :param method: the HTTP method
    :param path: the path below ``/api/v1``, percent-decoded
    :param at: when it arrived, by the emulator's clock
    :param key_ok: whether its key was accepted
    :param start: (PUT) where its first byte goes; 0 for a whole file, None where the header made no sense
    :param received_before: (PUT) the file's high-water mark when it arrived
    :param body_bytes: how many bytes of its body were read
    :param status: the status of the reply; None where none was sent
    :param fault: the kind of the fault that hit it; with a ``+`` between them, where a loss went beside it
    :param lost_bytes: how many bytes of its file the server lost with it
    """

    method: str
    path: str
    at: float
    key_ok: bool = False
    start: int | None = None
    received_before: int | None = None
    body_bytes: int = 0
    status: int | None = None
    fault: str | None = None
    lost_bytes: int = 0


@dataclass(eq=False)
class Site:
    """Hold what all connections share.

    :param store: the rules
    :param limiter: the rate limits
    :param faults: the fault script
    :param clock: returns the time in seconds
    :param log: takes one line per request to the API
    :param max_body_bytes: the longest body that the proxy lets through
    :param proxy_closes: whether the proxy refuses without reading the body
    :param max_exchanges: how many of the last requests are remembered, None for all
    :param keys: the keys that there are, with their scopes; None takes any, with both
    :param exchanges: one record per request to the API, in order of arrival
    :param closing: set when the emulator is about to end every connection
    """

    store: Store
    limiter: RateLimiter
    faults: FaultScript
    clock: Callable[[], float]
    log: Callable[[str], None]
    max_body_bytes: int | None
    proxy_closes: bool
    max_exchanges: int | None
    keys: Mapping[str, Collection[str]] | None
    exchanges: list[Exchange] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def record(self, exchange: Exchange) -> None:
        """Remember a request, and forget the oldest ones beyond the bound."""
        self.exchanges.append(exchange)
        if self.max_exchanges is not None:
            del self.exchanges[: -self.max_exchanges or None]
