"""What the connections of one emulator share, and the record that they leave behind.

This file is separate because tests read it and handlers write it, and neither should know the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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
    :param fault: the kind of the fault that hit it
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


@dataclass(eq=False)
class Site:
    """Hold what all connections share.

    :param store: the rules
    :param limiter: the rate limits
    :param faults: the fault script
    :param clock: returns the time in seconds
    :param log: takes one line per request to the API
    :param exchanges: one record per request to the API, in order of arrival
    :param closing: set when the emulator is about to end every connection
    """

    store: Store
    limiter: RateLimiter
    faults: FaultScript
    clock: Callable[[], float]
    log: Callable[[str], None]
    exchanges: list[Exchange] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
