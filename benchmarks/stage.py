"""The common parts of all scenarios: sizes, a folder, servers, and progress output."""

from __future__ import annotations

import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import KEY
from benchmarks.serving import started
from harness.processes import LOOPBACK

MIB, GIB = 1024**2, 1024**3


#: Begin and end of a JPEG of one grey pixel; between them is compressed data, which nobody decodes.
PHOTO = (
    bytes.fromhex("ffd8 ffe0 0010 4a46494600 0101 00 0001 0001 00 00 ffc0 000b 08 0001 0001 01 01 11 00")
    + bytes.fromhex("ffda 0008 01 01 00 00 3f 00"),
    bytes.fromhex("ffd9"),
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the transfers; the command line can change some of them.

    :param runs: the number of runs of each program.
    :param one_file: bytes of the one big file.
    :param yardstick: bytes of boto3's own upload; the local S3 joins its parts in memory.
    :param long_link: bytes over the long link.
    :param s3: bytes from S3.
    :param files: the number of small files.
    :param file_size: bytes of a small file.
    :param tasks: mapped tasks of one Airflow run.
    :param task_file: bytes that one Airflow task uploads when its memory is measured.
    """

    runs: int = 5
    one_file: int = 2 * GIB
    yardstick: int = 256 * MIB
    long_link: int = GIB
    s3: int = GIB
    files: int = 1000
    file_size: int = 300_000
    tasks: int = 40
    task_file: int = 2 * GIB


class Stage:
    """One scenario's folder and servers.

    :param sizes: the sizes of the transfers.
    :param folder: the folder of its files.
    """

    def __init__(self, name: str, sizes: Sizes, folder: Path) -> None:
        self.name = name
        self.sizes = sizes
        self.folder = folder
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        print(f"  {time.monotonic() - self._began:5.0f} s  {self.name}: {line}", flush=True)

    def file(self, size: int) -> Path:
        """Return a file of zeros from the page cache: it was read once, so that no disk is measured."""
        path = self.folder / f"{size}.e57"
        with path.open("wb") as file:
            file.truncate(size)
        self.say(f"reading a file of {size / GIB:.2f} GiB once")
        with path.open("rb", buffering=0) as file:
            while file.read(8 * MIB):
                pass
        return path

    def small_files(self, count: int, size: int) -> list[Path]:
        """Return small photos in their own folder, whose inspection finds nothing to warn of."""
        folder = self.folder / "small"
        folder.mkdir()
        paths = [folder / f"photo_{number:05}.jpg" for number in range(count)]
        for path in paths:
            path.write_bytes(PHOTO[0] + bytes(size - len(b"".join(PHOTO))) + PHOTO[1])
        return paths

    @contextlib.contextmanager
    def link(self, port: int, rate: float, round_trip: float) -> Iterator[int]:
        """Run a line in front of a server, and yield its port."""
        with started("benchmarks.link", port, rate, round_trip) as link:
            yield link


@contextlib.contextmanager
def stage(name: str, sizes: Sizes) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield Stage(name, sizes, Path(folder))


def new_session(port: int, tls_ca: str = "") -> str:
    """Create an upload session, outside of the measured programs."""
    import ssl

    connection = (
        http.client.HTTPSConnection(LOOPBACK, port, context=ssl.create_default_context(cafile=tls_ca))
        if tls_ca
        else http.client.HTTPConnection(LOOPBACK, port)
    )
    with contextlib.closing(connection):
        connection.request("POST", "/api/v1/uploads", headers={"Authorization": f"Bearer {KEY}"})
        reply = json.loads(connection.getresponse().read())
    return str(reply["upload_id"])
