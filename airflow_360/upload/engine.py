"""Resumable upload of one file into one upload session.

The engine asks how much the server has, sends the next range, and trusts only the ``received`` in the reply.
If the result of a request is unknown, it waits and resyncs, because the server may expect other bytes by
then. So it is a loop, and not a decorator that retries the same request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from airflow_360.api.bandwidth import Bandwidth
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.exceptions import (
    FileRejectedError,
    NoReplyError,
    OffsetMismatchError,
    RateLimitedError,
    ServerError,
    SourceChangedError,
    SourceError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadStalledError,
)
from airflow_360.sources import Reader, Source
from airflow_360.texts import size_text
from airflow_360.upload.ranges import FIRST_CHUNK_BYTES, ChunkSizer, content_range
from airflow_360.values import MIB

__all__ = ["OnProgress", "upload"]

log = logging.getLogger(__name__)

PROBE_BYTES = 1024  # sent in one piece, so that a refusal can be read before the connection ends
MAX_SENT_FACTOR = 3  # an upload sends at most this many times its file's bytes
BLOCK_BYTES = MIB  # per read and send: measured to be as fast as larger blocks

#: Called with the server's numbers after each reply that contains them.
OnProgress = Callable[[FileProgress], None]


def upload(
    client: ThreeSixtyClient,
    upload_id: str,
    source: Source,
    filename: str,
    *,
    chunks: ChunkSizer | None = None,
    ask: bool = True,
    progress: FileProgress | None = None,
    on_begin: Callable[[int], None] | None = None,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FileProgress:
    """Upload one file and return when the server has finalized it.

    An empty file, and a file that fits in one chunk and is new to the server, is sent as one whole-file PUT.
    Any other file is sent in chunks from the server's high-water mark, one PUT after the other.

    :param client: the API.
    :param upload_id: the session.
    :param source: the bytes.
    :param filename: the file's flat name on the server.
    :param chunks: the size of chunks. By default it adapts to the line, so that a chunk takes some seconds.
    :param ask: whether to ask the server for the file's progress before the first byte. Only the first
        attempt at a small file may omit this, because a second PUT of a complete file is accepted with any
        content.
    :param progress: the file's progress, if it is already known and ``ask`` is False; None for a new file.
    :param on_begin: called once, before the first byte is sent, with the number of bytes on the server.
    :param on_progress: called with the server's numbers.
    :param stop: set it in another thread to end the upload after the request that is being sent.
    :param clock: returns the time in seconds, for the sizing of chunks.
    :returns: the complete file's progress; it may be incomplete only if ``stop`` was set.
    :raises SourceChangedError: if the upload started with another size, or the source ends early.
    :raises UploadStalledError: if the high-water mark did not grow in several rounds, or if the next bytes
        would bring the sent bytes to more than three times the file's size.
    :raises RateLimitedError: if the server asks for a longer wait than is allowed here.
    :raises ApiError: if the server refuses the upload; this is not retried.
    :raises SourceError: if the source cannot be read.
    """
    feed = _Feed(source, client.bandwidth)
    try:
        return _Upload(
            client, upload_id, filename, source, feed, chunks or ChunkSizer(), on_progress, clock
        ).run(ask, progress, on_begin or _ignore, stop or threading.Event())
    finally:
        feed.close()


class _Upload:
    def __init__(
        self,
        client: ThreeSixtyClient,
        upload_id: str,
        filename: str,
        source: Source,
        feed: _Feed,
        chunks: ChunkSizer,
        on_progress: OnProgress | None,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._address = (upload_id, filename)
        self._source = source
        self._feed = feed
        self._chunks = chunks
        self._sending = 0  # bytes of the current or last PUT
        self._probe_next = False
        self._sent = 0  # bytes in total, also those that the server does not have
        self._last_failure: ThreeSixtyError | None = None
        self._on_progress = on_progress or _ignore
        self._clock = clock
        self._progress: FileProgress | None = None
        self._highest = 0
        self._delays = client.backoff.delays()

    def run(
        self,
        ask: bool,
        progress: FileProgress | None,
        on_begin: Callable[[int], None],
        stop: threading.Event,
    ) -> FileProgress:
        self._learn(self._client.get_file_progress(*self._address) if ask else progress)
        if ask and self._complete:
            log.info("%s: already complete on the server, nothing to send", self._address[1])
        elif self._received and not self._complete:
            received, size = size_text(self._received), size_text(self._source.size)
            log.info("%s: resumes at %s of %s (byte %d)", self._address[1], received, size, self._received)
        on_begin(self._received)
        while not (self._complete or stop.is_set()):
            self._round()
        return self._progress or FileProgress(0, self._source.size, complete=False)

    def _round(self) -> None:
        """Send the next bytes; if the server's high-water mark did not grow, wait, and finally give up."""
        before = self._received
        try:
            self._learn(self._send())
        except OffsetMismatchError as error:
            self._learn(FileProgress(error.received, self._source.size, complete=False))
        except SourceChangedError as error:
            error.filename, error.received = self._address[1], self._received
            raise
        except FileRejectedError as error:
            if error.status != 413 or error.code or not self._chunks.too_large(self._sending):
                raise
            log.warning("%s Sending at most %s at a time from here on.", error, size_text(self._chunks.size))
            return
        except ThreeSixtyError as error:
            self._failed(error)
            return
        if self._received <= before and not self._complete:
            self._wait(self._stalled())

    def _failed(self, error: ThreeSixtyError) -> None:
        self._last_failure = error
        if not (isinstance(error, NoReplyError) and error.idle):
            if self._sending > PROBE_BYTES and _may_be_its_size(error):
                self._chunks.failed(self._sending)
            # A refusal that arrives while the body is still being sent may be lost with the connection. After
            # a small body it can be read.
            self._probe_next = isinstance(error, NoReplyError)
            self._wait(error)
        self._learn(self._client.get_file_progress(*self._address))

    def _send(self) -> FileProgress | None:
        offset, size = self._received, self._source.size
        length = self._sending = min(self._chunks.size, size - offset)
        if self._probe_next and length > PROBE_BYTES:
            length = self._sending = PROBE_BYTES
            self._highest = max(self._highest, offset + PROBE_BYTES)  # this growth does not reset the backoff
        self._probe_next = False
        if size == 0:
            self._source.check()
            return self._client.put_file(*self._address, b"")
        if length <= 0:  # the server has all bytes, but has not finalized the file
            return self._client.get_file_progress(*self._address)
        self._check_sent(length)
        self._feed.reached = offset
        try:
            return self._put(_Body(self._feed, offset, length), offset, length)
        finally:
            self._sent += self._feed.reached - offset

    def _put(self, body: _Body, offset: int, length: int) -> FileProgress:
        began = self._clock()
        if self._progress is None and length == self._source.size:
            progress = self._client.put_file(*self._address, body)
        else:
            range_ = content_range(offset, length, self._source.size)
            progress = self._client.put_chunk(*self._address, body, range_)
        if length != PROBE_BYTES:
            self._chunks.took(length, self._clock() - began)
            self._last_failure = None
        return progress

    def _check_sent(self, length: int) -> None:
        """Give up before a file's bytes are sent too often, for example if a proxy ends each request."""
        if self._sent + length <= max(MAX_SENT_FACTOR * self._source.size, FIRST_CHUNK_BYTES):
            return
        if isinstance(self._last_failure, RateLimitedError):
            raise self._last_failure
        raise self._given_up(
            f"{size_text(self._sent)} were sent, and the server has {self._received:,} of "
            f"{self._source.size:,} bytes. If a proxy ends long requests, raise its limits of time and size, "
            "or set a smaller chunk_size.",
            self._last_failure,
        ) from self._last_failure

    def _learn(self, progress: FileProgress | None) -> None:
        self._progress = progress
        if progress is None:
            return
        if progress.total != self._source.size:
            raise SourceChangedError(
                f"{self._address[1]}: this upload started with {progress.total:,} bytes, and "
                f"{self._source.path} has {self._source.size:,} now. Clear the session task to start over.",
                filename=self._address[1],
                received=progress.received,
                total=progress.total,
            )
        if progress.received > self._highest:
            self._highest = progress.received
            self._delays = self._client.backoff.delays()
        self._on_progress(progress)

    def _wait(self, error: ThreeSixtyError) -> None:
        delay = next(self._delays, None)
        if delay is not None or not error.retryable:
            self._client.backoff.wait(error, delay or 0.0)
        elif isinstance(error, (RateLimitedError, SourceError, UploadStalledError)):
            raise error
        else:
            raise self._stalled(error) from error

    @property
    def _complete(self) -> bool:
        return self._progress is not None and self._progress.complete

    @property
    def _received(self) -> int:
        return self._progress.received if self._progress else 0

    def _stalled(self, error: ThreeSixtyError | None = None) -> UploadStalledError:
        stand = f"{self._received:,} of {self._source.size:,} bytes"
        return self._given_up(f"upload stalled at {stand}: the server accepts no more.", error)

    def _given_up(self, why: str, error: ThreeSixtyError | None) -> UploadStalledError:
        last = f" The last failure: {error}" if error else ""
        return UploadStalledError(
            f"{self._address[1]}: {why}{last} Run the task again to resume from there.",
            filename=self._address[1],
            received=self._received,
            total=self._source.size,
        )


