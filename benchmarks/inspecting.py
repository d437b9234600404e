"""The inspection of many files: of a disk, of an S3 with a round trip of 20 ms, and by laspy.

It is also the program that is measured: ``python -m benchmarks.inspecting HOW FOLDER [ENDPOINT]``.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.measure import Sample, interleaved, run
from benchmarks.report import US, Result, Row
from benchmarks.serving import started
from benchmarks.stage import Stage
from demo.scans import las, lighthouse

LOCAL, S3 = f"{US}, local", f"{US}, S3 at 20 ms"
LASPY = "laspy opens the same files"
POINTS = 5000  # 130 KB
ROUND_TRIP_SECONDS = 0.02
GIGABIT_BYTES_PER_SECOND = 125e6
BUCKET = "bucket"


def inspections(stage: Stage) -> Result:
    """The inspection of many point clouds, on a disk and in S3, beside laspy."""
    folder = stage.folder / BUCKET
    folder.mkdir()
    first = folder / "00000.las"
    first.write_bytes(las(list(lighthouse(POINTS))))
    for number in range(1, stage.sizes.files):
        shutil.copy(first, folder / f"{number:05}.las")
    with (
        started("benchmarks.objects", folder) as objects,
        stage.link(objects, GIGABIT_BYTES_PER_SECOND, ROUND_TRIP_SECONDS) as port,
    ):
        peers: dict[str, Callable[[], Sample]] = {
            LOCAL: partial(_measured, "local", folder),
            LASPY: partial(_measured, "laspy", folder),
            S3: partial(_measured, "s3", folder, f"http://127.0.0.1:{port}"),
        }
        samples = interleaved(peers, stage.sizes.runs, stage.say)
    rows = [Row(who, [float(sample.output) for sample in runs]) for who, runs in samples.items()]
    files = f"{stage.sizes.files:,} LAS files"
    result = Result(f"inspection of {files}", "s", rows, more_is_better=False)
    result.notes.append("seconds for all files, without the start of Python")
    result.want("seconds for S3", rows[-1].median, 60, at_least=False)
    return result


def _measured(*arguments: object) -> Sample:
    return run([sys.executable, "-m", "benchmarks.inspecting", *map(str, arguments)])


def main(arguments: Sequence[str]) -> None:
    how, folder, *endpoint = arguments
    files = sorted(Path(folder).iterdir())
    prepare: dict[str, Callable[..., Callable[[], None]]] = {
        "laspy": _with_laspy,
        "local": _local,
        "s3": _in_s3,
    }
    work = prepare[how](files, *endpoint)
    began = time.perf_counter()
    work()
    print(time.perf_counter() - began)


def _with_laspy(files: Sequence[Path]) -> Callable[[], None]:
    import laspy  # type: ignore[import-untyped]

    def work() -> None:
        for file in files:
            with laspy.open(file) as reader:
                assert reader.header.point_count == POINTS

    return work


def _local(files: Sequence[Path]) -> Callable[[], None]:
    from airflow_360.hooks.paths import Paths
    from airflow_360.sources.path import PathLocation

    infos = [PathLocation(file).info() for file in files]

    def work() -> None:
        results = list(Paths().inspector("fail").results(infos))
        assert all(result.counts == {"points": POINTS} for _, result in results)  # type: ignore[union-attr]

    return work


def _in_s3(files: Sequence[Path], endpoint: str) -> Callable[[], None]:
    from airflow_360.hooks.paths import Paths
    from airflow_360.sources import FileInfo
    from benchmarks.objects import ETAG
    from benchmarks.peers import boto3_client

    paths = Paths()
    paths._s3_clients["aws_default"] = boto3_client(endpoint)
    etag = ETAG.strip('"')
    infos = [FileInfo(f"s3://{BUCKET}/{file.name}", file.name, file.stat().st_size, etag) for file in files]

    def work() -> None:
        results = list(paths.inspector("fail").results(infos))
        assert all(result.counts == {"points": POINTS} for _, result in results)  # type: ignore[union-attr]

    return work


if __name__ == "__main__":
    main(sys.argv[1:])
