"""Files in any store that has an fsspec file system: Google Cloud Storage, Azure, SFTP, SMB and others.

Separate from ``s3``, which streams over boto3, and from ``path``, which handles links and pipes. It trusts
the results of ``info`` and ``ls``, and never uses the library's cached listings.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, Any

from airflow_360.exceptions import SourceChangedError, SourceError
from airflow_360.sources import FileInfo, Reader
from airflow_360.sources.ahead import reading_ahead
from airflow_360.sources.errors import changed, missing, not_a_file, refused_file
from airflow_360.sources.file_info import modified_of, version_of
from airflow_360.sources.names import is_hidden, printable
from airflow_360.values import MIB

__all__ = ["OBJECT_STORES", "Store", "StoreLocation", "StoreSource", "store_error"]

log = logging.getLogger(__name__)

#: Object stores: they are listed page by page and read with ranged requests, without opening a file.
OBJECT_STORES = frozenset(("abfs", "abfss", "adl", "az", "gcs", "gs"))
#: Schemes whose library can do only one thing at a time, over one connection for all threads.
SERIAL = frozenset(("ftp",))
#: Bytes of one ranged read of an object: so many that the time to the first byte does not matter.
RANGE_BYTES = 8 * MIB
#: Up to this size a file is checked for changes once, before its last byte. A larger one is also checked
#: before its first byte, so that a wrong file is not sent for hours.
SMALL_BYTES = RANGE_BYTES
MAX_REASON_CHARACTERS = 300
#: The type of a broken link; defined only in this package.
DANGLING = "dangling link"

#: Errors that are permanent in every store.
PERMANENT = (FileNotFoundError, ImportError, NotADirectoryError, PermissionError, ValueError)
#: Parts of the names of permanent errors in the stores' libraries that are no :class:`PermissionError`.
PERMANENT_NAMES = (
    "AccessDenied",
    "Authentication",
    "Forbidden",
    "LogonFailure",
    "NotFoundException",
    "PermissionDenied",
    "RefreshError",  # Google: the key is wrong or was revoked
)
PERMANENT_STATUSES = (401, 403)
#: What sshfs says, with a :class:`ValueError`, if the connection breaks while it opens a channel.
LOST_CHANNEL = "Can't create any SFTP connections"
#: Errors that libraries raise during login or signing if the connection lacks a setting.
SETTING_ERRORS = (AttributeError, KeyError, TypeError)


class Store:
    """One file system, with its connection.

    After a temporary error it is opened again, because some libraries (sshfs) keep a broken connection.

    :param fs: an fsspec file system.
    :param scheme: the scheme of its paths.
    :param authority: the part between ``scheme://`` and the path: a connection, a bucket, or both.
    """

    def __init__(self, fs: Any, scheme: str, authority: str) -> None:
        self.conn_id, _, bucket = authority.rpartition("@")
        self.is_object_store = scheme in OBJECT_STORES
        self._prefix = f"{scheme}://{authority}/"
        self._lock = threading.Lock()
        self._turn: AbstractContextManager[Any] = threading.RLock() if scheme in SERIAL else nullcontext()
        self._warned = False
        self._fs = _uncached(fs)
        self._root = _root(fs, scheme, bucket)

    def inner(self, path: str) -> str:
        """Return a path in the library's form.

        :param path: the path as a user writes it.
        """
        inner = self._root + path.removeprefix(self._prefix).lstrip("" if self.is_object_store else "/")
        return inner.rstrip("/") or self._root

    def below(self, path: str, relative: str) -> str:
        """Return the path of a file or folder below a folder, as a user writes it.

        :param path: the folder, as a user writes it.
        :param relative: the path below it.
        """
        folder = path.removeprefix(self._prefix).rstrip("/")
        return f"{self._prefix}{folder}/{relative}" if folder else f"{self._prefix}{relative}"

    @contextmanager
    def reading(self, path: str, fs: Any = None) -> Iterator[Any]:
        """Provide the file system, and turn all exceptions of its library into this package's errors.

        :param path: the path as a user writes it.
        :param fs: the file system of an open file; by default the current one.
        """
        fs = fs or self._fs
        try:
            with self._turn:
                yield fs
        except (SourceError, SourceChangedError):
            raise
        except Exception as error:
            translated = store_error(error, path, self.conn_id)
            if translated.retryable:
                self._renew(fs)
            raise translated from error

    def info(self, path: str) -> Mapping[str, Any]:
        """Ask the store for its info about a file or folder.

        :param path: the path as a user writes it.
        :raises SourceError: if it does not exist or cannot be read.
        """
        with self.reading(path) as fs:
            info: Mapping[str, Any] = fs.info(self.inner(path))
            return info

    def file_info(self, info: Mapping[str, Any], path: str, relative: str) -> FileInfo:
        """Return a file in a listing; warn once if the store cannot distinguish two versions of a file."""
        version, written = version_of(info), modified_of(info)
        if version is None and written is None and info.get("type", "file") == "file" and not self._warned:
            self._warned = True
            log.warning(
                "%s: this store reports neither a modification time nor an ETag of a file. The task cannot "
                "notice if a file is replaced by another one of the same size.",
                path,
            )
        modified = None if info.get("generation") else written
        size, kind, fault = info.get("size"), info.get("type", "file"), ""
        if kind == DANGLING:
            fault = "is a broken link"
        elif kind not in ("file", "link"):
            fault = "is no regular file"
        elif size is None:
            fault = "has a size that its store does not tell"
        return FileInfo(path, relative, int(size or 0), version, modified, written=written, fault=fault)

    def _renew(self, failed: Any) -> None:
        with self._lock:
            if self._fs is not failed:
                return  # another thread has already renewed it
            try:
                options = {**failed.storage_options, "skip_instance_cache": True}
                self._fs = _uncached(type(failed)(*failed.storage_args, **options))
            except Exception as error:  # noqa: BLE001 - the old one fails again and reports the reason
                log.debug("The file system could not be opened again: %s", type(error).__name__)


@dataclass(frozen=True)
class StoreSource:
    """A file of a store.

    It is checked for changes before its last byte, and, if it is large or resumed, also when it is opened.

    :param store: its store.
    :param info: the file in its listed version.
    """

    store: Store
    info: FileInfo

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return self.info.path

    @property
    def size(self) -> int:
        """Return the listed length in bytes."""
        return self.info.size

    @property
    def fingerprint(self) -> str:
        """Return size, version (generation or ETag) and modification time, if the store reports them."""
        return f"{self.info.size}-{self.info.etag}-{self.info.modified}"

    def open(self, offset: int) -> Reader:
        """Open the file at an offset, and read ahead of the upload.

        :param offset: bytes from the start.
        :raises SourceChangedError: if the file has changed.
        :raises SourceError: if it cannot be read.
        """
        if offset or self.size > SMALL_BYTES:
            self.check()
        reader = _RangeReader(self, offset) if self.store.is_object_store else self._open(offset)
        return reading_ahead(reader, self.size - offset)

    def read_range(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range.

        It does not ask whether the file has changed; an upload does that.

        :raises SourceError: if it cannot be read.
        """
        if self.store.is_object_store:
            return _RangeReader(self, offset).fetched(length)
        data = b""
        with closing(self._open(offset)) as reader:
            while len(data) < length and (block := reader.read(length - len(data))):
                data += block
        return data

    def check(self) -> None:
        """Ask the store again, with one request, or two in Google Cloud Storage.

        :raises SourceChangedError: if the file has changed.
        """
        now = self.store.file_info(self.store.info(self.path), self.path, self.info.relative)
        if _differ(self.info, now):
            raise changed(self.path, self.info, now)

    def _open(self, offset: int) -> Reader:
        with self.store.reading(self.path) as fs:
            return _FileReader(self, fs, _open(fs, self.store.inner(self.path), offset))


