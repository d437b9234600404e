"""The rate limits of the contract's table."""

from __future__ import annotations

import pytest

from airflow_360.emulator import Emulator
from airflow_360.emulator.limits import RateLimiter
from tests.emulator.raw import Clock, Raw

TABLE = [
    ("create_upload_session", 30, 3600),
    ("put_file", 1200, 60),
    ("get_file_progress", 600, 60),
    ("list_files", 120, 60),
    ("delete_upload_session", 60, 60),
    ("create_project", 10, 3600),
    ("get_project", 60, 60),
]


@pytest.mark.parametrize(("endpoint", "limit", "window"), TABLE)
def test_table(clock: Clock, endpoint: str, limit: int, window: int) -> None:
    """Each endpoint allows the requests per window of the contract, counted in a sliding window."""
    limiter = RateLimiter(1.0, clock)
    assert limiter.spend("sk_a", endpoint) == 0
    clock.advance(window / 2)
    assert [limiter.spend("sk_a", endpoint) for _ in range(limit - 1)] == [0] * (limit - 1)
    assert limiter.spend("sk_a", endpoint) == window / 2
    clock.advance(window / 2)
    assert limiter.spend("sk_a", endpoint) == 0
    assert limiter.spend("sk_a", endpoint) == window / 2


def test_per_key(clock: Clock) -> None:
    """Each key has its own limits, and endpoints that are not in the table have none."""
    limiter = RateLimiter(0.1, clock)
    assert [limiter.spend("sk_a", "create_project") for _ in range(2)] == [0, 3600]
    assert limiter.spend("sk_b", "create_project") == 0
    assert [limiter.spend("sk_a", "list_projects") for _ in range(1000)] == [0] * 1000


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/uploads", 3),
        ("PUT", "/uploads/AAAAAAAA/a.e57", 120),
        ("GET", "/uploads/AAAAAAAA/a.e57", 60),
        ("GET", "/uploads/AAAAAAAA", 12),
        ("DELETE", "/uploads/AAAAAAAA", 6),
        ("POST", "/projects", 1),
        ("GET", "/projects/AAAAAAAA", 6),
    ],
)
def test_over_the_wire(clock: Clock, method: str, path: str, allowed: int) -> None:
    """One request too many is answered with 429 and whole seconds to wait, until the window has passed."""
    with Emulator(limits=0.1, clock=clock) as emulator, Raw(emulator) as raw:
        for _ in range(allowed):
            assert raw.call(method, path).status != 429
        clock.advance(0.5)
        answer = raw.call(method, path)
        assert answer.refusal == (429, "rate_limited")
        assert answer.json == {"error": "rate_limited"}
        clock.advance(int(answer.headers["Retry-After"]) - 1)
        assert raw.call(method, path).status == 429
        clock.advance(1)
        assert raw.call(method, path).status != 429


def test_off_and_real(clock: Clock) -> None:
    """Limits are off by default, and "real" means those of the contract."""
    with Emulator(clock=clock) as emulator, Raw(emulator) as raw:
        assert {raw.call("POST", "/projects").status for _ in range(20)} == {400}
    with Emulator(clock=clock, limits="real") as emulator, Raw(emulator) as raw:
        statuses = [raw.call("POST", "/projects").status for _ in range(11)]
        assert statuses == [400] * 10 + [429]
