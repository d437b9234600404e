"""File systems in memory that answer like the libraries of real stores: no server, no installation.

Each class keeps the files of all its instances, so that a new instance of a file system finds them. Requests
are recorded, and a test can hook into each request, to replace a file or to fail.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFile, MemoryFileSystem  # type: ignore[import-untyped]
from fsspec.utils import infer_storage_options  # type: ignore[import-untyped]

from airflow_360.sources.store import Store

BEGINNING = datetime(2026, 11, 26, 8, 0, 0, tzinfo=UTC)
NUMBERS = itertools.count(1)


class FakeFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory under paths like ``/srv/scans/a.e57``, with requests that can be counted.

    :cvar requests: the name and path of each request, in order.
    :cvar on_request: called before each request with the file system, the request's name and the path.
    """

    cachable = False
    on_request: ClassVar[Callable[[Any, str, str], None]]
    requests: ClassVar[list[tuple[str, str]]]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.store, cls.pseudo_dirs, cls.requests = {}, [""], []
        cls.on_request = staticmethod(lambda fs, name, path: None)

    # -- used by tests

    @classmethod
    def put(cls, path: str, data: bytes) -> None:
        """Put a file there, a second after the one before; ``path`` is written as the library does."""
        MemoryFile(cls(), path, data).commit()

    @classmethod
    def names(cls) -> list[str]:
        """Return the recorded requests, without the paths."""
        return [name for name, _ in cls.requests]

    # -- used by the library

    def facts(self, number: int) -> Mapping[str, Any]:
        """Return the store's metadata of a numbered version of a file, besides its size."""
        raise NotImplementedError

    def listed_facts(self, number: int) -> Mapping[str, Any]:
        """Return the same metadata in the form of a listing."""
        return self.facts(number)

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        path = self._asked("info", path)
        if path in self.store:
            return self._entry(path)
        if path in ("", "/"):
            return {"name": path, "size": 0, "type": "directory"}
        return dict(super().info(path))

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        path = self._asked("ls", path)
        entries = [self._filled(entry) for entry in super().ls(path, detail=True)]
        return entries if detail else [entry["name"] for entry in entries]

    def find(self, path: str, detail: bool = False, **more: Any) -> Any:
        path = self._asked("find", path)
        found = {name: self._filled(entry) for name, entry in super().find(path, detail=True).items()}
        return found if detail else list(found)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        path = self._asked("cat_file", path)
        if path not in self.store:
            raise FileNotFoundError(path)
        data: bytes = self.store[path].getvalue()
        if start and start >= len(data):
            raise OSError(f"416 Requested range not satisfiable: {path}")
        return data[start:end]

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **more)
        path = self._asked("open", path)
        if path not in self.store:
            raise FileNotFoundError(path)
        return _OpenFile(self, path)

    def exists(self, path: str, **more: Any) -> bool:
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def _asked(self, name: str, path: str) -> str:
        path = self._strip_protocol(path)
        self.requests.append((name, path))
        type(self).on_request(self, name, path)
        return path

    def _filled(self, entry: dict[str, Any]) -> dict[str, Any]:
        return self._entry(entry["name"], listed=True) if entry["type"] == "file" else entry

    def _entry(self, path: str, *, listed: bool = False) -> dict[str, Any]:
        file = self.store[path]
        number = vars(file).setdefault("number", next(NUMBERS))
        facts = self.listed_facts(number) if listed else self.facts(number)
        return {"name": path, "size": len(file.getbuffer()), "type": "file", **facts}


class _OpenFile(io.RawIOBase):
    """A file that is read in place: if it is replaced, its readers read the new bytes from then on."""

    def __init__(self, fs: FakeFileSystem, path: str) -> None:
        super().__init__()
        self.fs = fs
        self.path = path
        self.offset = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.offset = offset
        return offset

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        path = self.fs._asked("read", self.path)
        if path not in self.fs.store:
            raise FileNotFoundError(path)
        data: bytes = self.fs.store[path].getvalue()[self.offset :]
        data = data if size is None or size < 0 else data[:size]
        self.offset += len(data)
        return data


