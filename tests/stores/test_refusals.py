"""An unreadable path in a real store is an error immediately, with the store's message, without a retry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_360.api.backoff import Backoff
from tests.fakes import Waits
from tests.stores.attempts import Outcome
from tests.stores.conftest import Site
from tests.stores.table import shows, value

pytestmark = pytest.mark.long

#: Seconds within which an attempt fails that cannot succeed, with any retries by the store's library.
AT_ONCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import the libraries of the stores, so that no attempt has to."""
    import_module("tests.stores.preload")


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """The waits of the package before retries; there must be none."""
    waits = Waits()
    monkeypatch.setattr("airflow_360.hooks.clients.Backoff", partial(Backoff, sleep=waits))
    yield waits
    assert waits == []


@pytest.fixture(autouse=True)
def impatient_gcsfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gcsfs not wait: it asks six times after a 401, for half a minute, before anybody hears of it."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    try:
        monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=sleep))
    except ImportError:
        pass


@pytest.fixture(autouse=True)
def with_rights(site: Site) -> None:
    """Let the store check keys and rights."""
    site.store.check_rights()


def check_refused(site: Site, conn_id: str, outcome: Outcome) -> None:
    """Make sure that an attempt failed permanently and immediately, and names the connection."""
    assert outcome.is_permanent, outcome
    assert "SourceError" in outcome.errors
    assert conn_id in outcome.message
    assert outcome.seconds < AT_ONCE
    assert site.sent() == 0


def each_way(site: Site, path: str) -> list[Outcome]:
    """Return how each operator that reads files ends with a path."""
    return [
        site.upload(path=path),
        site.run("UploadFilesOperator", upload_id=site.upload_id, path=path),
    ]


@shows("missing file: fails at once")
def test_missing_file(site: Site) -> None:
    """A file that is not there is named, with its connection."""
    site.put("a.e57", b"a")
    outcome = site.upload(path=site.url("none.e57"))
    check_refused(site, site.store.conn_id, outcome)
    assert "none.e57" in outcome.message


@shows("missing bucket, container or share: fails at once")
def test_missing_root(site: Site) -> None:
    """A bucket that is not there is named, with its connection, by listing and by uploading."""
    path = site.store.missing_root()
    check_refused(site, site.store.conn_id, site.run("ListFilesOperator", path=f"{path}night/"))
    check_refused(site, site.store.conn_id, site.upload(path=f"{path}night/a.e57"))


@shows("file that may not be read: fails at once")
def test_forbidden(site: Site, request: pytest.FixtureRequest) -> None:
    """The error for a file that the connection cannot read names the file and the connection."""
    name = "forbidden-a.e57"
    site.store.put(name, b"secret")
    path = site.store.forbid(name)
    outcome = site.upload(path=path)
    check_refused(site, path.partition("://")[2].partition("@")[0], outcome)
    assert name in outcome.message
    if site.store.forbids_by:
        value(request, f"yes, by {site.store.forbids_by}")


@shows("wrong credentials: fails at once")
def test_wrong_credentials(site: Site) -> None:
    """Credentials that the store refuses are an error that names the connection, in each operator."""
    conn_id = f"{site.store.conn_id}_wrong"
    site.put("a.e57", b"a")
    path: Any = site.url("a.e57", conn_id)
    for outcome in each_way(site, path):
        check_refused(site, conn_id, outcome)
    check_refused(site, conn_id, site.run("ListFilesOperator", path=site.url("", conn_id)))


@shows("unknown connection: fails at once")
def test_unknown_connection(site: Site) -> None:
    """A connection that is not defined is named."""
    check_refused(site, "nobody_knows", site.upload(path=site.url("a.e57", "nobody_knows")))
    check_refused(site, "nobody_knows", site.run("ListFilesOperator", path=site.url("", "nobody_knows")))
