"""Random faults, for long tests instead of tests of one sequence.

Separate because this module uses random numbers and the fault script does not. Its faults are ordinary
faults; ``server.py`` does not know the difference.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from airflow_360.emulator.faults import Fault, FaultScript

__all__ = ["MENU", "Chaos"]

_ANY = "* /**"
_FILE = "* /uploads/*/*"
_BAD_GATEWAY = "<html><h1>502 Bad Gateway</h1></html>"
MENU = (
    Fault(_ANY, "status", status=500, body={"error": "internal_error"}),
    Fault(_ANY, "status", status=502, body=_BAD_GATEWAY),
    Fault(_ANY, "status", status=502, body=_BAD_GATEWAY, when="after_body"),
    Fault("PUT /uploads/*/*", "status", status=503, close=True),
    Fault(_ANY, "rate_limit"),
    Fault(_ANY, "reset"),
    Fault(_ANY, "hang_up"),
    Fault(_ANY, "hang_up", rst=True),
    Fault(_ANY, "lost_reply"),
    Fault(_ANY, "truncate"),
    Fault(_ANY, "drip", seconds=0.0001),
    Fault(_ANY, "garbage"),
    Fault(_ANY, "garbage", body={"ok": True}),
    Fault("GET /projects/*", "alter", fields={"status": 0}),
    Fault(_ANY, "stall", seconds=0.05),
    Fault(_ANY, "stall", seconds=0.05, when="before_body"),
    Fault(_FILE, "lose", spare_complete=True),
    Fault(_FILE, "lose", forget=True, spare_complete=True),
)
"""All faults from which a client can recover without a person; complete files stay complete."""


class Chaos(FaultScript):
    """A fault script with random faults for requests that the script does not hit.

    The same seed and the same order of requests give the same faults.

    :param seed: the seed of the random numbers
    :param rate: the probability that a request is hit
    :param menu: the possible faults; all that match the request have the same probability. ``skip`` and
        ``times`` are ignored. The bytes that a ``reset`` reads and a ``lose`` keeps are random, up to the
        length of the request's body
    :param spare: patterns, as in :class:`Fault`, of requests that are never hit
    """

    def __init__(
        self, seed: int, rate: float = 0.1, *, menu: Iterable[Fault] = MENU, spare: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._rate = rate
        self._menu = tuple(menu)
        self._spared = [Fault(on, "status") for on in spare]

    def take(
        self, method: str, path: str, body_bytes: int = 0, reused: bool = False
    ) -> tuple[Fault | None, Fault | None]:
        """Return the script's fault for a request, or a random one."""
        request = method, path, body_bytes, reused
        with self._lock:
            # Always draw three numbers, so that no kind of request shifts the numbers for the others.
            hit, choice, part = (self._random.random() for _ in range(3))
        scripted = super().take(*request)
        if hit >= self._rate or any(scripted) or any(spared.matches(*request) for spared in self._spared):
            return scripted
        dishes = [fault for fault in self._menu if fault.matches(*request)]
        if not dishes:
            return scripted
        fault = dishes[int(choice * len(dishes))]
        some_bytes = int(part * (body_bytes + 1))
        match fault.do:
            case "lose":
                return None, replace(fault, keep_bytes=some_bytes)
            case "reset":
                return replace(fault, after_bytes=some_bytes), None
        return fault, None