class Objects(FakeFileSystem):
    """Objects in buckets, under names like ``bucket/scans/a.e57``; a bucket exists if it was made.

    :cvar lists_itself: whether a listing of the folder of an object's name has the object, too.
    """

    root_marker = ""
    lists_itself = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        for protocol in cls.protocol:
            path = path.removeprefix(f"{protocol}://")
        return path.lstrip("/").rstrip("/")

    @classmethod
    def make_bucket(cls, name: str) -> None:
        cls.pseudo_dirs.append(name)

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        path = self._asked("ls", path).rstrip("/")
        entries: dict[tuple[str, bool], dict[str, Any]] = {}
        for name in self.store:
            if name.startswith(f"{path}/"):
                first, folder, _ = name.removeprefix(f"{path}/").partition("/")
                entry = {"name": f"{path}/{first}", "size": 0, "type": "directory"}
                entries[first, bool(folder)] = entry if folder else self._entry(name, listed=True)
        if path in self.store and (not entries or self.lists_itself):
            entries["", False] = self._entry(path, listed=True)
        if not entries and path not in self.pseudo_dirs:
            raise FileNotFoundError(path)
        return list(entries.values()) if detail else [entry["name"] for entry in entries.values()]

    def find(self, path: str, detail: bool = False, **more: Any) -> Any:
        path = self._asked("find", path).rstrip("/")
        names = sorted(name for name in self.store if name.startswith(f"{path}/") or name == path)
        return {name: self._entry(name, listed=True) for name in names} if detail else names


class GoogleCloud(Objects):
    """As gcsfs: ``mtime`` is a ``datetime``, and the generation identifies a version."""

    protocol = ("gs", "gcs")

    def facts(self, number: int) -> Mapping[str, Any]:
        written = BEGINNING + timedelta(seconds=number)
        return {
            "mtime": written,
            "updated": written.isoformat(),
            "generation": str(1_700_000_000_000_000 + number),
            "metageneration": "1",
            "etag": f"CL{number}=",
        }

    def sign(self, path: str, expiration: int = 100, **more: Any) -> str:
        path = self._strip_protocol(path)
        return f"https://storage.googleapis.com/{path}?X-Goog-Expires={expiration}&X-Goog-Signature=5ec7e7"


class Azure(Objects):
    """As adlfs: ``last_modified`` and ``etag``, listings that are kept, and names that are parsed as URLs."""

    protocol = ("abfs", "az", "abfss")
    lists_itself = True

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        if not path.startswith(tuple(f"{protocol}://" for protocol in cls.protocol)):
            path = f"abfs://{path.lstrip('/')}"
        options = infer_storage_options(path)
        query = f"?{options['url_query']}" if options.get("url_query") else ""
        return str(f"{options.get('host', '')}{options['path']}{query}").lstrip("/")

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"last_modified": BEGINNING + timedelta(seconds=number), "etag": f'"0x8DE{number:X}"'}

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        inner = self._strip_protocol(path).rstrip("/")
        folder = inner.rpartition("/")[0]
        if folder in self.dircache:
            for entry in self.dircache[folder]:
                if entry["name"] == inner:
                    return dict(entry)
        return super().info(inner)

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        inner = self._strip_protocol(path).rstrip("/")
        if inner not in self.dircache:
            entries = super().ls(inner, detail=True)
            self.dircache[inner] = entries
        else:
            entries = self.dircache[inner]
        return entries if detail else [entry["name"] for entry in entries]

    def find(self, path: str, detail: bool = False, **more: Any) -> Any:
        inner = self._strip_protocol(path).rstrip("/")
        if inner in self.store:
            return [inner]
        return super().find(inner, detail=detail)

    def sign(self, path: str, expiration: int = 100, **more: Any) -> str:
        path = self._strip_protocol(path)
        return f"https://account.blob.core.windows.net/{path}?se={expiration}&sig=5ec7e7"


class Sftp(FakeFileSystem):
    """Like sshfs: ``mtime`` is a ``datetime`` of whole seconds; links and pipes have their own types.

    :cvar links: the targets of the links; a target that is not in the store does not exist.
    :cvar pipes: paths that are neither files nor folders.
    """

    protocol: Any = ("sftp", "ssh")
    links: ClassVar[dict[str, str]]
    pipes: ClassVar[set[str]]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.links, cls.pipes = {}, set()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = infer_storage_options(path)["path"]
        return stripped.rstrip("/") or stripped[:1]

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"mtime": BEGINNING + timedelta(seconds=number), "permissions": 0o100644}

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.pipes:
            return {**self.facts(1), "name": path, "size": 0, "type": "unknown"}
        info = super().info(self.links.get(path, path))
        return {**info, "name": f"{path}/" if info["type"] == "directory" else path}

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        path = self._strip_protocol(path)
        return super()._open(self.links.get(path, path), mode, **more)

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        path = self._strip_protocol(path).rstrip("/")
        entries = super().ls(path, detail=True)
        for special, kind in [(link, "link") for link in self.links] + [(p, "unknown") for p in self.pipes]:
            if special.rpartition("/")[0] == path:
                entries.append({**self.facts(1), "name": special, "size": 7, "type": kind})
        return entries if detail else [entry["name"] for entry in entries]


