"""Faults by chance, for tests that run long rather than through one story.

This file is separate because it throws dice, which the script does not: what it hands out are faults like any
others, and ``server.py`` does not know the difference.
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
"""Everything that a client can get over without a person; a file that is complete stays complete."""


class Chaos(FaultScript):
    """Hit requests by chance, where the script has nothing for them; the same order gives the same faults.

    :param seed: what the dice begin with
    :param rate: the probability that a request is hit
    :param menu: what may happen, each as probable as the others that match; ``skip`` and ``times`` do not
        count. How many bytes a ``reset`` takes in and a ``lose`` keeps is left to chance, up to the length of
        the request's body
    :param spare: patterns as in :class:`Fault` of requests that are left alone
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
        """Return what the script has for a request, or what chance has."""
        request = method, path, body_bytes, reused
        with self._lock:
            # As many dice for every request, so that one request more or less of a kind changes no other.
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