class _FileReader:
    def __init__(self, source: StoreSource, fs: Any, file: IO[bytes]) -> None:
        self._source = source
        self._fs = fs
        self._file = file

    def read(self, size: int, /) -> bytes:
        with self._source.store.reading(self._source.path, self._fs):
            return self._file.read(size)

    def close(self) -> None:
        try:
            self._file.close()
        except Exception as error:  # noqa: BLE001 - a broken connection cannot be closed properly
            log.debug("%s could not be closed: %s", self._source.path, type(error).__name__)


class _RangeReader:
    def __init__(self, source: StoreSource, offset: int) -> None:
        self._source = source
        self._offset = offset
        self._block = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        if not self._block and (wanted := min(RANGE_BYTES, self._source.size - self._offset)):
            self._block = memoryview(self.fetched(wanted))[:wanted]
            self._offset += len(self._block)
        piece, self._block = self._block[:size], self._block[size:]
        return bytes(piece)

    def fetched(self, wanted: int) -> bytes:
        """Return the next bytes with one request."""
        inner = self._source.store.inner(self._source.path)
        try:
            with self._source.store.reading(self._source.path) as fs:
                block: bytes = fs.cat_file(inner, start=self._offset, end=self._offset + wanted)
                return block
        except SourceError as error:
            if error.retryable:  # a store refuses a range if the object is shorter now
                self._source.check()
            raise

    def close(self) -> None:
        self._block = memoryview(b"")


