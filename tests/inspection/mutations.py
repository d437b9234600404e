"""Damage by chance: any overwrite, cut or insertion of a file."""

from __future__ import annotations

from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import MAX_BYTES, MAX_READS, Ranges

#: Numbers at which arithmetic breaks, in both byte orders.
EXTREMES = [
    number.to_bytes(length, order)
    for length in (2, 4, 8)
    for number in (0, 1, 2 ** (8 * length - 1), 2 ** (8 * length) - 1)
    for order in ("little", "big")
]


@st.composite
def mutations(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """Draw a damaged variant of one of several files."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(data), 400)) | st.integers(0, len(data)))
        new = draw(st.binary(max_size=16) | st.sampled_from(EXTREMES))
        kind = draw(st.sampled_from(["overwrite", "insert", "cut", "remove"]))
        if kind == "overwrite":
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = new
        elif kind == "cut":
            del data[at:]
        else:
            del data[at : at + len(new)]
    return bytes(data)


def assert_ends_in_a_result(name: str, data: bytes) -> None:
    """Inspect a file and assert that it ends, with few reads, in printable and short texts."""
    ranges = Ranges(lambda offset, length: data[offset : offset + length], len(data))
    result = inspect_file(name, ranges)
    assert ranges.reads <= MAX_READS + 1
    assert ranges.bytes_read <= MAX_BYTES + len(data)
    for text in [problem.text for problem in result.problems] + [result.version, result.camera]:
        assert text.isprintable()
        assert len(text) < 1500
