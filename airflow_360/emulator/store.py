"""The rules of the upload API, without HTTP.

Separate so that you can read and test the contract as rules only: which chunk may follow which, and which
requests are refused and why. There is no HTTP here (a refusal has a code; ``server.py`` chooses its status),
nothing is printed, and the only clock is the one that was passed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import string
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from airflow_360.emulator.files import StoredFile, UploadSession, Writing, extension_of, flatten
from airflow_360.emulator.projects import Project, timestamp

__all__ = ["DEFAULT_EXTENSIONS", "SESSION_SECONDS", "Refusal", "Store"]

SESSION_SECONDS = 259_200
DEFAULT_EXTENSIONS = tuple(
    "7z csv dat db e57 exr frag glb gpx ifc jpeg jpg json kml kmz ksplat las laz lgs lgsx mp4 mtl obj opt "
    "out pdf ply png pts ptx rad rar rmx sog splat spz stl tif tiff txt xyz zip".split()
)
_ID_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 8
_SETTLE_SECONDS = 5.0
_SHOWN_FILES = 100
_STRANGER_AGE_SECONDS = 86_400.0


class Refusal(Exception):  # noqa: N818 - a reply of the server, not a failure
    """Raised to refuse a request with one of the contract's error codes.

    :param code: the value of ``error``
    :param detail: the other fields of the reply, for example ``received`` or ``limit``
    """

    def __init__(self, code: str, **detail: Any) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def _new_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


class Store:
    """The sessions, files and projects of a server that follows the contract; thread-safe.

    :param folder: the folder for the bytes, as ``<folder>/<upload_id>/<filename>``
    :param clock: returns the time in seconds since 1970
    :param processing_seconds: seconds that a project takes from 0 to 100
    :param session_consumed: whether creating a project ends its session; if False, a second project can be
        created from the same session and gets another name
    :param keep_cut_bytes: whether the bytes of a PUT that was cut off count towards ``received``
    :param extensions: the extensions that may be uploaded, lower case, without the dot
    :param max_file_bytes: the maximum size of one file, None for no limit
    :param max_session_bytes: the maximum size of all files of a session together, None for no limit
    :param quota_bytes: the maximum size of all files of the account, None for no limit
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        *,
        processing_seconds: float = 1.0,
        session_consumed: bool = False,
        keep_cut_bytes: bool = True,
        extensions: Collection[str] = DEFAULT_EXTENSIONS,
        max_file_bytes: int | None = None,
        max_session_bytes: int | None = None,
        quota_bytes: int | None = None,
    ) -> None:
        self.sessions: dict[str, UploadSession] = {}
        self.projects: dict[str, Project] = {}
        self.violations: list[str] = []
        self.processing_seconds = processing_seconds
        self.keep_cut_bytes = keep_cut_bytes
        self._folder = folder
        self._clock = clock
        self._session_consumed = session_consumed
        self._extensions = sorted(extensions)
        self._max_file_bytes = max_file_bytes
        self._max_session_bytes = max_session_bytes
        self._quota_bytes = quota_bytes
        self._strangers: dict[str, Project | None] = {}
        self._next_id: str | None = None
        self._lock = threading.Condition()

    # -- sessions

    def create_session(self) -> dict[str, Any]:
        """Create a session, unless the account is full."""
        with self._lock:
            self._discard_expired()
            if self._quota_bytes is not None and self.stored_bytes() >= self._quota_bytes:
                raise Refusal("storage_quota_exceeded")
            upload_id, self._next_id = self._next_id or _new_id(), None
            folder = self._folder / upload_id
            folder.mkdir(parents=True)
            self.sessions[upload_id] = UploadSession(upload_id, self._clock(), folder)
            return {"upload_id": upload_id, "expires_in_seconds": SESSION_SECONDS}

    def list_files(self, upload_id: str) -> dict[str, Any]:
        """Return the progress of every file of a session, in order of arrival."""
        with self._lock:
            files = list(self._session(upload_id).files.values())
            for file in files:
                self._settle(file)
            return {"upload_id": upload_id, "files": [{"name": f.name, **f.progress()} for f in files]}

    def delete_session(self, upload_id: str) -> dict[str, Any]:
        """Delete a session, if it exists; a project created from it keeps its bytes."""
        _check_upload_id(upload_id)
        with self._lock:
            self._discard(upload_id)
            return {"deleted": True}

    def stored_bytes(self) -> int:
        """Return the number of bytes of the account, in sessions and in projects."""
        sessions = {s.upload_id: s for s in self.sessions.values()}
        sessions |= {p.session.upload_id: p.session for p in self.projects.values() if p.session}
        return sum(session.received() for session in sessions.values())

    def _session(self, upload_id: str) -> UploadSession:
        _check_upload_id(upload_id)
        self._discard_expired()
        session = self.sessions.get(upload_id)
        if session is None or session.consumed:
            raise Refusal("upload_session_not_found")
        return session

    def _discard_expired(self) -> None:
        expired = self._clock() - SESSION_SECONDS
        for upload_id in [s.upload_id for s in self.sessions.values() if s.created_at <= expired]:
            self._discard(upload_id)

    def _discard(self, upload_id: str) -> None:
        session = self.sessions.pop(upload_id, None)
        if session and all(project.session is not session for project in self.projects.values()):
            shutil.rmtree(session.folder, ignore_errors=True)

    # -- files

    def get_file(self, upload_id: str, filename: str) -> dict[str, Any]:
        """Return the progress of one file."""
        with self._lock:
            file = self._session(upload_id).files.get(flatten(filename))
            if file is None:
                raise Refusal("file_not_found")
            self._settle(file)
            return file.progress()

    def received(self, upload_id: str, filename: str) -> int:
        """Return the high-water mark of a file, 0 if there is no such file."""
        try:
            return int(self.get_file(upload_id, filename)["received"])
        except Refusal:
            return 0

    def begin_put(
        self,
        upload_id: str,
        filename: str,
        *,
        start: int,
        total: int,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Writing:
        """Check everything that can be checked before the bytes arrive, and prepare the file.

        :param start: the position of the first byte of this PUT
        :param total: the size of the whole file in bytes
        :param abandoned: returns whether the client has closed the connection; a later PUT then waits until
            this one has ended, and does not count as a second PUT in flight
        """
        with self._lock:
            session = self._session(upload_id)
            name = self._accepted_name(filename)
            file = session.files.get(name)
            if file is None:
                self._check_sizes(session, total)
                file = StoredFile(name, session.folder / name, total)
            self._settle(file)
            self._check_place(session, file, start, total)
            if name not in session.files:
                file.path.touch()
                session.files[name] = file
            file.writing = Writing(file, start, abandoned, self._lock)
            return file.writing

    def lose(
        self,
        upload_id: str,
        filename: str,
        *,
        keep_bytes: int = 0,
        forget: bool = False,
        spare_complete: bool = False,
    ) -> int | None:
        """Lose bytes of a file, like a server with a full disk or one that was restored from a backup.

        :param keep_bytes: how many bytes from the start remain
        :param forget: whether the file itself is lost too
        :param spare_complete: whether complete files are spared
        :return: the number of lost bytes; None if there were no bytes to lose, or a PUT is in flight
        """
        with self._lock:
            try:
                session = self._session(upload_id)
            except Refusal:
                return None
            file = session.files.get(flatten(filename))
            if file is None or file.writing or (file.complete and spare_complete):
                return None
            kept = min(file.received, 0 if forget else keep_bytes)
            lost, file.received = file.received - kept, kept
            if forget:
                del session.files[file.name]
                file.path.unlink()
            elif lost:
                os.truncate(file.path, kept)
            return lost if lost or forget else None

    def file_path(self, upload_id: str, filename: str) -> Path:
        """Return the path of the bytes of a file, also after its project was created."""
        return self._folder / upload_id / flatten(filename)

    def _accepted_name(self, filename: str) -> str:
        name = flatten(filename)
        if not name or len(name) > 255:
            raise Refusal("invalid_filename")
        if extension_of(name) not in self._extensions:
            raise Refusal("extension_not_allowed", extension=extension_of(name), allowed=self._extensions)
        return name

    def _check_sizes(self, session: UploadSession, total: int) -> None:
        if self._max_file_bytes is not None and total > self._max_file_bytes:
            raise Refusal("file_too_large", limit=self._max_file_bytes)
        together = total + sum(file.total for file in session.files.values())
        if self._max_session_bytes is not None and together > self._max_session_bytes:
            raise Refusal("session_too_large", limit=self._max_session_bytes)

    def _check_place(self, session: UploadSession, file: StoredFile, start: int, total: int) -> None:
        if file.writing is not None:
            self.violations.append(f"a second PUT of {session.upload_id}/{file.name} while one is in flight")
            raise Refusal("non_contiguous_chunk", received=file.received)
        if file.complete:
            return
        if total != file.total:
            raise Refusal("invalid_content_range")
        if start > file.received:
            raise Refusal("non_contiguous_chunk", received=file.received)

    def _settle(self, file: StoredFile) -> None:
        # A client that was cut off may retry before the thread of the dead connection has noticed.
        writing = file.writing
        if writing is not None and writing.abandoned():
            self._lock.wait_for(lambda: file.writing is not writing, timeout=_SETTLE_SECONDS)

    # -- projects

    def create_project(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Create a project from a session or a link.

        :param fields: the JSON body; fields that are not in the contract are accepted and kept as options
        """
        upload_id, link = fields.get("upload_id"), fields.get("download_link")
        if not upload_id and not link:
            raise Refusal("upload_id_or_download_link_required")
        if upload_id and link:
            raise Refusal("provide_either_upload_id_or_download_link")
        with self._lock:
            session = self._finished_session(upload_id) if upload_id else None
            if self._quota_bytes is not None and self.stored_bytes() > self._quota_bytes:
                raise Refusal("storage_quota_exceeded")
            project = Project(
                id=len(self.projects) + 1,
                name=self._project_name(session.upload_id if session else _new_id()),
                created_at=self._clock(),
                processing_seconds=self.processing_seconds,
                options={k: v for k, v in fields.items() if k != "upload_id"},
                session=session,
            )
            self.projects[project.name] = project
            if session:
                session.consumed = self._session_consumed
            return {"name": project.name, "status": 0, "message": "processing_started"}

    def get_project(self, name: str) -> dict[str, Any]:
        """Return one project's status, or its full record once it is ready."""
        with self._lock:
            project = self.projects.get(name) or self._strangers.get(name)
            if project is None:
                raise Refusal("project_not_found")
            return project.record(self._clock())

    def list_projects(self) -> dict[str, Any]:
        """Return name, title and status of every project."""
        with self._lock:
            now = self._clock()
            return {"projects": [project.summary(now) for project in self.projects.values()]}

    def take_name(self, name: str | None = None, *, visible: bool = True) -> str:
        """Give a project name to another account, so that your project with this name gets another name.

        :param name: the name; None uses the ``upload_id`` of the session that is created next
        :param visible: whether the other account's project, which is a day old and ready, can be read; it is
            never listed
        :return: the name
        """
        with self._lock:
            if name is None:
                name = self._next_id = self._next_id or _new_id()
            options = {"title": "A stranger's project"}
            created = self._clock() - _STRANGER_AGE_SECONDS
            self._strangers[name] = Project(0, name, created, 0, options) if visible else None
            return name

    def _finished_session(self, upload_id: Any) -> UploadSession:
        session = self._session(upload_id)
        if not session.files or not all(file.complete for file in session.files.values()):
            raise Refusal("project_creation_failed")
        return session

    def _project_name(self, wanted: str) -> str:
        name = wanted
        while name in self._strangers or name in self.projects:
            name = _new_id()
        return name

    # -- for people

    def state(self) -> dict[str, Any]:
        """Return the data for the emulator's page, newest first."""
        with self._lock:
            self._discard_expired()
            now = self._clock()
            sessions = [self._session_state(s) for s in reversed(self.sessions.values())]
            projects = [
                {
                    **project.summary(now),
                    "errors": project.errors,
                    "created": timestamp(project.created_at),
                    "upload_id": project.session.upload_id if project.session else None,
                    **project.contents(),
                }
                for project in reversed(self.projects.values())
            ]
            return {"sessions": sessions, "projects": projects, "violations": list(self.violations)}

    def _session_state(self, session: UploadSession) -> dict[str, Any]:
        files = list(session.files.values())
        shown = [{"name": f.name, **f.progress(), "received": f.arrived()} for f in files[-_SHOWN_FILES:]]
        return {
            "upload_id": session.upload_id,
            "created": timestamp(session.created_at),
            "consumed": session.consumed,
            "files": shown[::-1],
            "file_count": len(files),
            "complete_count": sum(f.complete for f in files),
            "received": sum(f.arrived() for f in files),
            "total": sum(f.total for f in files),
        }


def _check_upload_id(upload_id: Any) -> None:
    if not isinstance(upload_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{8}", upload_id):
        raise Refusal("invalid_upload_id")
