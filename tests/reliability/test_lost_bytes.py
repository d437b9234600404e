"""A server that loses bytes: only the lost bytes are sent again, whether or not cut bytes count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_360.emulator import Emulator
from airflow_360.upload.engine import upload
from airflow_360.upload.ranges import ChunkSizer
from tests.fakes import MemorySource, client_for, held, requests_of, some_bytes


@pytest.fixture(scope="module", params=[True, False], ids=["cut bytes count", "cut bytes are dropped"])
def shared(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """One for all examples, in each reading."""
    with Emulator(keep_cut_bytes=request.param) as emulator:
        yield emulator


@dataclass(frozen=True)
class Plan:
    """A plan of an upload: the file, the requests after which bytes are lost, and other failures of PUTs."""

    size: int
    chunk_size: int
    losses: list[dict[str, Any]]
    breaks: list[dict[str, Any]]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a plan; the file is not lost once it is complete, of which no upload could know."""
    chunk = draw(st.sampled_from([1, 2, 7, 64]))
    size = max(0, draw(st.sampled_from([0, chunk, 3 * chunk, 6 * chunk])) + draw(st.integers(-1, 1)))
    loss = st.fixed_dictionaries(
        {
            "do": st.just("lose"),
            "skip": st.integers(0, 3),
            "keep_bytes": st.integers(0, size),
            "forget": st.booleans(),
            "spare_complete": st.just(True),
        }
    )
    cut = st.fixed_dictionaries(
        {"do": st.just("reset"), "skip": st.integers(0, 3), "after_bytes": st.integers(0, chunk)}
    )
    lost_reply = st.fixed_dictionaries({"do": st.just("lost_reply"), "skip": st.integers(0, 3)})
    return Plan(size, chunk, draw(st.lists(loss, max_size=3)), draw(st.lists(cut | lost_reply, max_size=3)))


@settings(max_examples=100, deadline=None)
@example(Plan(21, 7, [{"do": "lose", "skip": 1, "spare_complete": True}], []))
@example(Plan(21, 7, [{"do": "lose", "skip": 1, "forget": True, "spare_complete": True}], []))
@example(
    Plan(
        21,
        7,
        [{"do": "lose", "skip": 1, "keep_bytes": 3, "spare_complete": True}],
        [{"do": "reset", "skip": 1, "after_bytes": 5}],
    )
)
@given(plan=plans())
def test_the_bytes_arrive_all_the_same(shared: Emulator, plan: Plan) -> None:
    """If the server loses any bytes, the file still ends as the source; no other byte is sent twice."""
    client = client_for(shared)
    upload_id = client.create_upload_session().upload_id
    path = f"/uploads/{upload_id}/scan.e57"
    shared.faults.add(*({"on": f"* {path}", **loss} for loss in plan.losses))
    shared.faults.add(*({"on": f"PUT {path}", **fault} for fault in plan.breaks))
    source = MemorySource(some_bytes(plan.size))

    progress = upload(client, upload_id, source, "scan.e57", chunks=ChunkSizer(plan.chunk_size))

    client.close()
    assert progress.complete
    assert held(shared, upload_id, "scan.e57") == source.data
    puts = requests_of(shared, "PUT", path)
    lost = sum(exchange.lost_bytes for exchange in shared.exchanges)
    broken = sum(put.status is None for put in puts)
    ahead = [put for put in puts if put.start != put.received_before]
    shared.exchanges.clear()
    # After an unnoticed loss, one chunk starts beyond the mark, and the server refuses it.
    assert all(put.status == 409 for put in ahead if put.status)
    assert len(ahead) <= len(plan.losses)
    assert not [violation for violation in shared.violations if upload_id in violation]
    again = sum(put.body_bytes for put in puts) - plan.size
    assert again <= lost + plan.chunk_size * (broken + len(ahead))
