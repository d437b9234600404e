"""The provider in Airflow: its connection type, form and test."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_360.get_provider_info import CONN_FIELDS
from tests.system.conftest import Site

pytestmark = pytest.mark.system


@pytest.mark.matrix
def test_registered(site: Site) -> None:
    """Airflow lists the provider."""
    providers = site.airflow.request("GET", "/providers", params={"limit": 100})["providers"]
    assert "airflow-provider-360" in {provider["package_name"] for provider in providers}


def test_form(site: Site) -> None:
    """The connection form shows its own labels, placeholders and fields with their defaults."""
    token = requests.get(f"{site.airflow.url}/auth/token", timeout=30).json()["access_token"]
    reply = requests.get(
        f"{site.airflow.url}/ui/connections/hook_meta",
        headers={"Authorization": f"Bearer {token}"},
        timeout=120,
    )
    (form,) = [hook for hook in reply.json() if hook["connection_type"] == "three_sixty"]
    assert form["hook_name"] == "360 for you"
    assert form["standard_fields"]["password"]["title"] == "API key"
    assert form["standard_fields"]["host"]["placeholder"] == "https://360-for-you.com"
    assert form["standard_fields"]["login"]["hidden"]
    defaults = {name: field["value"] for name, field in form["extra_fields"].items()}
    assert defaults == {
        name: field["schema"]["default"]  # type: ignore[index]
        for name, field in CONN_FIELDS.items()
    }


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("password", "ok", "said"),
    [("sk_form", True, "accepts the key"), ("wrong", False, "does not know this API key")],
    ids=["right key", "wrong key"],
)
def test_button(site: Site, password: str, ok: bool, said: str) -> None:
    """The form's Test button reports whether the server accepts the key, and creates nothing."""
    before: tuple[Any, ...] = (len(site.emulator.store.sessions), len(site.emulator.store.projects))
    reply = site.airflow.request(
        "POST",
        "/connections/test",
        json={
            "connection_id": "new",
            "conn_type": "three_sixty",
            "host": site.emulator.url,
            "password": password,
        },
    )
    assert reply["status"] is ok
    assert said in reply["message"]
    assert (len(site.emulator.store.sessions), len(site.emulator.store.projects)) == before


@pytest.mark.matrix
def test_secrets_backend(site: Site) -> None:
    """A connection that only a secrets backend knows serves a task and, while it is deferred, its trigger."""
    project = site.emulator.store.create_project({"download_link": "https://example.com/scan.e57"})["name"]
    site.emulator.store.projects[project].processing_seconds = 3600
    states: set[str] = set()

    def let_through(instances: list[dict[str, Any]]) -> None:
        states.update(instance["state"] for instance in instances)
        if "deferred" in states:
            site.emulator.store.projects[project].processing_seconds = 0.1

    run = site.run("any_connection", connection="three_sixty_in_file", project=project)
    site.airflow.wait(*run, must_succeed=True, on_change=let_through, poll=0.2)
    assert "deferred" in states
    asked = [e for e in site.emulator.exchanges if e.path == f"/projects/{project}"]
    assert len(asked) >= 2  # once by the task, then by its trigger
