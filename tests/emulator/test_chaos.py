"""Faults by chance."""

from __future__ import annotations

import http.client
from dataclasses import replace

from airflow_360.emulator import Chaos, Emulator
from airflow_360.emulator.chaos import MENU
from airflow_360.emulator.faults import _KINDS, Fault
from tests.emulator.raw import Raw

QUICK = [replace(fault, seconds=0) for fault in MENU]
PUT = ("PUT", "/uploads/A/a.e57", 100, True)


def drawn(chaos: Chaos, rounds: int = 400) -> list[tuple[Fault | None, Fault | None]]:
    return [chaos.take(*PUT) for _ in range(rounds)]


def test_the_menu_is_complete() -> None:
    """Every kind that there is can come by chance."""
    assert {fault.do for fault in MENU} == set(_KINDS)


def test_same_seed_same_faults() -> None:
    """The same seed gives the same faults in the same order, another seed gives others."""
    assert drawn(Chaos(1)) == drawn(Chaos(1)) != drawn(Chaos(2))


def test_rate() -> None:
    """The number of hit requests follows the rate, within chance; none at 0, and all at 1."""
    hits = {rate: sum(any(pair) for pair in drawn(Chaos(1, rate), 4000)) for rate in (0, 0.1, 1)}
    assert hits[0] == 0
    assert 320 < hits[0.1] < 480
    assert hits[1] == 4000


def test_only_what_fits() -> None:
    """A random fault fits the request: its method, its length, and whether its connection was reused."""
    faults = [f for pair in drawn(Chaos(1, 1), 4000) for f in pair if f]
    assert {fault.do for fault in faults} == set(_KINDS) - {"alter"}
    resets = {fault.after_bytes for fault in faults if fault.do == "reset"}
    assert (min(resets), max(resets)) == (0, 100)
    fresh = [Chaos(seed, 1).take("POST", "/uploads") for seed in range(500)]
    assert {fault.do for pair in fresh for fault in pair if fault} == set(_KINDS) - {
        "alter",
        "hang_up",
        "lose",
    }


def test_spare_and_script() -> None:
    """Spared requests are never hit, and the script's fault for a request comes first."""
    chaos = Chaos(1, 1, menu=[Fault("* /**", "lost_reply")], spare=["POST /projects"])
    chaos.add({"on": "PUT /**", "do": "stall"})
    assert chaos.take("POST", "/projects", 10) == (None, None)
    kinds = [fault and fault.do for fault, _ in drawn(chaos, 3)]
    assert kinds == ["stall", "lost_reply", "lost_reply"]
    assert len(chaos.unused()) == 1


def test_nothing_on_the_menu() -> None:
    """A request that nothing on the menu fits passes."""
    assert Chaos(1, 1, menu=[]).take("GET", "/projects") == (None, None)


def test_an_upload_gets_through() -> None:
    """With chaos, a client that asks and continues transfers every byte; the page is never hit."""
    chaos = Chaos(1, 0.6, menu=QUICK, spare=["POST /uploads"])
    data = bytes(range(256)) * 40
    with Emulator(chaos=chaos) as emulator, Raw(emulator) as raw:
        upload_ids = [raw.session() for _ in range(6)]
        for upload_id in upload_ids:
            path, complete = f"/uploads/{upload_id}/a.e57", False
            while not complete:
                try:
                    assert raw.send("GET", "/state.json").status == 200
                    asked = raw.call("GET", path)
                    start = asked.json["received"] if asked.status == 200 else 0
                    reply = raw.chunk(upload_id, "a.e57", data[start : start + 2000], start, len(data))
                    complete = reply.status == 200 and reply.json["complete"]
                except (http.client.HTTPException, OSError, ValueError, KeyError, TypeError):
                    raw.http.close()
            assert emulator.store.file_path(upload_id, "a.e57").read_bytes() == data
        assert emulator.violations == []
        assert emulator.faults.counts == chaos.counts
        assert sum(chaos.counts.values()) > 100
        hits = sum(exchange.fault is not None for exchange in emulator.exchanges)
        assert sum(chaos.counts.values()) <= hits
