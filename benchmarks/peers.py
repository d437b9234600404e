"""The measured programs, each as its own process: ``python -m benchmarks.peers NAME ARGUMENT...``.

Each program imports only the modules that it uses, so that it does not pay for the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

    from airflow_360.api.client import ThreeSixtyClient

KEY = "sk_benchmark"
NAME = "scan.e57"
BUCKET = "scans"
GUIDE_CHUNK_BYTES = 8 * 1024 * 1024  # the size of the contract's own example
BLOCK_BYTES = 1024 * 1024


# -- this package's engine, used as in its hook, without Airflow


def ours(server: str, verify: str, upload_id: str, path: str) -> None:
    from airflow_360.sources.path import PathLocation
    from airflow_360.upload.engine import upload

    location = PathLocation(Path(path))
    progress = upload(_client(server, verify), upload_id, location.source(location.info()), NAME)
    assert progress.complete


def ours_s3(server: str, verify: str, upload_id: str, endpoint: str, key: str) -> None:
    from airflow_360.sources.s3 import S3Location
    from airflow_360.upload.engine import upload

    location = S3Location(boto3_client(endpoint), BUCKET, key)
    source = location.source(location.info())
    assert upload(_client(server, verify), upload_id, source, NAME).complete


def ours_many(server: str, verify: str, upload_id: str, folder: str, limits: str = "on") -> None:
    from functools import partial

    from airflow_360.sources.path import PathLocation
    from airflow_360.upload.many import Job, upload_many

    location = PathLocation(Path(folder))
    jobs = [Job(file.relative, file.size, partial(location.source, file)) for file in location.files(1)]
    upload_many(_client(server, verify, limits), upload_id, jobs)


def _client(server: str, verify: str, limits: str = "on") -> ThreeSixtyClient:
    from airflow_360.api.budget import RequestBudget
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.transport import Transport

    budget = RequestBudget(1.0 if limits == "on" else None)  # the values of the connection's rate_limits
    return ThreeSixtyClient(Transport(server, KEY, verify=verify or True, budget=budget))


# -- the algorithm of the guide's example: 8 MiB of bytes per chunk, one request after another


def guide(server: str, verify: str, upload_id: str, path: str) -> None:
    with _guide_session(verify) as http, Path(path).open("rb") as file:
        _guide_upload(http, f"{server}/api/v1/uploads/{upload_id}/{NAME}", file, Path(path).stat().st_size)


def guide_s3(server: str, verify: str, upload_id: str, endpoint: str, key: str) -> None:
    reply = boto3_client(endpoint).get_object(Bucket=BUCKET, Key=key)
    with _guide_session(verify) as http:
        url = f"{server}/api/v1/uploads/{upload_id}/{NAME}"
        _guide_upload(http, url, reply["Body"], reply["ContentLength"])


def guide_many(server: str, verify: str, upload_id: str, folder: str) -> None:
    with _guide_session(verify) as http:
        for path in sorted(Path(folder).iterdir()):
            with path.open("rb") as file:
                url = f"{server}/api/v1/uploads/{upload_id}/{path.name}"
                _guide_upload(http, url, file, path.stat().st_size)


def _guide_session(verify: str) -> requests.Session:
    import requests

    http = requests.Session()
    http.headers["Authorization"] = f"Bearer {KEY}"
    http.trust_env = False  # otherwise the environment's authorities would replace those of the next line
    http.verify = verify or True
    return http


def _guide_upload(http: requests.Session, url: str, file: Any, size: int) -> None:
    reply = http.get(url)
    offset = reply.json()["received"] if reply.status_code == 200 else 0
    assert offset == 0  # every run has its own session
    while offset < size:
        block = file.read(GUIDE_CHUNK_BYTES)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {offset}-{offset + len(block) - 1}/{size}",
        }
        reply = http.put(url, data=block, headers=headers)
        reply.raise_for_status()
        offset = reply.json()["received"]


# -- limits and yardsticks


def raw(server: str, verify: str, upload_id: str, path: str) -> None:
    """Send one whole-file PUT through a bare socket: the maximum of this machine."""
    import socket
    import ssl

    address = urlsplit(server)
    assert address.hostname
    assert address.port
    connection = socket.create_connection((address.hostname, address.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if verify:
        context = ssl.create_default_context(cafile=verify)
        connection = context.wrap_socket(connection, server_hostname=address.hostname)
    size = Path(path).stat().st_size
    head = [
        f"PUT /api/v1/uploads/{upload_id}/{NAME} HTTP/1.1",
        f"Host: {address.netloc}",
        f"Authorization: Bearer {KEY}",
        f"Content-Length: {size}",
    ]
    with connection, Path(path).open("rb") as file:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        if verify:  # bytes to encrypt must pass through this process
            for block in _blocks(file):
                connection.sendall(block)
        else:
            connection.sendfile(file)
        reply = connection.recv(65536)
    assert b'"complete": true' in reply, reply


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def boto3_upload(endpoint: str, path: str) -> None:
    boto3_client(endpoint).upload_file(path, BUCKET, NAME)


def boto3_client(endpoint: str) -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo-secret",
    )


PEERS = {
    peer.__name__: peer for peer in (ours, ours_s3, ours_many, guide, guide_s3, guide_many, raw, boto3_upload)
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*sys.argv[2:])
