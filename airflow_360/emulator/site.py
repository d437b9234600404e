"""The objects that the connections of one emulator share, and the records of their requests.

Separate because tests read the records and handlers write them, and neither should depend on the other.
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
    """The record of one request to the API and its result.

    :param method: the HTTP method
    :param path: the path below ``/api/v1``, percent-decoded
    :param at: the time of arrival, by the emulator's clock
    :param key_ok: whether its key was accepted
    :param start: (PUT) the position of its first byte; 0 for a whole file, None if the header was invalid
    :param received_before: (PUT) the file's high-water mark when it arrived
    :param body_bytes: the bytes of its body that were read
    :param status: the status of the reply; None if no reply was sent
    :param fault: the kind of the fault that hit it; with a loss as well, both kinds with a ``+`` between them
    :param lost_bytes: the bytes of its file that the server lost with it
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
    """The objects that all connections share.

    :param store: the rules
    :param limiter: the rate limits
    :param faults: the fault script
    :param clock: returns the time in seconds
    :param log: called with one line per request to the API
    :param max_body_bytes: the longest body that the proxy accepts
    :param proxy_closes: whether the proxy refuses without reading the body
    :param max_exchanges: how many of the last requests are kept, None for all
    :param keys: the valid keys with their scopes; None accepts any key, with both scopes
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
        """Record a request, and drop the oldest ones above the limit."""
        self.exchanges.append(exchange)
        if self.max_exchanges is not None:
            del self.exchanges[: -self.max_exchanges or None]
