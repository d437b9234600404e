"""JSON from a server, made safe to store.

Airflow stores a task's result as JSON and a trigger's event as msgpack, in a database that refuses NUL. A
value that one of them cannot store would end a triggerer with all its triggers. So replies are cleaned in one
place, before other code uses them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["MAX_DEPTH", "read_json"]

#: The deepest nesting of lists and objects. The API's replies are nested three levels deep at most.
MAX_DEPTH = 30
MAX_INT64 = 2**63 - 1
MAX_INT64_CHARACTERS = len(str(-MAX_INT64))
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_RESERVED = re.compile("^__+")


def read_json(text: str) -> Any:
    """Parse JSON into values that msgpack, strict JSON, UTF-8 and a database can store.

    NaN, Infinity, integers beyond 64 bits, and lists and objects nested deeper than :data:`MAX_DEPTH` become
    None. NUL and lone surrogates, in values and in keys, become U+FFFD. Several underscores at the beginning
    of a key become one, because Airflow takes a dict with ``__classname__`` or ``__type`` for an object.

    :param text: the JSON.
    :raises ValueError: if it is not JSON.
    :raises RecursionError: if it is nested deeper than Python can parse.
    """
    return _storable(json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_nothing), 0)


def _int(digits: str) -> int | None:
    if len(digits) > MAX_INT64_CHARACTERS:  # int() refuses numbers with thousands of digits
        return None
    value = int(digits)
    return value if -MAX_INT64 - 1 <= value <= MAX_INT64 else None


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _nothing(constant: str) -> None:  # noqa: ARG001 - json calls it with NaN, Infinity or -Infinity
    return None


def _storable(value: Any, depth: int) -> Any:
    match value:
        case str():
            return _UNSTORABLE.sub("\ufffd", value)
        case dict() | list() if depth == MAX_DEPTH:
            return None
        case dict():
            return {_key(key): _storable(item, depth + 1) for key, item in value.items()}
        case list():
            return [_storable(item, depth + 1) for item in value]
    return value


def _key(key: str) -> str:
    return _RESERVED.sub("_", _UNSTORABLE.sub("\ufffd", key))