class StoreLocation:
    """A path of a store.

    :param store: the store.
    :param path: the path as a user writes it.
    """

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    @property
    def path(self) -> str:
        """Return the path as a user would write it."""
        return self._path

    def is_file(self) -> bool:
        """Return whether the path is a file."""
        info = self._found()
        return bool(info) and not _is_folder(info) and not self._path.endswith("/")

    def is_folder(self) -> bool:
        """Return whether the path is a folder."""
        return _is_folder(self._found())

    def info(self) -> FileInfo:
        """Return the file at the path.

        :raises SourceError: if it is a folder, does not exist, or cannot be read.
        """
        info = self._store.info(self._path)
        if _is_folder(info) or self._path.endswith("/"):
            raise not_a_file(self._path)
        file = self._store.file_info(info, self._path, self._path.rpartition("/")[2])
        if file.fault:
            raise refused_file(self._path, file.fault)
        return file

    def files(self, depth: int | None) -> Iterator[FileInfo]:
        """Yield the files below. Hidden folders and links to folders are not entered.

        If the folder is missing but its parent exists, there are no files.

        :param depth: how many levels of folders to enter; None all.
        :raises SourceError: if it is a file, its parent is missing, or it cannot be read.
        """
        found = self._find() if self._store.is_object_store and depth is None else None
        if found is None:
            found = self._walk(self._children(self._path), "", depth)
        for info, relative in found:
            yield self._store.file_info(info, self._store.below(self._path, relative), relative)

    def folders(self) -> Iterator[str]:
        """Yield the paths of the folders directly below that are not hidden, each as :meth:`path` is written.

        :raises SourceError: as :meth:`files`.
        """
        for info, name in self._children(self._path):
            if _is_folder(info) and not is_hidden(name):
                yield self._store.below(self._path, name)

    def refused_folders(self) -> Iterator[FileInfo]:
        """Yield nothing: the store decides which targets its links may have."""
        return iter(())

    def source(self, info: FileInfo) -> StoreSource:
        """Return the bytes of a listed file in its listed version, without a request."""
        return StoreSource(self._store, info)

    def link(self, seconds: int) -> str:
        """Return a presigned URL of the file. It is a secret: anybody who has it can read the file.

        :param seconds: how long it is valid.
        :raises SourceError: if the file does not exist, or the store or its connection cannot sign URLs.
        """
        self.info()
        with self._store.reading(self._path) as fs:
            try:
                return str(fs.sign(self._store.inner(self._path), expiration=seconds))
            except NotImplementedError:
                raise SourceError(
                    f"{self._path}: the library of this store cannot create presigned URLs. Upload the "
                    "file instead, or pass a link as download_link.",
                    path=self._path,
                ) from None
            except SETTING_ERRORS as error:
                raise store_error(error, self._path, self._store.conn_id, opening=True) from error

    def _found(self) -> Mapping[str, Any]:
        try:
            return self._store.info(self._path)
        except SourceError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                return {}
            raise

    def _find(self) -> Iterator[tuple[Mapping[str, Any], str]] | None:
        """List all objects below, page by page; None if the library cannot, as adlfs if an object has the
        folder's name.
        """
        inner = self._store.inner(self._path)
        base = f"{inner}/"
        with self._store.reading(self._path) as fs:
            found = fs.find(inner, detail=True)
        if not isinstance(found, dict):
            return None
        if not found:
            self._check_parent()
        folders = _folders_of(found)
        return (
            (found[name], name.removeprefix(base))
            for name in sorted(found)
            if name.startswith(base) and name != base and not _is_marker(found[name], name in folders)
        )

    def _walk(
        self, children: list[tuple[Mapping[str, Any], str]], prefix: str, depth: int | None
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        for info, name in children:
            relative = f"{prefix}{name}"
            path = self._store.below(self._path, relative)
            if info.get("type") == "link" and not is_hidden(name):
                info = self._behind(path)
                if _is_folder(info):
                    log.warning("%s is a link to a folder, and is not entered.", printable(path))
                    continue
            if not _is_folder(info):
                yield info, relative
            elif depth != 1 and not is_hidden(name):
                yield from self._walk(self._children(path), f"{relative}/", depth and depth - 1)

    def _behind(self, path: str) -> Mapping[str, Any]:
        """Return the info about the target of a link."""
        try:
            return self._store.info(path)
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {"type": DANGLING, "size": 0}
            raise

    def _children(self, path: str) -> list[tuple[Mapping[str, Any], str]]:
        """Return the direct children of a folder with their names, sorted, with one request per page."""
        inner = self._store.inner(path)
        try:
            with self._store.reading(path) as fs:
                entries = fs.ls(inner, detail=True)
                if not self._store.is_object_store and _is_itself(entries, inner):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except SourceError as error:
            if path != self._path or not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._check_parent()
            return []
        named = [(info, str(info["name"]).rstrip("/").rpartition("/")[2]) for info in entries]
        own = inner.rstrip("/")
        folders = {name for info, name in named if _is_folder(info)}
        return sorted(
            (
                (info, name)
                for info, name in named
                if str(info["name"]).rstrip("/") != own
                and (_is_folder(info) or not _is_marker(info, name in folders))
            ),
            key=lambda child: child[1],
        )

    def _check_parent(self) -> None:
        """Refuse a folder if its parent, or in an object store its bucket, is missing."""
        inner = self._store.inner(self._path)
        parent = inner.split("/", 1)[0] if self._store.is_object_store else inner.rpartition("/")[0]
        if not parent:
            return
        try:
            with self._store.reading(self._path) as fs:
                fs.info(parent)
        except SourceError as error:
            # An account that may list objects may have no permission to read the bucket's info.
            denied = not error.retryable and not isinstance(error.__cause__, FileNotFoundError)
            if not (denied and self._store.is_object_store):
                raise


def store_error(error: Exception, path: str, conn_id: str, *, opening: bool = False) -> SourceError:
    """Return an error of a store's library as an error that names path and connection.

    :param error: the library's error.
    :param path: the path as a user writes it.
    :param conn_id: the connection; empty for the default one.
    :param opening: whether the library was logging in or signing; a missing setting raises odd errors then.
    """
    if isinstance(error, FileNotFoundError):
        return missing(path)
    if isinstance(error, IsADirectoryError):
        return not_a_file(path)
    whose = f"connection {conn_id!r}" if conn_id else "the store's default connection"
    retryable = not _is_permanent(error) and not (opening and isinstance(error, SETTING_ERRORS))
    advice = "The store may not answer at the moment." if retryable else f"Check the path and {whose}."
    return SourceError(
        f"{printable(path)} cannot be read with {whose}: {_reason(error)}. {advice}",
        path=path,
        retryable=retryable,
    )


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, PERMANENT):
        return LOST_CHANNEL not in str(error)
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # gcsfs
        return True
    statuses = (getattr(error, name, None) for name in ("status_code", "status", "code"))
    return any(status in PERMANENT_STATUSES for status in statuses if isinstance(status, int)) or any(
        part in kind.__name__ for kind in type(error).__mro__ for part in PERMANENT_NAMES
    )


