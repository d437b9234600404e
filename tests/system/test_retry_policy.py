"""The retry policy in a real Airflow."""

from __future__ import annotations

import pytest

from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.long]


@pytest.mark.usefixtures("hasty")
def test_retry_policy(site: Site) -> None:
    """A refusal fails at its first try, a rate limit is retried when the server said, the rest as usual."""
    faults = site.emulator.faults
    limit = {"do": "status", "status": 429, "headers": {"Retry-After": "4"}}
    faults.add(
        {"on": "GET /projects/policy-refused", "do": "status", "status": 402},
        {"on": "GET /projects/policy-limited", **limit},
        {"on": "GET /projects/policy-mapped", "do": "status", "status": 402},
    )
    run = site.run("retry_policy")
    assert site.airflow.wait(*run) == "failed"
    instances = {i["task_id"]: i for i in site.airflow.task_instances(*run)}
    tries = {task_id: (i["state"], i["try_number"]) for task_id, i in instances.items()}
    # Each would be retried three times, an hour apart; a missing project is a permanent error.
    assert tries == {
        "refused": ("failed", 1),
        "limited": ("failed", 2),
        "mapped": ("failed", 1),
        "stumble": ("failed", 2),
        "operator": ("success", 1),
    }
