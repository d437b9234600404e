"""A project that the server creates from an object in S3, with a link that stays secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException
from moto.server import ThreadedMotoServer

from airflow_360.emulator import Emulator
from airflow_360.operators.project import LINK_SECONDS, CreateProjectOperator
from tests.airflow.conftest import StateStore, context

SCAN = "s3://scans/2026 06/büro #1.e57"


@pytest.fixture(scope="module", params=["eu-central-1", "us-east-1"])
def server(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A local S3 with one scan; returns the fields of a connection to it.

    The second region is one of those for which boto3 signs links in the old way by default.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name=request.param,
    )
    place = {"LocationConstraint": request.param}
    options = {} if request.param == "us-east-1" else {"CreateBucketConfiguration": place}
    requests.post(f"{url}/moto-api/reset", timeout=10)
    client.create_bucket(Bucket="scans", **options)
    client.put_object(Bucket="scans", Key="2026 06/büro #1.e57", Body=b"points")
    extra = {"endpoint_url": url, "region_name": request.param}
    yield {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    server.stop()


@pytest.fixture
def s3(server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections to that S3: the default one, and one with another name."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(server))
    monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", json.dumps(server))


def link_of(emulator: Emulator) -> str:
    """Return the link by which the server was told to fetch its one project."""
    (project,) = emulator.store.projects.values()
    return str(project.options["download_link"])


def project_of(path: str, **more: Any) -> CreateProjectOperator:
    return CreateProjectOperator(task_id="project", download_from=path, **more)


@pytest.mark.parametrize("path", [SCAN, SCAN.replace("s3://", "s3://my_aws@")], ids=["default", "named"])
def test_the_server_gets_a_link_for_a_day(emulator: Emulator, s3: None, path: str) -> None:
    """The server gets a link with which anybody can read the object, for a day."""
    more = {} if "my_aws" not in path else {"aws_conn_id": "missing"}
    name = project_of(path, **more).execute(context())
    assert name in emulator.store.projects
    link = link_of(emulator)
    assert requests.get(link, timeout=10).content == b"points"
    query = parse_qs(urlsplit(link).query)
    assert query["X-Amz-Expires"] == [str(LINK_SECONDS)]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


def test_the_link_is_neither_logged_nor_saved(
    emulator: Emulator, s3: None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The link is neither in logs at debug level, nor in the task, its XComs and its saved state."""
    caplog.set_level(logging.DEBUG)
    store, task, given = StateStore(), project_of(SCAN), context()
    given["task_state_store"] = store
    name = task.execute(given)
    (signature,) = parse_qs(urlsplit(link_of(emulator)).query)["X-Amz-Signature"]
    assert len(signature) == 64
    fields = {field: getattr(task, field) for field in task.template_fields}
    kept = [vars(task), vars(task.hook), given["ti"].pushed, store, name, fields]
    assert signature not in f"{kept!r}{caplog.text}{capfd.readouterr()}"
    # At this level botocore does write the signatures of other requests.
    assert any(record.name == "botocore.auth" for record in caplog.records)


def test_refusal_that_repeats_it(emulator: Emulator, s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that repeats the link does not bring it into the error."""
    seen: list[str] = []
    task = project_of(SCAN)
    presigned = task.hook.paths.presigned_link

    def remember(*arguments: Any) -> str:
        seen.append(presigned(*arguments))
        body = {"error": "project_creation_failed", "link": seen[-1]}
        emulator.faults.add({"on": "POST /projects", "do": "status", "status": 400, "body": body})
        return seen[-1]

    monkeypatch.setattr(task.hook.paths, "presigned_link", remember)
    with pytest.raises(AirflowFailException, match="project_creation_failed") as caught:
        task.execute(context(store=StateStore()))
    assert "X-Amz-Signature" in seen[0]
    assert "X-Amz-Signature" not in f"{caught.value} {caught.value.__cause__!r}"


def test_a_retry_reuses_the_project(emulator: Emulator, s3: None) -> None:
    """A retry takes the project over, though its link would be another one."""
    store = StateStore()
    name = project_of(SCAN).execute(context(store=store))
    assert project_of(SCAN).execute(context(2, store)) == name
    assert len(emulator.store.projects) == 1


def test_the_error_about_a_lost_reply_names_the_object(emulator: Emulator, s3: None) -> None:
    """If the reply is lost, the error names the object."""
    emulator.faults.add({"on": "POST /projects", "do": "lost_reply"})
    with pytest.raises(AirflowFailException, match="was created from object s3://scans/2026 06/büro"):
        project_of(SCAN).execute(context(store=StateStore()))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://scans/missing.e57", r"s3://scans/missing\.e57 cannot be read: there is no such object"),
        ("s3://nowhere/a.e57", "s3://nowhere/a.e57 cannot be read: there is no such object or bucket"),
        ("s3://scans/2026 06/", "s3://scans/2026 06/"),
        ("/data/a.e57", "/data/a.e57 is a local file, and only object stores can create presigned URLs"),
        ("None", "download_from is None"),
    ],
    ids=["object", "bucket", "folder", "local", "template"],
)
def test_a_missing_object_fails_before_any_request(
    emulator: Emulator, s3: None, path: str, said: str
) -> None:
    """If the path is not an object, the task fails permanently before any request, and without doubt."""
    store = StateStore()
    with pytest.raises(AirflowFailException, match=said):
        project_of(path).execute(context(store=store))
    assert emulator.exchanges == []
    records = store.get("360 projects of links", {})
    assert all(record["stage"] == "unsent" for record in records.values())