def _reason(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error)
    line = printable(" ".join(str(said).split()))
    kind = "" if getattr(error, "strerror", None) else f"{type(error).__name__}: "
    return (kind + line)[:MAX_REASON_CHARACTERS].rstrip(" .:")


def _is_folder(info: Mapping[str, Any]) -> bool:
    return info.get("type") == "directory"


def _open(fs: Any, inner: str, offset: int) -> IO[bytes]:
    file: IO[bytes] = fs.open(inner, "rb")
    try:
        file.seek(offset)
    except BaseException:
        file.close()
        raise
    return file


def _is_itself(entries: Sequence[Mapping[str, Any]], inner: str) -> bool:
    """Return whether a listing is that of a file: many libraries return the file itself."""
    return len(entries) == 1 and str(entries[0]["name"]) == inner and not _is_folder(entries[0])


def _is_marker(info: Mapping[str, Any], has_folder: bool) -> bool:
    """Return whether an object stands for a folder: adlfs removes the slash from the marker's name."""
    return _is_folder(info) or (has_folder and not info.get("size"))


def _folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders that the names of objects imply."""
    folders: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in folders:
            folders.add(name)
    return folders


def _differ(before: FileInfo, now: FileInfo) -> bool:
    """Compare the values that the store told both times: some stores tell less in a listing."""
    told = ((before.etag, now.etag), (before.modified, now.modified))
    return (
        before.size != now.size
        or bool(now.fault)
        or any(old != new for old, new in told if old is not None and new is not None)
    )


def _root(fs: Any, scheme: str, bucket: str) -> str:
    """Return the top-level path in the library's form. Names below it are never parsed as a URL."""
    known = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    own = scheme if scheme in known else known[0]  # Airflow may have registered it under another name
    return str(fs._strip_protocol(f"{own}://{bucket}/x")).removesuffix("x")


def _is_inner(path: object) -> bool:
    return isinstance(path, str) and "://" not in path


def _uncached(fs: Any) -> Any:
    """Prevent a file system from using cached listings and from parsing names as URLs."""
    cache = getattr(fs, "dircache", None)
    if cache is not None and hasattr(cache, "use_listings_cache"):
        cache.clear()
        cache.use_listings_cache = False
    strip = fs._strip_protocol
    if strip("b/x?y#z") != "b/x?y#z" and strip("b/x") == "b/x":
        fs._strip_protocol = lambda path: path.lstrip("/") if _is_inner(path) else strip(path)
    return fs
