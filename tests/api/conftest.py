from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_360.emulator import Emulator
from tests.fakes import strict_emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with strict_emulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _nobodys_network_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's proxies, authorities and passwords out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
