"""A real Airflow and a local S3, started on this machine for the demo, the system tests and the benchmarks.

Everything listens on loopback only.
"""

from __future__ import annotations


def loopback_host() -> str:
    """Return the host name that every Airflow process uses.

    By default Airflow asks the resolver for this machine's full name, and would fetch logs from that address.
    """
    return "127.0.0.1"
