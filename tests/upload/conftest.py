from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_360.emulator import Emulator
from tests.fakes import strict_emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with strict_emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    """One for all examples of a property."""
    with Emulator() as emulator:
        yield emulator
