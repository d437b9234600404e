"""Scenarios that transfer bytes, in processes without Airflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from airflow_360.emulator import Emulator
from benchmarks.measure import Sample, interleaved, peer, run
from benchmarks.peers import BUCKET, KEY, NAME
from benchmarks.report import GIB, MIB, US, Result, Row, moved
from benchmarks.serving import started
from benchmarks.stage import Stage, new_session
from harness.processes import LOOPBACK
from harness.s3 import LocalS3

GUIDE = "the guide's example"
CURL = "curl -T"
RAW = "a raw socket (the limit)"
BOTO3 = "boto3's own upload to the local S3 (a yardstick)"

GIGABIT_BYTES_PER_SECOND = 125_000_000
PACE_BYTES_PER_SECOND = 100_000_000  # of each side, from S3 to 360
PUTS_A_MINUTE = 1200  # the contract's limit


def one_file(stage: Stage) -> Result:
    """One big file over plain http, as fast as this machine can."""
    size = stage.sizes.one_file
    path = stage.file(size)
    with started("benchmarks.sink") as port:
        samples = interleaved(_peers(port, path), stage.sizes.runs, stage.say)
    rows = moved(samples, size)
    small = stage.file(stage.sizes.yardstick)
    with LocalS3(stage.folder / "s3") as s3:
        s3.make_bucket(BUCKET)
        yardstick = {BOTO3: lambda: peer("boto3_upload", s3.url, small)}
        rows += moved(interleaved(yardstick, stage.sizes.runs, stage.say), stage.sizes.yardstick)
    result = Result(f"one file of {_size(size)}, plain", "MiB/s", rows, notes=_notes())
    result.notes.append(
        f"boto3's file has {_size(stage.sizes.yardstick)}, and its figure is also the local S3's"
    )
    result.want_ratio(CURL, 1.25)
    result.want_ratio(GUIDE, 1.3)
    _want_cpu(result)
    return result


def one_file_tls(stage: Stage) -> Result:
    """One big file over TLS."""
    from tests.fakes import certificate

    size = stage.sizes.one_file
    path = stage.file(size)
    authority, key = certificate(stage.folder)
    with started("benchmarks.sink", authority, key) as port:
        samples = interleaved(_peers(port, path, str(authority)), stage.sizes.runs, stage.say)
    result = Result(f"one file of {_size(size)}, TLS", "MiB/s", moved(samples, size), notes=_notes())
    result.want_ratio(CURL, 1.0)
    result.want_ratio(GUIDE, 1.15)
    _want_cpu(result)
    return result


def long_link(stage: Stage) -> Result:
    """One file over 1 Gbit/s with a round trip of 100 ms."""
    size = stage.sizes.long_link
    path = stage.file(size)
    with started("benchmarks.sink") as sink, stage.link(sink, GIGABIT_BYTES_PER_SECOND, 0.1) as port:
        samples = interleaved(_peers(port, path, open_at=sink), stage.sizes.runs, stage.say)
    result = Result(f"{_size(size)} over 1 Gbit/s and 100 ms", "MiB/s", moved(samples, size), notes=_notes())
    _want_share(result, "the link", GIGABIT_BYTES_PER_SECOND, 0.9)
    result.want_ratio(GUIDE, 2.0)
    return result


def s3_to_360(stage: Stage) -> Result:
    """One object from S3 to the server, each side paced to 100 MB/s."""
    size = stage.sizes.s3
    path = stage.file(size)
    with (
        started("benchmarks.sink") as sink,
        started("benchmarks.objects", stage.folder) as objects,
        stage.link(sink, PACE_BYTES_PER_SECOND, 0.0) as port,
        stage.link(objects, PACE_BYTES_PER_SECOND, 0.0) as s3,
    ):
        server, endpoint = _url(port), _url(s3)
        peers: dict[str, Callable[[], Sample]] = {
            US: lambda: peer("ours_s3", server, "", new_session(sink), endpoint, path.name),
            GUIDE: lambda: peer("guide_s3", server, "", new_session(sink), endpoint, path.name),
            RAW: lambda: peer("raw", server, "", new_session(sink), path),
        }
        samples = interleaved(peers, stage.sizes.runs, stage.say)
    result = Result(f"{_size(size)} from S3, both sides at 100 MB/s", "MiB/s", moved(samples, size))
    result.notes.append("the guide's example reads 8 MiB of the object, sends them, and reads on")
    result.notes.append("the raw socket sends a local file: the slower side alone")
    _want_share(result, "100 MB/s", PACE_BYTES_PER_SECOND, 0.9)
    return result


def many_files(stage: Stage) -> Result:
    """Many small files with the limit off, on a line of 50 ms."""
    folder = stage.small_files(stage.sizes.files, stage.sizes.file_size)[0].parent
    with started("benchmarks.sink") as sink, stage.link(sink, GIGABIT_BYTES_PER_SECOND, 0.05) as port:
        server = _url(port)
        peers: dict[str, Callable[[], Sample]] = {
            US: lambda: peer("ours_many", server, "", new_session(sink), folder, "off"),
            GUIDE: lambda: peer("guide_many", server, "", new_session(sink), folder),
        }
        if shutil.which("curl"):
            peers[CURL] = lambda: _curl_many(server, new_session(sink), folder)
        samples = interleaved(peers, stage.sizes.runs, stage.say)
    result = Result(
        f"{_files(stage)}, 50 ms, limit off", "files/s", _per_second(samples, stage), notes=_notes()
    )
    result.want_ratio(GUIDE, 6.0)
    return result


def paced_files(stage: Stage) -> Result:
    """Many small files against a server that enforces its limits."""
    folder = stage.small_files(stage.sizes.files, stage.sizes.file_size)[0].parent
    refused = 0
    values: list[Sample] = []
    for number in range(stage.sizes.runs):
        # An emulator for each run, because requests of the minute before must not count.
        with Emulator(data_dir=stage.folder / f"emulator-{number}", limits="real") as emulator:
            port = int(emulator.url.rpartition(":")[2])
            once = {US: lambda port=port: peer("ours_many", _url(port), "", new_session(port), folder)}
            values += interleaved(once, 1, stage.say)[US]
            refused += sum(exchange.status == 429 for exchange in emulator.exchanges)
        shutil.rmtree(stage.folder / f"emulator-{number}")
    result = Result(f"{_files(stage)}, limit on", "files/s", _per_second({US: values}, stage))
    result.notes.append(f"{refused} requests of {stage.sizes.runs} runs were answered 429")
    _want_share(result, "1200 a minute", PUTS_A_MINUTE / 60, 0.95, unit=1)
    return result


def _peers(
    port: int, path: Path, authority: str = "", open_at: int | None = None
) -> dict[str, Callable[[], Sample]]:
    """Return the programs that upload one file; each run uses its own session, created outside the line."""
    server = _url(port, authority)

    def session() -> str:
        return new_session(open_at or port, authority)

    peers: dict[str, Callable[[], Sample]] = {
        US: lambda: peer("ours", server, authority, session(), path),
        GUIDE: lambda: peer("guide", server, authority, session(), path),
        RAW: lambda: peer("raw", server, authority, session(), path),
    }
    if shutil.which("curl"):
        peers[CURL] = lambda: run(_curl(server, authority, session(), path))
    return peers


def _curl(server: str, authority: str, upload_id: str, path: Path) -> list[str]:
    url = f"{server}/api/v1/uploads/{upload_id}/{NAME}"
    trust = ["--cacert", authority] if authority else []
    return [*_curl_always(), *trust, "--output", "/dev/null", "--upload-file", str(path), url]


def _curl_many(server: str, upload_id: str, folder: Path) -> Sample:
    """Upload a folder with one curl process: one file after another over one connection."""
    transfers: list[str] = []
    for path in sorted(folder.iterdir()):
        url = f"{server}/api/v1/uploads/{upload_id}/{path.name}"
        transfers += [f'upload-file = "{path}"', f'url = "{url}"', 'output = "/dev/null"']
    config = folder.parent / "curl.config"
    config.write_text("\n".join(transfers))
    return run([*_curl_always(), "--config", str(config)])


def _curl_always() -> list[str]:
    headers = [f"Authorization: Bearer {KEY}", "Content-Type: application/octet-stream"]
    return [
        "curl",
        "-q",
        "--silent",
        "--show-error",
        "--fail",
        *(a for h in headers for a in ("--header", h)),
    ]


def _notes() -> list[str]:
    if shutil.which("curl"):
        return []
    return ["curl is skipped: it is not on this machine (on Debian: apt-get install curl)"]


def _per_second(samples: dict[str, list[Sample]], stage: Stage) -> list[Row]:
    bytes_moved = stage.sizes.files * stage.sizes.file_size
    return [
        Row(row.who, [stage.sizes.files / sample.seconds for sample in samples[row.who]], row.cpu, row.peak)
        for row in moved(samples, bytes_moved)
    ]


def _want_share(result: Result, what: str, rate: float, wanted: float, unit: float = MIB) -> None:
    ours = result.row(US)
    assert ours
    result.want(f"share of {what}", ours.median * unit / rate, wanted)


def _want_cpu(result: Result) -> None:
    ours, curl = result.row(US), result.row(CURL)
    if ours and curl and ours.cpu and curl.cpu:
        result.want(f"CPU per GiB of {US} ÷ {CURL}", ours.cpu / curl.cpu, 1.1, at_least=False)


def _url(port: int, authority: str = "") -> str:
    return f"{'https' if authority else 'http'}://{LOOPBACK}:{port}"


def _size(size: int) -> str:
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:.3g} MiB"


def _files(stage: Stage) -> str:
    return f"{stage.sizes.files:,} files of {stage.sizes.file_size / 1000:.0f} KB"
