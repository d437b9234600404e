"""Upload in a separate process, without Airflow, and print its peak memory."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.transport import Transport
from airflow_360.sources.archive import ArchiveSource, Member
from airflow_360.sources.path import PathLocation
from airflow_360.upload.engine import upload
from airflow_360.upload.many import Job, upload_many


def peak_bytes() -> int:
    """Return the most memory that this process ever had.

    Not `getrusage`: its `ru_maxrss` begins at that of the process which started this one.
    """
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def main(server: str, upload_id: str, path: str, archive: str) -> None:
    """Upload a file, or every file of a folder, or all of them as one archive if it has a name."""
    client = ThreeSixtyClient(Transport(server, "sk_peak"))
    location = PathLocation(Path(path))
    if archive:
        members = [Member(file, partial(location.source, file)) for file in location.files(None)]
        upload(client, upload_id, ArchiveSource(archive, members), archive)
    elif Path(path).is_dir():
        listed = location.files(None)
        jobs = [Job(file.relative, file.size, partial(location.source, file)) for file in listed]
        upload_many(client, upload_id, jobs, on_progress=lambda tally: None)
    else:
        upload(client, upload_id, location.source(location.info()), "huge.e57")
    complete = all(progress.complete for progress in client.list_files(upload_id))
    print(json.dumps({"complete": complete, "peak": peak_bytes(), "airflow": "airflow" in sys.modules}))


if __name__ == "__main__":
    main(*sys.argv[1:])
