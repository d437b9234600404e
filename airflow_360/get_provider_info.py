"""The provider's metadata for Airflow, as literals: Airflow loads entry points before its settings."""

from __future__ import annotations

import sys

__all__ = ["CONN_FIELDS", "UI_FIELD_BEHAVIOUR", "get_provider_info"]

UI_FIELD_BEHAVIOUR: dict[str, object] = {
    "hidden-fields": ["login", "schema", "extra"],
    "relabeling": {"host": "Server", "password": "API key"},
    "placeholders": {
        "host": "https://360-for-you.com",
        "password": "sk_…",
        # The server's URL may contain the port; but see docs/connection.md about the button.
        "port": "443 (the Test button of Airflow 3.3 needs it)",
    },
}

#: The connection's extra fields; the hook reads its defaults here too.
CONN_FIELDS: dict[str, dict[str, object]] = {
    "connect_timeout": {
        "label": "Connect time-out",
        "description": "Seconds to wait for a connection.",
        "schema": {"type": ["number", "null"], "default": 10},
    },
    "read_timeout": {
        "label": "Read time-out",
        "description": "Seconds to wait for the next byte of a reply.",
        "schema": {"type": ["number", "null"], "default": 120},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a file with certificate authorities.",
        "schema": {"type": ["string", "null"], "default": "true"},
    },
    "rate_limit_wait": {
        "label": "Longest rate-limit wait",
        "description": "Seconds that a task waits for a rate limit in its worker slot. "
        "For a longer one it frees the slot and continues later.",
        "schema": {"type": ["number", "null"], "default": 60},
    },
    "bandwidth_limit": {
        "label": "Bandwidth limit",
        "description": "Bytes a second that uploads of one worker process may send; 0 for no limit.",
        "schema": {"type": ["number", "null"], "default": 0},
    },
    "rate_limits": {
        "label": "Rate limits",
        "description": "Factor for the service's rate limits, such as 0.5 or 2; off if your server has none.",
        "schema": {"type": ["string", "null"], "default": "1"},
    },
}


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, and let Airflow import a module by the name of its distribution.

    With ``[core] load_examples``, which is on by default, Airflow 3.3 looks for example DAGs by that name.
    If it finds no such module, the log of each task begins with a traceback (apache/airflow issue 66305).
    The module is empty: below a second name of this package each class would exist twice.
    """
    sys.modules.setdefault("airflow_provider_360", type(sys)("airflow_provider_360"))
    return {
        "package-name": "airflow-provider-360",
        "name": "360 for you",
        "description": "Resumable uploads of scans to 360-for-you.com, and projects created from them.",
        "integrations": [
            {
                "integration-name": "360 for you",
                "external-doc-url": "https://360-for-you.com/api/v1/docs/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "360 for you",
                "python-modules": ["airflow_360.operators.upload", "airflow_360.operators.project"],
            }
        ],
        "sensors": [{"integration-name": "360 for you", "python-modules": ["airflow_360.sensors.project"]}],
        "hooks": [{"integration-name": "360 for you", "python-modules": ["airflow_360.hooks.three_sixty"]}],
        "triggers": [{"integration-name": "360 for you", "python-modules": ["airflow_360.triggers.project"]}],
        "connection-types": [
            {
                "connection-type": "three_sixty",
                "hook-class-name": "airflow_360.hooks.three_sixty.ThreeSixtyHook",
                "hook-name": "360 for you",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
        "filesystems": ["airflow_360.fs.smb"],
        "extra-links": ["airflow_360.links.project.ProjectLink"],
    }
