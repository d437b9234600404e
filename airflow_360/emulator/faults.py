"""The fault script: which faults happen, when, and whether they did.

Separate because a script is data: parsing, matching and counting need no socket, file or clock. ``server.py``
carries out the faults. A new kind needs one line in ``_KINDS``, its fields in :class:`Fault` and ``_CHECKS``,
and one case in ``server.py``.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

__all__ = ["Fault", "FaultError", "FaultScript", "parse"]


class FaultError(ValueError):
    """Raised when a script is invalid; the message names the entry and the field."""


def _is_whole(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= low


def _is_pattern(value: Any) -> bool:
    words = value.split(" ") if isinstance(value, str) else []
    return len(words) == 2 and words[1].startswith("/")


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) and text.isprintable() for item in value.items() for text in item
    )


_COMMON = {"on", "do", "skip", "times"}
_KINDS: dict[str, set[str]] = {
    "status": {"status", "when", "headers", "body", "close"},
    "rate_limit": {"retry_after"},
    "reset": {"after_bytes", "keep"},
    "hang_up": {"rst"},
    "lost_reply": set(),
    "truncate": set(),
    "drip": {"seconds"},
    "garbage": {"body"},
    "alter": {"fields"},
    "stall": {"seconds", "when"},
    "lose": {"keep_bytes", "forget", "spare_complete"},
}
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_BYTES = (_is_whole(0), "a whole number of bytes, 0 or more")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "on": (_is_pattern, "a method and a path, such as 'PUT /uploads/*/scan.e57'"),
    "do": (lambda value: isinstance(value, str) and value in _KINDS, "one of " + ", ".join(_KINDS)),
    "skip": (_is_whole(0), "a whole number, 0 or more"),
    "times": (_is_whole(1), "a whole number, 1 or more"),
    "status": (lambda value: type(value) is int and 200 <= value <= 599, "a whole number from 200 to 599"),
    "when": (lambda value: value in ("before_body", "after_body"), "'before_body' or 'after_body'"),
    "headers": (_is_headers, "an object of strings"),
    "body": (lambda value: isinstance(value, str | dict | list), "an object, a list or a string"),
    "close": _FLAG,
    "after_bytes": _BYTES,
    "keep": _FLAG,
    "rst": _FLAG,
    "fields": (lambda value: isinstance(value, Mapping), "an object"),
    "keep_bytes": _BYTES,
    "forget": _FLAG,
    "spare_complete": _FLAG,
    "seconds": (lambda value: type(value) in (int, float) and value >= 0, "a number of seconds, 0 or more"),
    "retry_after": (_is_whole(0), "a whole number of seconds, 0 or more"),
}


@dataclass(frozen=True)
class Fault:
    """A fault, and the requests that it hits. An entry of a script is this as JSON.

    :param on: method and path below ``/api/v1``, for example ``"PUT /uploads/*/scan.e57"``; ``*`` stands for
        any method, or for any text within one part of the path, ``/**`` at its end for any rest
    :param do: the kind
    :param skip: how many matching requests pass unchanged first
    :param times: how many requests are hit
    :param status: (``status``) the status of the reply
    :param when: (``status``, ``stall``) ``before_body``: before the request is read; ``after_body``: after it
        was carried out in full. None means before for ``status`` and after for ``stall``
    :param headers: (``status``) headers of the reply
    :param body: (``status``, ``garbage``) the reply's body; an object or a list is sent as JSON, a string as
        HTML
    :param close: (``status``) reply at once and close the connection, even while the body is still being sent
    :param after_bytes: (``reset``) how many bytes of the body are read before the connection is reset;
        requests with fewer bytes do not match
    :param keep: (``reset``) whether those bytes count; None means the emulator's ``keep_cut_bytes``
    :param rst: (``hang_up``) whether the connection is reset instead of closed
    :param fields: (``alter``) the new values in the reply's JSON object
    :param keep_bytes: (``lose``) how many bytes of the file remain
    :param forget: (``lose``) whether the file itself is lost too
    :param spare_complete: (``lose``) whether complete files are spared
    :param seconds: (``stall``) the length of the pause; (``drip``) the pause after each byte
    :param retry_after: (``rate_limit``) the ``Retry-After`` header, in seconds
    """

    on: str
    do: Literal[
        "status",
        "rate_limit",
        "reset",
        "hang_up",
        "lost_reply",
        "truncate",
        "drip",
        "garbage",
        "alter",
        "stall",
        "lose",
    ]
    skip: int = 0
    times: int = 1
    status: int = 503
    when: Literal["before_body", "after_body"] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    close: bool = False
    after_bytes: int = 0
    keep: bool | None = None
    rst: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    keep_bytes: int = 0
    forget: bool = False
    spare_complete: bool = False
    seconds: float = 1.0
    retry_after: int = 1

    def matches(self, method: str, path: str, body_bytes: int, reused: bool) -> bool:
        """Return whether this fault matches a request.

        :param path: the path below ``/api/v1``, percent-decoded
        :param body_bytes: the length of the request's body, from its headers
        :param reused: whether the connection has served another request before
        """
        wanted_method, _, wanted_path = self.on.partition(" ")
        wanted, parts = wanted_path.split("/"), path.split("/")
        if wanted[-1] == "**":
            wanted[-1:] = ["*"] * (len(parts) - len(wanted) + 1)
        return (
            fnmatchcase(method, wanted_method)
            and len(wanted) == len(parts)
            and all(map(fnmatchcase, parts, wanted))
            and body_bytes >= self.after_bytes
            and (reused or self.do != "hang_up")
        )


def _check(where: str, name: str, value: Any) -> None:
    is_good, wanted = _CHECKS[name]
    if not is_good(value):
        raise FaultError(f"{where}: '{name}' must be {wanted}, not {value!r}")


def _parsed(entry: Any, position: int) -> Fault:
    where = f"fault {position}"
    if not isinstance(entry, Mapping):
        raise FaultError(f"{where}: must be an object, not {entry!r}")
    for name in ("do", "on"):
        if name not in entry:
            raise FaultError(f"{where}: '{name}' is missing")
        _check(where, name, entry[name])
    for name, value in entry.items():
        if name not in _COMMON | _KINDS[entry["do"]]:
            raise FaultError(f"{where}: '{name}' is not a field of the kind '{entry['do']}'")
        _check(where, name, value)
    return Fault(**entry)


def parse(text: str) -> list[Fault]:
    """Read a script from JSON.

    :param text: a JSON list of objects
    :raises FaultError: if it is not such a list, or an entry is wrong
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise FaultError(f"the fault script is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise FaultError("the fault script must be a list")
    return [_parsed(entry, position) for position, entry in enumerate(entries, 1)]


@dataclass(eq=False)
class _Entry:
    fault: Fault
    skipped: int = 0
    taken: int = 0
    happened: int = 0

    def take(self) -> bool:
        if self.taken == self.fault.times:
            return False
        if self.skipped < self.fault.skip:
            self.skipped += 1
            return False
        self.taken += 1
        return True


class FaultScript:
    """A list of faults that are used in their order, with a count of those that happened.

    ``counts`` contains how often each kind happened.

    :param faults: entries as dicts or as :class:`Fault`
    """

    def __init__(self, faults: Iterable[Fault | Mapping[str, Any]] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()
        self.add(*faults)

    def add(self, *faults: Fault | Mapping[str, Any]) -> None:
        """Append faults to the script.

        :raises FaultError: if an entry is wrong; then no fault is added
        """
        with self._lock:
            first = len(self._entries) + 1
            raw = [_as_mapping(fault) if isinstance(fault, Fault) else fault for fault in faults]
            self._entries += [_Entry(_parsed(entry, first + i)) for i, entry in enumerate(raw)]

    def clear(self) -> None:
        """Forget all faults, used or not; ``counts`` stays."""
        with self._lock:
            self._entries.clear()

    def take(
        self, method: str, path: str, body_bytes: int = 0, reused: bool = False
    ) -> tuple[Fault | None, Fault | None]:
        """Return the first fault that is due for a request, and the first ``lose`` to combine with it.

        Both count as used; the parameters are those of :meth:`Fault.matches`.
        """
        taken: dict[bool, Fault] = {}
        with self._lock:
            for entry in self._entries:
                is_loss = entry.fault.do == "lose"
                if (
                    is_loss not in taken
                    and entry.fault.matches(method, path, body_bytes, reused)
                    and entry.take()
                ):
                    taken[is_loss] = entry.fault
        return taken.get(False), taken.get(True)

    def happened(self, fault: Fault) -> None:
        """Record that a fault from :meth:`take` happened."""
        with self._lock:
            self.counts[fault.do] += 1
            for entry in self._entries:
                entry.happened += entry.fault is fault

    def unused(self) -> list[Fault]:
        """Return the faults that did not happen, or happened fewer than ``times`` times."""
        with self._lock:
            missing = [(entry.fault, entry.fault.times - entry.happened) for entry in self._entries]
        return [replace(fault, times=times) for fault, times in missing if times > 0]


def _as_mapping(fault: Fault) -> dict[str, Any]:
    default = Fault("GET /", "lost_reply")
    values = {f.name: getattr(fault, f.name) for f in fields(fault)}
    return {k: v for k, v in values.items() if k in ("on", "do") or v != getattr(default, k)}