class Disk(FakeFileSystem):
    """A share whose library gives ``mtime`` as seconds, as fsspec's SMB does."""

    protocol = "smb"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = infer_storage_options(path)["path"]
        return stripped.rstrip("/")

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"mtime": (BEGINNING + timedelta(seconds=number)).timestamp()}


class TextTimes(Disk):
    """As FTP: the time is a text."""

    protocol = "ftp"

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"modify": f"{BEGINNING + timedelta(seconds=number):%Y%m%d%H%M%S}"}


class Silent(Disk):
    """A store that reports only sizes."""

    protocol = "silent"

    def facts(self, number: int) -> Mapping[str, Any]:
        return {}


class TightLipped(Disk):
    """A store whose listings contain less than its replies about one file."""

    protocol = "tight"

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"ETag": f'"{number}"', "LastModified": BEGINNING + timedelta(seconds=number)}

    def listed_facts(self, number: int) -> Mapping[str, Any]:
        return {"LastModified": BEGINNING + timedelta(seconds=number)}


class HiddenSizes(Disk):
    """A store that does not report sizes, like some web servers."""

    protocol = "hidden"

    def facts(self, number: int) -> Mapping[str, Any]:
        return {"size": None, "mtime": float(number)}


class SFTPNoConnection(Exception):  # noqa: N818 - asyncssh's name
    """The errors of asyncssh after the connection is lost, by name."""


class LostLine(Sftp):
    """A file system that loses its connection, and then fails permanently; a new one does not.

    :cvar lose_at: the number of further requests until the connection is lost.
    """

    protocol = "lossy"
    lose_at: ClassVar[int] = 0
    opened: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.dead = False
        type(self).opened += 1

    def _asked(self, name: str, path: str) -> str:
        kind = type(self)
        kind.lose_at -= 1
        self.dead = self.dead or kind.lose_at == 0
        if self.dead:
            raise SFTPNoConnection("Connection not open")
        return super()._asked(name, path)


class HttpResponseError(Exception):
    """The errors of Azure's library, by name and status."""

    status_code = 403


class SFTPPermissionDenied(Exception):  # noqa: N818 - asyncssh's name
    """The error of asyncssh, which is not a :class:`PermissionError`."""


class SMBAuthenticationError(Exception):
    """The error of smbprotocol."""


class HttpError(OSError):
    """The error of gcsfs: its status is called ``code``, and may be a text."""

    code: Any = 401


class Denied(Sftp):
    """A store that refuses everything.

    :cvar refusal: the error that it raises.
    """

    protocol = "denied"
    refusal: ClassVar[Exception] = SFTPPermissionDenied("Permission denied")

    def _asked(self, name: str, path: str) -> str:
        raise type(self).refusal


REFUSALS: dict[str, Exception] = {
    "Azure, wrong key": HttpResponseError("Server failed to authenticate the request."),
    "SFTP, no permission": SFTPPermissionDenied("Permission denied"),
    "SFTP, by its system": PermissionError("Permission denied"),
    "SMB, wrong password": SMBAuthenticationError("STATUS_LOGON_FAILURE"),
    "Google, wrong key": HttpError("Invalid Credentials"),
}

#: All stores that listings are tested on.
KINDS: dict[str, type[FakeFileSystem]] = {"gs": GoogleCloud, "abfs": Azure, "sftp": Sftp, "smb": Disk}
#: All that report a time or an ETag, in one way or another.
TELLING: dict[str, type[FakeFileSystem]] = {**KINDS, "ftp": TextTimes, "tight": TightLipped}


def fresh(kind: type[FakeFileSystem]) -> Any:
    """Return a class like another one, with nothing in it."""
    return type(kind.__name__, (kind,), {})


def store_of(kind: type[FakeFileSystem], authority: str = "") -> Store:
    """Return the package's store for a file system."""
    protocol = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
    return Store(kind(), protocol, authority)


@contextmanager
def attached(kind: type[FakeFileSystem], protocol: str, conn_id: str = "") -> Iterator[Any]:
    """Register a file system for a scheme in Airflow, as a DAG file does with ``attach``; yields it."""
    import sys

    from airflow_360.hooks.paths import _attach

    attach = _attach()
    stores = sys.modules[attach.__module__]._STORE_CACHE
    name = f"{protocol}-{conn_id}" if conn_id else protocol
    before = stores.pop(name, None)
    fs = kind()
    attach(protocol=protocol, conn_id=conn_id or None, fs=fs)
    try:
        yield fs
    finally:
        stores.pop(name)
        if before is not None:
            stores[name] = before
