"""The local S3 keeps its objects, and ends with its block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from harness.s3 import LocalS3


def test_a_folder_goes_in_and_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's files have their relative paths as keys, with any AWS settings of the user."""
    monkeypatch.setenv("AWS_PROFILE", "a profile that is not there")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a.las").write_bytes(b"scan" * 100_000)
    with LocalS3(tmp_path / "s3") as s3:
        assert s3.put_folder("scans", "today/", folder) == ["today/below/a.las"]
        body = s3.client().get_object(Bucket="scans", Key="today/below/a.las")["Body"]
        assert body.read() == b"scan" * 100_000
        assert json.loads(s3.connection_json)["extra"]["endpoint_url"] == s3.url
    with pytest.raises(requests.ConnectionError):
        requests.get(s3.url, timeout=5, proxies={"http": ""})
