"""Airflow masks the key and presigned links in logs and in the UI."""

from __future__ import annotations

import asyncio
import importlib
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, redact

from airflow_360.emulator import Emulator
from airflow_360.hooks.connection import async_client
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.project import CreateProjectOperator
from tests.airflow.conftest import StateStore, connect, context

SIGNATURE = "7cf1a0d2e4b6983c5f70"
TOKEN = "IQoJb3JpZ2luX2VjEK///+w8aFz1=="
LINK = (
    f"https://scans.example.com/a%20b.e57?X-Amz-Security-Token={quote(TOKEN, safe='')}"
    f"&X-Amz-Expires=60&X-Amz-Signature={SIGNATURE}"
)


def rendered(link: str) -> CreateProjectOperator:
    """Return a task whose template fields are rendered, as Airflow does before it stores and shows them."""
    task = CreateProjectOperator(task_id="project", download_link=link)
    task.render_template_fields(context())
    return task


def shown(text: str) -> str:
    return str(redact(text))


def test_a_link_is_masked_once_it_is_rendered() -> None:
    """A link is masked in the fields that Airflow stores, in each usual spelling and as single values."""
    rendered(f" {LINK}")
    for text in (
        LINK,
        unquote(LINK),
        quote(LINK, safe=""),
        escape(LINK),
        str(parse_qsl(urlsplit(LINK).query)),
    ):
        assert SIGNATURE not in shown(f"said: {text}")
        assert TOKEN not in shown(text)
    assert shown(f"said: {LINK}") == "said: ***"
    assert shown("X-Amz-Expires=60") == "X-Amz-Expires=60"


def test_an_ordinary_link_masks_no_ordinary_text() -> None:
    """The parameters of a link that are not secret are not masked elsewhere."""
    rendered("https://example.com/scan.e57?dl=1&name=hall.e57")
    assert shown("dl=1 hall.e57 scan.e57") == "dl=1 hall.e57 scan.e57"


@pytest.mark.parametrize("link", [f" {LINK}", LINK.replace("https://", "ftp://")], ids=["space", "scheme"])
def test_a_link_that_does_not_begin_with_http_is_not_shown(emulator: Emulator, link: str) -> None:
    """The error of a link that does not begin with http:// or https:// does not contain the link."""
    task = CreateProjectOperator(task_id="project", download_link=link)
    with pytest.raises(AirflowFailException, match="must begin with http") as caught:
        task.execute(context(store=StateStore()))
    for secret in (SIGNATURE, "scans.example.com", "X-Amz"):
        assert secret not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("use", ["client", "test"])
def test_a_key_with_spaces_around_it_is_masked(monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    """If the password has spaces around the key, the key without them is masked too."""
    key = f"sk_spaced_for_{use}_9f3"
    connect(monkeypatch, host="http://127.0.0.1:1", password=f" {key}\n")
    if use == "client":
        assert ThreeSixtyHook().client.server
    else:
        ThreeSixtyHook().test_connection()
    assert shown(f"said {key}.") == "said ***."


def has_async_masking() -> bool:
    try:
        module: Any = importlib.import_module("airflow.sdk.log")
    except ImportError:
        return False
    return hasattr(module, "amask_secret")


@pytest.mark.skipif(not has_async_masking(), reason="this Airflow cannot mask in a trigger")
def test_a_key_with_spaces_around_it_is_masked_in_a_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key without the password's spaces is masked in a trigger too."""
    connect(monkeypatch, host="http://127.0.0.1:1", password=" sk_spaced_in_a_trigger_5d1 ")
    assert asyncio.run(async_client("three_sixty_default")).server
    assert shown("said sk_spaced_in_a_trigger_5d1.") == "said ***."
