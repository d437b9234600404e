"""A local S3: moto's server as a child process.

Separate because only the demo and the tests need moto. It is a child process, not a thread: it keeps a whole
object per request in memory, and a thread would share the interpreter with the emulator.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

from harness.processes import (
    LOOPBACK,
    Child,
    Part,
    PartFailedError,
    check_free,
    clean_environment,
    end,
    end_leftovers,
    free_port,
    note_sessions,
)

_REGION = "us-east-1"
_KEY, _SECRET = "demo", "demo-secret"
_START_SECONDS = 60.0
# Moto joins the parts of a multipart upload in memory, slowly: use a single PUT if S3 allows it.
_MAX_PUT_BYTES = 5 * 1024**3 - 1
_PART_BYTES = 1024**3


class LocalS3(Part):
    """An S3 server on loopback that runs during the ``with`` block.

    Memory must be large enough for about two copies of an object while it is stored, and one per reader.

    :param home: folder for its log
    :param port: 0 selects a free one
    """

    def __init__(self, home: Path, port: int = 0) -> None:
        self.home = home.resolve()
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._child: Child | None = None

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.home / "s3.log"

    def start(self) -> None:
        """Start the server and wait until it answers.

        :raises PartFailedError: if it ended, or did not answer in time
        """
        self.home.mkdir(parents=True, exist_ok=True)
        end_leftovers(self.home)
        check_free("local S3", self.port)
        atexit.register(self.stop)
        try:
            self._spawn()
            self._await_answer()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and lose its objects. May be called more than once."""
        atexit.unregister(self.stop)
        if self._child:
            end([self._child], grace=2.0)
            self._child = None

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        env = clean_environment({})
        self._child = Child("local S3", command, log=self.log, env=env, cwd=self.home)
        note_sessions(self.home, [self._child])

    def _await_answer(self) -> None:
        assert self._child
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            self._child.check()
            if time.monotonic() > deadline:
                raise PartFailedError("local S3", "does not answer", self._child.tail())
            time.sleep(0.1)

    def _answers(self) -> bool:
        with requests.Session() as http:
            http.trust_env = False
            try:
                return http.get(f"{self.url}/moto-api/data.json", timeout=5).ok
            except requests.RequestException:
                return False

    @property
    def connection_json(self) -> str:
        """The value of ``AIRFLOW_CONN_AWS_DEFAULT`` for this server."""
        extra = {"endpoint_url": self.url, "region_name": _REGION}
        return json.dumps({"conn_type": "aws", "login": _KEY, "password": _SECRET, "extra": extra})

    def client(self) -> Any:
        """Return a boto3 client for it, independent of the user's AWS profile and proxies."""
        import boto3  # type: ignore[import-untyped]
        import botocore.session  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        nothing_of_the_user = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        session = boto3.session.Session(
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            region_name=_REGION,
            botocore_session=botocore.session.Session(session_vars=nothing_of_the_user),
        )
        return session.client("s3", endpoint_url=self.url, config=Config(proxies={}))

    def make_bucket(self, bucket: str) -> None:
        """Create a bucket if it does not exist."""
        self.client().create_bucket(Bucket=bucket)

    def put_file(self, bucket: str, key: str, file: Path) -> None:
        """Put one file into an existing bucket."""
        from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

        whole = TransferConfig(
            multipart_threshold=_MAX_PUT_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=1
        )
        self.client().upload_file(str(file), bucket, key, Config=whole)

    def put_folder(self, bucket: str, prefix: str, folder: Path) -> list[str]:
        """Put every file below a folder, under its relative path, and return the keys.

        :param bucket: created if missing
        :param prefix: the start of the keys, for example ``"2026-01-31/"``; may be empty
        """
        self.make_bucket(bucket)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        keys = [f"{prefix}{file.relative_to(folder).as_posix()}" for file in files]
        for key, file in zip(keys, files, strict=True):
            self.put_file(bucket, key, file)
        return keys
