"""The cost of reading from a real store: memory, and requests to the store."""

from __future__ import annotations

import math

import pytest

from tests.scans import PHOTO
from tests.stores.attempts import Attempt, Order
from tests.stores.conftest import Site
from tests.stores.table import shows, value

pytestmark = pytest.mark.long

MIB = 1 << 20
FILES = 20


@shows("memory beyond an idle task: one file of 300 MB, four of 60 MB side by side")
def test_memory(site: Site, request: pytest.FixtureRequest) -> None:
    """A file of 300 MB takes at most 96 MiB more memory than an idle task, four side by side 200 MiB."""
    site.put("small.e57", b"small")
    site.store.put_zeros(f"{site.folder}huge.e57", 300_000_000)
    for number in range(4):
        site.store.put_zeros(f"{site.folder}four/{number}.e57", 60_000_000)
    # Without the line, which would slow down this process, which is also the 360 server.
    ports = str(site.store.line.port), str(site.store.port)
    environment = {name: text.replace(*ports) for name, text in site.environment().items()}

    def order(operator: str, path: str) -> Order:
        parameters = {"upload_id": site.upload_id, "path": site.url(path)}
        return Order(operator, parameters, site.new_state(), environment=environment)

    attempt = Attempt(
        order("UploadFileOperator", "small.e57"),  # after which all libraries are there
        order("UploadFileOperator", "huge.e57"),
        order("UploadFilesOperator", "four/"),
    )
    outcomes = attempt.outcomes()
    assert not any(outcome.errors for outcome in outcomes), outcomes
    assert site.file("huge.e57")
    _, one, four = (math.ceil(outcome.grown / MIB) for outcome in outcomes)
    value(request, f"{one} MiB, {four} MiB")
    assert one <= 96, outcomes
    assert four <= 200, outcomes


@shows(f"requests to the store: to list {FILES} files, and for each of them that is uploaded")
def test_requests(site: Site, request: pytest.FixtureRequest) -> None:
    """A listing takes a request per page and not per file, and an upload a small number of them per file."""
    for number in range(FILES):
        site.put(f"{number:02}.jpg", PHOTO)
    site.upload_id  # noqa: B018 - no request to the store, but one to the 360 server
    site.listed()  # signing in costs requests too
    site.store.reset()
    listed = site.listed()
    listing = len(site.store.requests())
    site.store.reset()
    outcome = site.run("UploadFilesOperator", upload_id=site.upload_id, path=site.url())
    assert not outcome.errors, outcome
    folder = (len(site.store.requests()) - listing) / FILES
    site.store.reset()
    outcome = site.upload(**{**listed[0], "filename": "alone.jpg"})
    assert not outcome.errors, outcome
    alone = len(site.store.requests())
    counted = f"{listing}; {folder:.1f} in one task, {alone} in a separate task"
    value(request, counted)
    assert listing <= site.store.most_list_requests, counted
    assert folder <= site.store.most_requests_per_file, counted
