"""The fault script as data: no emulator runs here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_360.emulator.faults import Fault, FaultError, FaultScript, parse

PUT = {"on": "PUT /uploads/*/scan.e57", "do": "lost_reply"}


def test_parse() -> None:
    """A script is a JSON list, each entry a fault."""
    entry = {"on": "* /projects/*", "do": "status", "status": 502, "times": 3, "body": "<h1>Bad gateway</h1>"}
    assert parse(json.dumps([entry])) == [
        Fault("* /projects/*", "status", status=502, times=3, body="<h1>Bad gateway</h1>")
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (1, "fault 1: must be an object, not 1"),
        ({"do": "reset"}, "fault 1: 'on' is missing"),
        ({"on": "GET /uploads"}, "fault 1: 'do' is missing"),
        ({**PUT, "do": "explode"}, "fault 1: 'do' must be one of status, rate_limit, reset"),
        ({**PUT, "do": []}, "fault 1: 'do' must be one of"),
        ({**PUT, "on": "uploads"}, "fault 1: 'on' must be a method and a path"),
        ({**PUT, "on": 5}, "fault 1: 'on' must be a method and a path"),
        ({**PUT, "seconds": 1}, "fault 1: 'seconds' is not a field of the kind 'lost_reply'"),
        ({**PUT, "tiems": 1}, "fault 1: 'tiems' is not a field of the kind 'lost_reply'"),
        ({**PUT, "times": 0}, "fault 1: 'times' must be a whole number, 1 or more, not 0"),
        ({**PUT, "skip": True}, "fault 1: 'skip' must be a whole number, 0 or more, not True"),
        ({**PUT, "do": "status", "status": 99}, "fault 1: 'status' must be a whole number from 200 to 599"),
        ({**PUT, "do": "status", "when": "later"}, "fault 1: 'when' must be 'before_body' or 'after_body'"),
        ({**PUT, "do": "status", "headers": {"A": 1}}, "fault 1: 'headers' must be an object of strings"),
        (
            {**PUT, "do": "status", "headers": {"A": "\r\n"}},
            "fault 1: 'headers' must be an object of strings",
        ),
        ({**PUT, "do": "status", "body": 1}, "fault 1: 'body' must be an object, a list or a string"),
        ({**PUT, "do": "status", "close": 1}, "fault 1: 'close' must be true or false"),
        ({**PUT, "do": "reset", "after_bytes": -1}, "fault 1: 'after_bytes' must be a whole number of bytes"),
        ({**PUT, "do": "reset", "keep": "yes"}, "fault 1: 'keep' must be true or false"),
        ({**PUT, "do": "stall", "seconds": "1"}, "fault 1: 'seconds' must be a number of seconds"),
        ({**PUT, "do": "hang_up", "rst": 1}, "fault 1: 'rst' must be true or false"),
        ({**PUT, "do": "garbage", "body": None}, "fault 1: 'body' must be an object, a list or a string"),
        ({**PUT, "do": "alter", "fields": [1]}, "fault 1: 'fields' must be an object"),
        ({**PUT, "do": "lose", "keep_bytes": -1}, "fault 1: 'keep_bytes' must be a whole number of bytes"),
        ({**PUT, "do": "lose", "forget": "yes"}, "fault 1: 'forget' must be true or false"),
        ({**PUT, "do": "rate_limit", "retry_after": 1.5}, "fault 1: 'retry_after' must be a whole number"),
    ],
)
def test_errors_name_entry_and_field(entry: Any, message: str) -> None:
    """An entry that is wrong is named with its number and its field."""
    with pytest.raises(FaultError) as caught:
        parse(json.dumps([entry]))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("text", "message"), [("[", "is not JSON"), ("{}", "must be a list")])
def test_not_a_script(text: str, message: str) -> None:
    """A file without a JSON list is refused with a sentence."""
    with pytest.raises(FaultError, match=message):
        parse(text)


def test_fault_objects_are_checked_too() -> None:
    """A fault made in Python is checked as one from a file is, and numbered after those before it."""
    script = FaultScript([PUT])
    with pytest.raises(FaultError, match="fault 3: 'times' must be"):
        script.add(PUT, Fault("GET /uploads", "stall", times=-1))
    assert len(script.unused()) == 1


@pytest.mark.parametrize(
    ("on", "matches"),
    [
        ("PUT /uploads/*/scan.e57", True),
        ("PUT /uploads/*/*.e57", True),
        ("* /uploads/*/*", True),
        ("PUT /uploads/*", False),
        ("GET /uploads/*/scan.e57", False),
        ("PUT /uploads/*/scan.jpg", False),
        ("* /**", True),
        ("PUT /uploads/*/scan.e57/**", True),
        ("PUT /uploads/*/scan.e57/*/**", False),
        ("PUT /projects/**", False),
    ],
)
def test_matching(on: str, matches: bool) -> None:
    """A pattern stands for a method and each part of a path on its own."""
    assert Fault(on, "lost_reply").matches("PUT", "/uploads/AAAAAAAA/scan.e57", 10, False) is matches


def test_order_skip_and_times() -> None:
    """Faults are used in their order, each after its skipped requests and as often as it says."""
    first = Fault("PUT /uploads/*/*", "lost_reply", skip=1)
    second = Fault("PUT /uploads/*/*", "stall", times=2)
    script = FaultScript([first, second])
    taken = [script.take("PUT", "/uploads/A/a.e57")[0] for _ in range(5)]
    assert [fault and fault.do for fault in taken] == ["stall", "lost_reply", "stall", None, None]


def test_reset_needs_the_bytes() -> None:
    """A reset after a number of bytes waits for a request with that many."""
    script = FaultScript([{**PUT, "do": "reset", "after_bytes": 10}])
    assert script.take("PUT", "/uploads/A/scan.e57", 9) == (None, None)
    assert script.take("PUT", "/uploads/A/scan.e57", 10)[0] is not None


def test_hang_up_needs_a_reused_connection() -> None:
    """A fault of idle connections waits for one."""
    script = FaultScript([{**PUT, "do": "hang_up"}])
    assert script.take("PUT", "/uploads/A/scan.e57", reused=False) == (None, None)
    assert script.take("PUT", "/uploads/A/scan.e57", reused=True)[0] is not None


def test_a_loss_goes_beside_another_fault() -> None:
    """One request can be hit by one fault and one loss, in any order in the script."""
    loss = {**PUT, "do": "lose", "times": 2}
    script = FaultScript([loss, PUT, PUT, {**PUT, "do": "stall"}])
    taken = [script.take("PUT", "/uploads/A/scan.e57") for _ in range(4)]
    assert [tuple(fault and fault.do for fault in pair) for pair in taken] == [
        ("lost_reply", "lose"),
        ("lost_reply", "lose"),
        ("stall", None),
        (None, None),
    ]


def test_unused() -> None:
    """Faults that were not used, or had no effect, are reported with the remaining times."""
    script = FaultScript([{**PUT, "times": 3}, PUT])
    taken = [script.take("PUT", "/uploads/A/scan.e57")[0] for _ in range(3)]
    assert taken[0] is not None
    script.happened(taken[0])
    assert [(fault.do, fault.times) for fault in script.unused()] == [("lost_reply", 2), ("lost_reply", 1)]
    assert script.counts == {"lost_reply": 1}
