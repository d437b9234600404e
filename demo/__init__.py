"""The demo: the emulator, a local S3 and a real Airflow, started together on this machine.

``python -m demo`` runs the main job once and shows the result. The system tests use the same start-up
code (:class:`demo.airflow.LocalAirflow`, :class:`demo.s3.LocalS3`). Everything listens on loopback only.
"""

from __future__ import annotations


def loopback_host() -> str:
    """Return the host name that every Airflow process of the demo uses.

    By default Airflow asks the resolver for this machine's full name, and would fetch logs from that address.
    """
    return "127.0.0.1"