def _may_be_its_size(error: ThreeSixtyError) -> bool:
    """Return whether a PUT may have failed because it was large or took long."""
    match error:
        case NoReplyError():
            return error.sent
        case ServerError():
            return error.retry_after is None
    return isinstance(error, UnexpectedReplyError) and error.status == 408


def _ignore(news: object) -> None:
    pass


class _Feed:
    """The reader of a source, kept open across chunks and reopened only if the next byte is elsewhere."""

    def __init__(self, source: Source, bandwidth: Bandwidth | None) -> None:
        self._source = source
        self._bandwidth = bandwidth
        self._most = min(BLOCK_BYTES, bandwidth.block) if bandwidth else BLOCK_BYTES
        self._reader: Reader | None = None
        self._offset = 0
        self.reached = 0  # offset of the next byte to send

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        end = offset + length
        while offset < end:
            block = self._block(offset, min(self._most, end - offset))
            if not block:
                raise SourceChangedError(
                    f"{self._source.path} ends at {offset:,} bytes and had {self._source.size:,} when the "
                    "upload started. Wait until it is completely written, then clear the session task.",
                    total=self._source.size,
                )
            self._offset = self.reached = offset = offset + len(block)
            if offset == self._source.size:
                self._source.check()  # before the last byte makes the file complete on the server
            if self._bandwidth:
                self._bandwidth.wait(len(block))
            yield block

    def _block(self, offset: int, length: int) -> bytes:
        """Read a block; if the reader fails, reopen it once at the same offset."""
        try:
            return self._reader_at(offset).read(length)
        except SourceError as error:
            self.close()
            if not error.retryable:
                raise
            log.warning("%s Opening it again at byte %d.", error, offset)
        try:
            return self._reader_at(offset).read(length)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _reader_at(self, offset: int) -> Reader:
        if self._reader is None or self._offset != offset:
            self.close()
            self._reader = self._source.open(offset)
            self._offset = offset
        return self._reader


class _Body:
    """The body of one PUT: sized, so that Content-Length is sent, and streamed in blocks."""

    def __init__(self, feed: _Feed, offset: int, length: int) -> None:
        self._feed = feed
        self._offset = offset
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return self._feed.blocks(self._offset, self._length)
