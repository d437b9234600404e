from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_360.emulator import Emulator
from tests.emulator.raw import Clock, Raw


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    with Emulator(clock=clock, processing_seconds=100) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    """One for all examples of a property."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def raw(emulator: Emulator) -> Iterator[Raw]:
    with Raw(emulator) as raw:
        yield raw
