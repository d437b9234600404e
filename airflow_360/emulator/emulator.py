"""The emulator as one thing to hold: rules, wire and faults put together, in the current process.

This file is separate because it is the only one that a test author needs to read.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from airflow_360.emulator.chaos import Chaos
from airflow_360.emulator.faults import Fault, FaultScript
from airflow_360.emulator.limits import RateLimiter
from airflow_360.emulator.listener import Listener
from airflow_360.emulator.server import Handler
from airflow_360.emulator.site import Exchange, Site
from airflow_360.emulator.store import DEFAULT_EXTENSIONS, Store

__all__ = ["Emulator"]

_ACCEPT_POLL_SECONDS = 0.02


class Emulator:
    """Serve the whole upload API on loopback while the ``with`` block runs.

    :param port: 0 takes a free one
    :param host: the address to listen on
    :param data_dir: where the bytes lie; None makes a temporary folder that goes when the emulator is closed
    :param processing_seconds: how long a project takes from 0 to 100
    :param faults: the fault script, see :class:`Fault`
    :param chaos: faults by chance for all that the script leaves alone
    :param limits: ``"off"`` for no rate limits, ``"real"`` for those of the contract, or a number that each
        of them is multiplied by
    :param clock: returns the time in seconds since 1970
    :param tls: paths of a certificate and its key, for https
    :param session_consumed: whether ``POST /projects`` ends the session
    :param keep_cut_bytes: whether the bytes of a PUT that was cut off count towards ``received``
    :param extensions: what may be uploaded, lower case, without the dot
    :param max_file_bytes: the most that one file may have
    :param max_session_bytes: the most that all files of a session may have together
    :param quota_bytes: the most that the account may hold
    :param max_body_bytes: the longest body that a proxy before the server lets through; it refuses longer
        ones with a 413 of its own, in HTML
    :param proxy_closes: whether that proxy answers and closes while the body is still being sent
    :param max_exchanges: how many of the last requests are remembered, None for all
    :param keys: the keys that there are, each with its scopes (``projects:read``, ``projects:write``); None
        takes any that begins with ``sk_``, with both
    :param log: takes one line per request, which never holds the key
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        data_dir: str | Path | None = None,
        processing_seconds: float = 1.0,
        faults: Iterable[Fault | Mapping[str, Any]] = (),
        chaos: Chaos | None = None,
        limits: float | Literal["real", "off"] = "off",
        clock: Callable[[], float] = time.time,
        tls: tuple[str | Path, str | Path] | None = None,
        session_consumed: bool = False,
        keep_cut_bytes: bool = True,
        extensions: Collection[str] = DEFAULT_EXTENSIONS,
        max_file_bytes: int | None = None,
        max_session_bytes: int | None = None,
        quota_bytes: int | None = None,
        max_body_bytes: int | None = None,
        proxy_closes: bool = False,
        max_exchanges: int | None = None,
        keys: Mapping[str, Collection[str]] | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.faults = chaos or FaultScript()
        self.faults.add(*faults)
        self._scratch = tempfile.TemporaryDirectory(prefix="emulator-") if data_dir is None else None
        self.store = Store(
            Path(self._scratch.name if self._scratch else data_dir or ""),
            clock,
            processing_seconds=processing_seconds,
            session_consumed=session_consumed,
            keep_cut_bytes=keep_cut_bytes,
            extensions=extensions,
            max_file_bytes=max_file_bytes,
            max_session_bytes=max_session_bytes,
            quota_bytes=quota_bytes,
        )
        factor = {"off": None, "real": 1.0}[limits] if isinstance(limits, str) else float(limits)
        self._site = Site(
            self.store,
            RateLimiter(factor, clock),
            self.faults,
            clock,
            log or _say_nothing,
            max_body_bytes,
            proxy_closes,
            max_exchanges,
            keys,
        )
        self._listener = Listener(
            (host, port), partial(Handler, self._site), _server_context(*tls) if tls else None
        )
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://{host}:{self._listener.server_address[1]}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_ACCEPT_POLL_SECONDS,), name="emulator", daemon=True
        )

    @property
    def exchanges(self) -> list[Exchange]:
        """Return one record per request to the API, in order of arrival."""
        return self._site.exchanges

    @property
    def violations(self) -> list[str]:
        """Return what clients did against the contract that a test should hear of."""
        return self.store.violations

    def close(self) -> None:
        """End every connection and thread, and remove the temporary folder."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._site.closing.set()
        self._listener.end_connections()
        if self._scratch:
            self._scratch.cleanup()

    def __enter__(self) -> Emulator:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the emulator."""
        self.close()


def _say_nothing(line: str) -> None:
    del line


def _server_context(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
