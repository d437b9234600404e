"""The connection form of the real Airflow, in a real browser: created, tested, edited and used.

With ``SCREENSHOTS=folder`` in the environment, as `make screenshots` sets it, this also takes the pictures
of the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_360.get_provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from tests.system.conftest import AIRFLOW, Site

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.system, pytest.mark.long]

CONN_ID = "my_360_server"
KEY = "sk_typed_into_the_form"


class Form:
    """The connections of Airflow's UI, as a person uses them."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.dialog = page.get_by_role("dialog")

    def begin(self) -> None:
        """Open an empty form and choose the connection type."""
        self.page.goto(f"{self.site.airflow.url}/connections")
        self.page.get_by_role("button", name="Add Connection").first.click()
        self.dialog.get_by_label("Connection ID").fill(CONN_ID)
        self.dialog.get_by_role("combobox").fill("360")
        self.page.get_by_role("option", name="360 for you").click()
        self.dialog.get_by_label("API key").wait_for()

    def fill(self, **values: str) -> None:
        """Fill fields by their labels, and save."""
        for label, value in values.items():
            self.dialog.get_by_label(label.replace("_", " "), exact=True).fill(value)
        self.dialog.get_by_role("button", name="Save").click()
        self.dialog.wait_for(state="hidden")

    def edit(self) -> None:
        """Open the form of the connection that was made."""
        self.row.get_by_role("button", name="Edit Connection").click()
        self.dialog.get_by_label("API key").wait_for()

    def open(self, section: str) -> None:
        """Open a section of the form; on Airflow 3.4 all of them are."""
        if AIRFLOW >= (3, 4):
            return
        self.dialog.get_by_role("button", name=section, exact=True).click()

    def test(self) -> dict[str, Any]:
        """Press the Test button, and return its message."""
        with self.page.expect_response("**/connections/test") as reply:
            self.row.get_by_role("button", name="Test Connection").click()
        told: dict[str, Any] = reply.value.json()
        return told

    @property
    def row(self) -> Locator:
        return self.page.get_by_role("row").filter(has_text=CONN_ID)

    def stored(self) -> dict[str, Any]:
        connection: dict[str, Any] = self.site.airflow.request("GET", f"/connections/{CONN_ID}")
        return connection

    def picture(self, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(1000)  # wait for the end of animations
            self.dialog.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


@pytest.fixture
def form(page: Page, site: Site) -> Iterator[Form]:
    form = Form(page, site)
    form.begin()
    yield form
    connections = site.airflow.request("GET", "/connections", params={"limit": 100})["connections"]
    if CONN_ID in {connection["connection_id"] for connection in connections}:
        site.airflow.request("DELETE", f"/connections/{CONN_ID}")


def test_standard_fields(form: Form) -> None:
    """The form shows its own labels and placeholders, hides unused fields, and masks the key."""
    labels = {"host": "Server", "password": "API key", "port": "Port"}
    for name, placeholder in UI_FIELD_BEHAVIOUR["placeholders"].items():  # type: ignore[attr-defined]
        field = form.dialog.get_by_label(labels[name], exact=True)
        assert field.get_attribute("placeholder") == placeholder
    assert form.dialog.get_by_label("API key").get_attribute("type") == "password"
    shown = [label.strip(" *\n") for label in form.dialog.locator("label:visible").all_inner_texts()]
    extra = [field["label"] for field in CONN_FIELDS.values()] if AIRFLOW >= (3, 4) else []
    assert shown == ["Connection ID", "Connection Type", "Description", "Server", "API key", "Port", *extra]
    form.dialog.get_by_label("Connection ID").fill("three_sixty_default")
    form.dialog.get_by_label("API key").fill(KEY)
    form.picture("connection-form")


def test_extra_fields(form: Form) -> None:
    """The form shows every further field with its label, its help text and its default."""
    form.open("Extra Fields")
    for name, field in CONN_FIELDS.items():
        form.dialog.get_by_text(str(field["label"]), exact=True).first.wait_for()
        form.dialog.get_by_text(str(field["description"]), exact=True).first.wait_for()
        default = field["schema"]["default"]  # type: ignore[index]
        shown = form.dialog.locator(f"[name=element_{name}]").input_value()
        assert shown == ("" if default is None else str(default))
    form.picture("connection-fields")


def test_made_tested_edited_and_used(form: Form) -> None:
    """A connection is made in the form, tested by its button, edited twice, and then used by a run."""
    emulator = form.site.emulator
    host, _, port = emulator.url.rpartition(":")
    form.open("Extra Fields")
    form.dialog.get_by_label("Connect time-out").fill("20")
    form.open("Standard Fields")
    form.fill(Server=host, Port=port, API_key=KEY)
    told = form.test()
    assert told["status"] is True, told
    assert f"{emulator.url} answers, and accepts the key" in told["message"]

    form.edit()
    form.fill(API_key="wrong")
    assert form.test()["status"] is False
    form.page.get_by_text("does not know this API key").first.wait_for()

    form.edit()
    form.fill(API_key=KEY, Description="The server in the cellar")
    form.row.get_by_text("The server in the cellar").wait_for()
    form.edit()
    form.fill(Description="The server in the attic")
    form.row.get_by_text("The server in the attic").wait_for()
    assert form.test()["status"] is True
    stored = form.stored()
    assert '"connect_timeout": 20' in stored["extra"]
    assert KEY not in str(stored)

    project = emulator.store.create_project({"download_link": "https://example.com/scan.e57"})["name"]
    run = form.site.run("any_connection", connection=CONN_ID, project=project)
    assert form.site.airflow.wait(*run) == "success"
