"""The emulator as one object: rules, HTTP and faults together, in the current process.

Separate because authors of tests need to read only this module.
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
    """A server with the whole upload API on loopback, which runs during the ``with`` block.

    :param port: the port to listen on; 0 selects a free one
    :param host: the address to listen on
    :param data_dir: the folder for the bytes; None creates a temporary folder that :meth:`close` removes
    :param processing_seconds: seconds that a project takes from 0 to 100
    :param faults: the fault script, see :class:`Fault`
    :param chaos: random faults for requests that the script does not hit
    :param limits: ``"off"`` for no rate limits, ``"real"`` for those of the contract, or a number by which
        each of them is multiplied
    :param clock: returns the time in seconds since 1970
    :param tls: paths of a certificate and its key, for https
    :param session_consumed: whether ``POST /projects`` ends the session
    :param keep_cut_bytes: whether the bytes of a PUT that was cut off count towards ``received``
    :param extensions: the extensions that may be uploaded, lower case, without the dot
    :param max_file_bytes: the maximum size of one file
    :param max_session_bytes: the maximum size of all files of a session together
    :param quota_bytes: the maximum size of all files of the account
    :param max_body_bytes: the longest body that a proxy in front of the server accepts; it refuses longer
        bodies with a 413 in HTML
    :param proxy_closes: whether that proxy answers and closes the connection while the body is still being
        sent
    :param max_exchanges: how many of the last requests are kept, None for all
    :param keys: the valid keys, each with its scopes (``projects:read``, ``projects:write``); None accepts
        any key that begins with ``sk_``, with both scopes
    :param log: called with one line per request, which never contains the key
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
        """Return the violations of the contract by clients, for tests."""
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
        """Start to listen."""
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
