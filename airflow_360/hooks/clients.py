"""The settings of a connection, and the clients that they make.

Separate because it imports all that speaks HTTP. It is imported when a task or trigger connects, not while a
DAG file is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow import __version__ as airflow_version

from airflow_360.api.backoff import Backoff
from airflow_360.api.bandwidth import shared_bandwidth
from airflow_360.api.budget import shared_budget
from airflow_360.api.check import check
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import DEFAULT_SERVER, Transport, server_url
from airflow_360.exceptions import ConfigurationError
from airflow_360.get_provider_info import CONN_FIELDS
from airflow_360.hooks.connection import key_of

__all__ = ["ConnectionSettings"]

#: Seconds to wait for one reply if a person or a triggerer waits for it.
SHORT_REPLY_TIMEOUT_SECONDS = 15.0
DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class ConnectionSettings:
    """The settings of a connection, checked.

    :param server: the server's URL.
    :param key: the API key, a secret.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for the next byte of a reply.
    :param verify: True, False or a certificate file.
    :param rate_limits: the factor of the server's rate limits; None to send without a limit.
    :param rate_limit_wait: seconds to wait in place for a rate limit.
    :param bandwidth_limit: bytes per second of all uploads of a process; 0 for no limit.
    """

    server: str
    key: str = field(repr=False)
    connect_timeout: float
    read_timeout: float
    verify: bool | str
    rate_limits: float | None
    rate_limit_wait: float
    bandwidth_limit: float

    @classmethod
    def of(cls, connection: Any, extra: Mapping[str, Any]) -> ConnectionSettings:
        """Return the settings of Airflow's connection.

        :param connection: host (the server's URL), schema, port, password (the key).
        :param extra: its extra fields; read by the caller, because a trigger must read them asynchronously.
        :raises ThreeSixtyError: if a field is wrong.
        """
        return cls(
            server=server_url(_server(connection)),
            key=key_of(connection),
            connect_timeout=_seconds(extra, "connect_timeout"),
            read_timeout=_seconds(extra, "read_timeout"),
            verify=_verify(extra),
            rate_limits=_factor(extra),
            rate_limit_wait=_seconds(extra, "rate_limit_wait"),
            bandwidth_limit=_limit(extra),
        )

    check = staticmethod(check)  # of a client; here, so that the hook need not import it

    def client(self) -> ThreeSixtyClient:
        """Return a client that retries requests if that is safe.

        :raises ThreeSixtyError: if there is no key.
        """
        return self._client(Backoff(longest_rate_limit_wait=self.rate_limit_wait), math.inf)

    def client_without_retries(self, reply_timeout: float = SHORT_REPLY_TIMEOUT_SECONDS) -> ThreeSixtyClient:
        """Return a client that sends each request once and waits for a reply for a short time.

        For a person who waits for the result of a connection test, and for triggers, which poll again.

        :param reply_timeout: seconds to wait for a whole reply.
        :raises ThreeSixtyError: if there is no key.
        """
        return self._client(Backoff(tries=0), reply_timeout)

    def _client(self, backoff: Backoff, longest: float) -> ThreeSixtyClient:
        transport = Transport(
            self.server,
            self.key,
            connect_timeout=min(self.connect_timeout, longest),
            read_timeout=min(self.read_timeout, longest),
            reply_timeout=None if longest == math.inf else longest,
            verify=self.verify,
            user_agent=f"apache-airflow/{airflow_version}",
            budget=shared_budget(self.server, self.key, self.rate_limits),
        )
        limit = self.bandwidth_limit
        return ThreeSixtyClient(transport, backoff, shared_bandwidth(self.server, limit) if limit else None)


def _server(connection: Any) -> str:
    host = (connection.host or DEFAULT_SERVER).strip()
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    default = str(connection.port) == DEFAULT_PORTS.get(scheme)
    if connection.port and not default and not authority.rpartition("]")[2].partition(":")[2]:
        authority = f"{authority.rstrip(':')}:{connection.port}"
    return f"{scheme}://{authority}{slash}{path}"


def _field(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    return str(_default(name) if value in (None, "") else value).strip()


def _seconds(extra: Mapping[str, Any], name: str) -> float:
    try:
        seconds = float(_field(extra, name))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigurationError(f"The extra field {name!r} must be a number of seconds above 0.")
    return seconds


def _limit(extra: Mapping[str, Any]) -> float:
    try:
        limit = float(_field(extra, "bandwidth_limit"))
    except ValueError:
        limit = -1.0
    if not (limit == 0 or 1024 <= limit < 1e15):
        raise ConfigurationError(
            "The extra field 'bandwidth_limit' must be a number of bytes per second, at least "
            "1024, or 0 for no limit."
        )
    return limit


def _factor(extra: Mapping[str, Any]) -> float | None:
    text = _field(extra, "rate_limits")
    if text.lower() in ("off", "false"):
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise ConfigurationError(
            f"The extra field 'rate_limits' must be a number above 0 or off, not {text!r}."
        )
    return factor


def _verify(extra: Mapping[str, Any]) -> bool | str:
    text = _field(extra, "verify")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not Path(text).exists():
        raise ConfigurationError(
            f"The extra field 'verify' must be true, false or a certificate file, not {text}."
        )
    return text


def _default(name: str) -> Any:
    schema: Any = CONN_FIELDS[name]["schema"]
    return schema["default"]
