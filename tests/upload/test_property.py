"""The most important property: after any failures, the bytes arrive, in order, each in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_360.emulator import Emulator
from airflow_360.upload.engine import PROBE_BYTES, upload
from airflow_360.upload.ranges import MIN_CHUNK_BYTES_AFTER_BREAKS, ChunkSizer
from tests.fakes import MemorySource, Waits, client_for, held, requests_of, some_bytes


@dataclass(frozen=True)
class Plan:
    """A plan of an upload: the file, and the failures of its PUTs and of the requests before them."""

    size: int
    chunk_size: int
    puts: list[dict[str, Any]]
    gets: list[dict[str, Any]] | None


@st.composite
def plans(draw: st.DrawFn, *chunk_sizes: int) -> Plan:
    """Draw a plan of which every fault is bound to happen.

    One PUT brings at most a chunk. So as many faults as the file has full chunks all find a PUT, and one
    that is long enough to be broken at any byte of a chunk; not counting those that are small on purpose. A
    chunk that failed may be followed by smaller ones, so none is broken beyond the smallest size.
    """
    chunk = draw(st.sampled_from(chunk_sizes))
    around = st.sampled_from([0, 1, chunk, 2 * chunk, 3 * chunk, 5 * chunk])
    size = max(0, draw(around) + draw(st.sampled_from([-1, 0, 1])))
    fault = st.one_of(
        st.fixed_dictionaries(
            {
                "do": st.just("status"),
                "status": st.sampled_from([500, 502, 503]),
                "when": st.sampled_from(["before_body", "after_body"]),
                "close": st.booleans(),
            }
        ),
        st.fixed_dictionaries(
            {
                "do": st.just("reset"),
                "after_bytes": st.integers(0, min(chunk, size, MIN_CHUNK_BYTES_AFTER_BREAKS)),
                "keep": st.booleans(),
            }
        ),
        st.fixed_dictionaries({"do": st.sampled_from(["lost_reply", "truncate", "garbage"])}),
        st.just({"do": "rate_limit", "retry_after": 2}),
        st.just({"do": "status", "status": 200, "body": "<p>Welcome"}),
    )
    questions: list[dict[str, Any]] = [{"do": "lost_reply"}, {"do": "status", "status": 503}]
    return Plan(
        size,
        chunk,
        draw(st.lists(fault, max_size=max(1, size // (chunk + PROBE_BYTES * (chunk > PROBE_BYTES))))),
        draw(st.none() | st.lists(st.sampled_from(questions), max_size=2)),
    )


LOST_REPLY = {"do": "lost_reply"}
PAGE = {"do": "status", "status": 200, "body": "<p>Welcome"}


def broken_at(after_bytes: int, keep: bool) -> dict[str, Any]:
    return {"do": "reset", "after_bytes": after_bytes, "keep": keep}


def carry_out(emulator: Emulator, plan: Plan) -> None:
    """Upload as planned, and check that the bytes arrived as they should."""
    waits = Waits()
    client = client_for(emulator, sleep=waits)
    upload_id = client.create_upload_session().upload_id
    path = f"/uploads/{upload_id}/scan.e57"
    emulator.faults.add(*({"on": f"GET {path}", **fault} for fault in plan.gets or ()))
    emulator.faults.add(*({"on": f"PUT {path}", **fault} for fault in plan.puts))
    source = MemorySource(some_bytes(plan.size))
    marks: list[int] = []

    progress = upload(
        client,
        upload_id,
        source,
        "scan.e57",
        chunks=ChunkSizer(plan.chunk_size),
        ask=plan.gets is not None,
        on_progress=lambda known: marks.append(known.received),
    )

    client.close()
    assert progress.complete
    assert held(emulator, upload_id, "scan.e57") == source.data
    puts = requests_of(emulator, "PUT", path)
    emulator.exchanges.clear()
    assert all(put.start == put.received_before for put in puts)
    assert not [violation for violation in emulator.violations if upload_id in violation]
    assert not [fault for fault in emulator.faults.unused() if upload_id in fault.on]
    assert len(waits) <= len(plan.puts) + len(plan.gets or ())
    assert marks[-1] == plan.size
    assert source.open_readers == 0
    # No fault costs more than a chunk.
    assert all(put.body_bytes <= plan.chunk_size for put in puts)
    assert sum(put.body_bytes for put in puts) <= plan.size + plan.chunk_size * len(plan.puts)


@settings(max_examples=100, deadline=None)
@example(plan=Plan(0, 1, [], None))
@example(plan=Plan(5, 1, [broken_at(1, keep=True)] * 5, None))
@example(plan=Plan(7, 7, [broken_at(7, keep=False)], None))
@example(plan=Plan(21, 7, [LOST_REPLY] * 3, [LOST_REPLY] * 2))
@example(plan=Plan(21, 7, [PAGE] * 2, None))
@given(plan=plans(1, 2, 7, 64, 1000))
def test_the_bytes_arrive_in_small_chunks(shared: Emulator, plan: Plan) -> None:
    """For any size, chunk size and faults, the server ends with the source's bytes, sent from its mark on."""
    carry_out(shared, plan)


@settings(max_examples=60, deadline=None)
@example(plan=Plan(5 * PROBE_BYTES, PROBE_BYTES, [broken_at(PROBE_BYTES - 1, keep=True)] * 5, None))
@example(plan=Plan(500_000, 100_000, [LOST_REPLY, PAGE, broken_at(99_999, keep=False)], [LOST_REPLY]))
@given(plan=plans(PROBE_BYTES, 100_000))
def test_the_bytes_arrive(shared: Emulator, plan: Plan) -> None:
    """The same is true for chunks that are larger than the probe after a silence."""
    carry_out(shared, plan)
