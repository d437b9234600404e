"""JSON from a server: the result can always be stored."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.api.plain import MAX_DEPTH, read_json

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=[])), inner),
)


def assert_storable(value: Any) -> None:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert b"\0" not in text.encode()
    assert "\\u0000" not in text
    if find_spec("msgspec"):  # with which Airflow 3 passes on a trigger's event
        import_module("msgspec").msgpack.encode(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "b": [true, null, -1.5, "ä 🏠"]}', {"a": 1, "b": [True, None, -1.5, "ä 🏠"]}),
        ("[NaN, Infinity, -Infinity, 1e999, -1e999]", [None] * 5),
        (f"[{2**63}, {-(2**63) - 1}, {2**70}, {'9' * 5000}, {'-' + '9' * 20}]", [None] * 5),
        (f"[{2**63 - 1}, {-(2**63)}, 0, -0]", [2**63 - 1, -(2**63), 0, 0]),
        (r'["\ud800", "a\udfffb", "\ud83c\udfe0", "\u0000"]', ["\ufffd", "a\ufffdb", "🏠", "\ufffd"]),
        (r'{"\ud800": 1, "a\u0000": {"\udc00": "\ud800"}}', {"\ufffd": 1, "a\ufffd": {"\ufffd": "\ufffd"}}),
        (
            '{"__classname__": {"__id__": 1}, "_a__b": "__type"}',
            {"_classname__": {"_id__": 1}, "_a__b": "__type"},
        ),
    ],
    ids=["plain", "no numbers", "beyond 64 bits", "64 bits", "texts", "keys", "keys of Airflow"],
)
def test_what_cannot_be_stored_is_replaced(text: str, value: Any) -> None:
    """Values that cannot be stored become None or U+FFFD, and all others stay unchanged."""
    assert read_json(text) == value
    assert_storable(read_json(text))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_deep_nesting_is_cut(opening: str, closing: str) -> None:
    """Lists and objects are kept down to the limit, and deeper ones become None."""

    def depth(levels: int) -> int:
        value, found = read_json(opening * levels + "1" + closing * levels), 0
        while isinstance(value, dict | list):
            value, found = next(iter(value.values() if isinstance(value, dict) else value)), found + 1
        return found if value == 1 else -found

    assert (depth(MAX_DEPTH), depth(MAX_DEPTH + 1), depth(300)) == (MAX_DEPTH, -MAX_DEPTH, -MAX_DEPTH)


@given(ANY_JSON)
def test_any_json_can_be_stored(value: Any) -> None:
    """For any JSON from a server, msgpack, strict JSON and UTF-8 accept the result."""
    assert_storable(read_json(json.dumps(value)))


@pytest.mark.parametrize("text", ["", "<p>", "[1", "{}{}", "nan", '"a\x00"'])
def test_other_text_is_refused(text: str) -> None:
    """A text that is not JSON raises ValueError."""
    with pytest.raises(ValueError, match=r"line 1 column"):
        read_json(text)
