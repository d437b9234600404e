"""The server's replies as frozen values; a reply that violates the contract raises an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from airflow_360.exceptions import NoReplyError, ProjectStatusError

__all__ = ["FileProgress", "Project", "UploadSession"]

log = logging.getLogger(__name__)

#: The largest size of one field of a project's record as JSON, and of all. Airflow stores them as an XCom.
MAX_FIELD_BYTES = 16 * 1024
MAX_RECORD_BYTES = 256 * 1024
MAX_OMITTED_CHARACTERS = 300  # for the names of omitted fields, in the log


@dataclass(frozen=True)
class UploadSession:
    """A new upload session.

    :param upload_id: its opaque id.
    :param expires_in_seconds: seconds until the server discards it if it is abandoned.
    """

    upload_id: str
    expires_in_seconds: int

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> UploadSession:
        """Read the reply of ``POST /uploads``.

        :raises NoReplyError: if it does not name a session.
        """
        return cls(_text(reply, "upload_id"), _parse_int(reply, "expires_in_seconds"))


@dataclass(frozen=True)
class FileProgress:
    """The progress of one file on the server.

    :param received: bytes that the server has, the high-water mark.
    :param total: the file's size in bytes.
    :param complete: whether the server finalized the file.
    :param name: the file's name; empty if the reply does not contain it.
    """

    received: int
    total: int
    complete: bool
    name: str = ""

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> FileProgress:
        """Read the reply of a PUT or GET of a file, or one entry of a session's list.

        :raises NoReplyError: if the numbers are missing or impossible.
        """
        progress = cls(
            received=_parse_int(reply, "received"),
            total=_parse_int(reply, "total"),
            complete=reply.get("complete") is True,
            name=name if _is_name(name := reply.get("name")) else "",
        )
        if progress.received > progress.total or (progress.complete and progress.received < progress.total):
            raise NoReplyError(f"The server's numbers for a file contradict each other: {progress}.")
        return progress


@dataclass(frozen=True)
class Project:
    """The state of a project.

    :param name: its slug, authoritative.
    :param status: 0 queued, 1 to 99 processing, 100 ready.
    :param record: the reply; at status 100 the full record. Fields that are too large to store are omitted
        with a warning, see :data:`MAX_FIELD_BYTES`.
    """

    name: str
    status: int
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Return whether the project is ready (status 100)."""
        return self.status == 100

    @property
    def errors(self) -> int:
        """Return the number of processing errors of a ready project."""
        errors = self.record.get("errors")
        return errors if isinstance(errors, int) else 0

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> Project:
        """Read the reply of ``GET /projects/{name}``.

        :raises NoReplyError: if it names no project, or its status is not a whole number.
        :raises ProjectStatusError: if its status is a whole number but not within 0 to 100.
        """
        name, status = _text(reply, "name"), reply.get("status")
        if not isinstance(status, int) or isinstance(status, bool):
            raise NoReplyError(
                f"The server's reply about project {name} has the status {status!r:.100}, not a whole number."
            )
        if not 0 <= status <= 100:
            raise ProjectStatusError(
                f"Project {name} has the status {status}, which is not within 0 to 100. Check the project on "
                "the server.",
                status=status,
            )
        return cls(name, status, _bounded(name, reply))

    @classmethod
    def created(cls, reply: Mapping[str, Any]) -> Project:
        """Read the reply of ``POST /projects``; only its name matters.

        :raises NoReplyError: if it names no project.
        """
        name = _text(reply, "name")
        return cls(name, 0, _bounded(name, reply))


def _bounded(project_name: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the fields that make it too large; name and status always stay."""
    sizes = {key: len(json.dumps({key: value})) for key, value in reply.items()}
    kept, total = {"name", "status"}, 0
    for key in sorted(sizes, key=lambda key: sizes[key]):
        total += sizes[key]
        if sizes[key] <= MAX_FIELD_BYTES and total <= MAX_RECORD_BYTES:
            kept.add(key)
    if omitted := [key for key in sizes if key not in kept]:
        names = ", ".join(map(repr, omitted))
        log.warning(
            "Project %s: %d fields of its record are too large to be stored and are omitted: %.*s",
            project_name,
            len(omitted),
            MAX_OMITTED_CHARACTERS,
            names,
        )
    return {key: value for key, value in reply.items() if key in kept}


def _text(reply: Mapping[str, Any], key: str) -> str:
    value = reply.get(key)
    if not _is_name(value):
        raise NoReplyError(f"The server's reply lacks a usable {key!r}; is this a 360 server?")
    return value


def _is_name(value: object) -> TypeGuard[str]:
    """Return whether a value can be a name, which appears in logs, errors and URLs."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def _parse_int(reply: Mapping[str, Any], key: str) -> int:
    value = reply.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise NoReplyError(f"The server's reply lacks a whole number {key!r}; is this a 360 server?")
    return value
