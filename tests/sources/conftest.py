from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """A real boto3 client of a local S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line per request, into every test's log
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    server.stop()


@pytest.fixture(scope="session")
def new_bucket(s3: Any) -> Callable[[], str]:
    """Make an empty bucket."""

    def make() -> str:
        name = f"scans-{next(NUMBERS)}"
        s3.create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def bucket(new_bucket: Callable[[], str]) -> str:
    """An empty bucket of the test's own."""
    return new_bucket()
