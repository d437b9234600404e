"""A 360 connection: from Airflow's connection to settings, and from settings to a client.

Separate because a trigger reads the connection asynchronously and needs nothing else of the hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_360.get_provider_info import CONN_FIELDS
from airflow_360.hooks.errors import settings_of

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.hooks.clients import ConnectionSettings

__all__ = ["DEFAULT_CONN_ID", "async_client", "connection_settings", "form_widgets", "key_of"]

DEFAULT_CONN_ID = "three_sixty_default"
#: How many triggers of a triggerer set up at once: a thousand would block its event loop for a long time.
MAX_SETUPS = 4
_setups: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def connection_settings(connection: Any) -> ConnectionSettings:
    """Return the settings of Airflow's connection, and mask its key in logs; not for triggers.

    :param connection: the connection.
    :raises ThreeSixtyError: if a field is wrong.
    """
    if unmasked := _unmasked_key(connection):
        mask_secret(unmasked)
    return _settings(connection, connection.extra_dejson)


async def async_client(three_sixty_conn_id: str) -> ThreeSixtyClient:
    """Return a client for a trigger: it sends each request once.

    :param three_sixty_conn_id: the connection, which is looked up without blocking the event loop.
    :raises ThreeSixtyError: if the connection is not defined, has no key, or a field is wrong.
    """
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    def new_client() -> ThreeSixtyClient:
        return _settings(connection, extra).client_without_retries()

    loop = asyncio.get_running_loop()
    async with _setups.setdefault(loop, asyncio.Semaphore(MAX_SETUPS)):
        with settings_of(three_sixty_conn_id):
            connection = await get_async_connection(three_sixty_conn_id, hook=BaseHook)
            extra = await get_async_extra_dejson(connection)
            await _mask_key_in_trigger(connection)
            # In a thread, because it imports requests, which takes 0.2 s, and reads certificates.
            return await asyncio.to_thread(new_client)


def _settings(connection: Any, extra: Mapping[str, Any]) -> ConnectionSettings:
    from airflow_360.hooks.clients import ConnectionSettings  # the only import of all that speaks HTTP

    return ConnectionSettings.of(connection, extra)


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
            default=str(_default_of(field)),
        )
        for name, field in CONN_FIELDS.items()
    }


def _default_of(field: dict[str, Any]) -> Any:
    return field["schema"]["default"]


def key_of(connection: Any) -> str:
    """Return the API key of Airflow's connection: its password, without spaces around it."""
    return (connection.password or "").strip()


def _unmasked_key(connection: Any) -> str:
    """Return the key if the password has spaces around it: Airflow masks the password with its spaces."""
    key = key_of(connection)
    return key if key != connection.password else ""


async def _mask_key_in_trigger(connection: Any) -> None:
    """Mask the key as :func:`connection_settings` does, without blocking the event loop.

    Airflow before 3.2 cannot do this in a trigger: there, the key is redacted only from the server's replies.
    """
    if unmasked := _unmasked_key(connection):
        try:
            from airflow.sdk.log import amask_secret
        except ImportError:
            return
        await amask_secret(unmasked)
