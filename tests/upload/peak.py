"""Upload one file in a process of its own, without Airflow, and print how much memory that took in all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.sources.path import PathSource
from airflow_360.upload.engine import upload


def peak_bytes() -> int:
    """Return the most memory that this process ever had.

    Not `getrusage`: its `ru_maxrss` begins at that of the process which started this one.
    """
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def main(server: str, upload_id: str, path: str) -> None:
    client = ThreeSixtyClient(Transport(server, "sk_peak"))
    progress = upload(client, upload_id, PathSource(Path(path)), "huge.e57")
    print(
        json.dumps({"complete": progress.complete, "peak": peak_bytes(), "airflow": "airflow" in sys.modules})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
