"""A 360 connection: from Airflow's connection to settings, and from settings to a client.

Separate because a trigger reads the connection asynchronously and needs nothing else of the hook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_360.exceptions import ConfigurationError
from airflow_360.get_provider_info import CONN_FIELDS
from airflow_360.hooks.errors import settings_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Semaphore

    from airflow_360.api.client import ThreeSixtyClient

__all__ = ["DEFAULT_CONN_ID", "ConnectionSettings", "async_client", "connection_settings", "form_widgets"]

DEFAULT_CONN_ID = "three_sixty_default"
#: Seconds to wait for one reply if a person or a triggerer waits for it.
SHORT_REPLY_TIMEOUT_SECONDS = 15.0
DEFAULT_PORTS = {"http": "80", "https": "443"}
#: How many triggers of a triggerer set up at once: a thousand would block its event loop for a long time.
MAX_SETUPS = 4
_setups: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()


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
        from airflow_360.api.transport import server_url

        return cls(
            server=server_url(_server(connection)),
            key=_key(connection),
            connect_timeout=_seconds(extra, "connect_timeout"),
            read_timeout=_seconds(extra, "read_timeout"),
            verify=_verify(extra),
            rate_limits=_factor(extra),
            rate_limit_wait=_seconds(extra, "rate_limit_wait"),
            bandwidth_limit=_limit(extra),
        )

    def client(self) -> ThreeSixtyClient:
        """Return a client that repeats requests if that is safe.

        :raises ThreeSixtyError: if there is no key.
        """
        from airflow_360.api.backoff import Backoff

        return self._client(Backoff(longest_rate_limit_wait=self.rate_limit_wait), math.inf)

    def client_without_retries(self, reply_timeout: float = SHORT_REPLY_TIMEOUT_SECONDS) -> ThreeSixtyClient:
        """Return a client that sends each request once and waits for a reply for a short time.

        For a person who waits for the result of a connection test, and for triggers, which poll again.

        :param reply_timeout: seconds to wait for a whole reply.
        :raises ThreeSixtyError: if there is no key.
        """
        from airflow_360.api.backoff import Backoff

        return self._client(Backoff(tries=0), reply_timeout)

    def _client(self, backoff: Any, longest: float) -> ThreeSixtyClient:
        from airflow import __version__ as airflow_version

        from airflow_360.api.bandwidth import shared_bandwidth
        from airflow_360.api.budget import shared_budget
        from airflow_360.api.client import ThreeSixtyClient
        from airflow_360.api.transport import Transport

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


def connection_settings(connection: Any) -> ConnectionSettings:
    """Return the settings of Airflow's connection, and mask its key in logs; not for triggers.

    :param connection: the connection.
    :raises ThreeSixtyError: if a field is wrong.
    """
    if unmasked := _unmasked_key(connection):
        mask_secret(unmasked)
    return ConnectionSettings.of(connection, connection.extra_dejson)


async def async_client(three_sixty_conn_id: str) -> ThreeSixtyClient:
    """Return a client for a trigger: it sends each request once.

    :param three_sixty_conn_id: the connection, which is looked up without blocking the event loop.
    :raises ThreeSixtyError: if the connection is not defined, has no key, or a field is wrong.
    """
    import asyncio

    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    def new_client() -> ThreeSixtyClient:
        return ConnectionSettings.of(connection, extra).client_without_retries()

    loop = asyncio.get_running_loop()
    async with _setups.setdefault(loop, asyncio.Semaphore(MAX_SETUPS)):
        with settings_of(three_sixty_conn_id):
            connection = await get_async_connection(three_sixty_conn_id, hook=BaseHook)
            extra = await get_async_extra_dejson(connection)
            await _mask_key_in_trigger(connection)
            # In a thread, because it imports requests, which takes 0.2 s, and reads certificates.
            return await asyncio.to_thread(new_client)


def form_widgets() -> dict[str, Any]:
    """Return the form's extra fields, for Airflow before 3.2."""
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found,unused-ignore]
        BS3TextFieldWidget,
    )
    from wtforms import StringField  # type: ignore[import-untyped,unused-ignore]

    return {
        name: StringField(
            field["label"],
            widget=BS3TextFieldWidget(),
            description=field["description"],
            default=str(_default(name)),
        )
        for name, field in CONN_FIELDS.items()
    }


def _key(connection: Any) -> str:
    return (connection.password or "").strip()


def _unmasked_key(connection: Any) -> str:
    """Return the key if the password has spaces around it: Airflow masks the password with its spaces."""
    key = _key(connection)
    return key if key != connection.password else ""


async def _mask_key_in_trigger(connection: Any) -> None:
    """Mask the key as :func:`client_from` does, without blocking the event loop.

    Airflow before 3.2 cannot do this in a trigger: there, the key is redacted only from the server's replies.
    """
    if unmasked := _unmasked_key(connection):
        try:
            from airflow.sdk.log import amask_secret
        except ImportError:
            return
        await amask_secret(unmasked)


def _server(connection: Any) -> str:
    from airflow_360.api.transport import DEFAULT_SERVER

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
            "The extra field 'bandwidth_limit' must be a number of bytes a second, at least "
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
