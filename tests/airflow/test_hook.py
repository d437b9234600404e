from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    Connection,
    TaskDeferred,
)

from airflow_360.api.budget import GET_PROJECT
from airflow_360.emulator import Emulator
from airflow_360.exceptions import ConfigurationError, NoReplyError, ServerError, SourceError, ThreeSixtyError
from airflow_360.get_provider_info import CONN_FIELDS
from airflow_360.hooks.clients import ConnectionSettings
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.upload import CreateUploadSessionOperator
from tests.airflow.conftest import CONNECTION, connect, context
from tests.fakes import certificate


@pytest.mark.parametrize(
    ("fields", "server"),
    [
        pytest.param({}, "https://360-for-you.com", id="nothing"),
        pytest.param({"host": "scans.example.org"}, "https://scans.example.org", id="host"),
        pytest.param({"host": "https://scans.example.org/"}, "https://scans.example.org", id="URL"),
        pytest.param({"host": "https://scans.example.org/api/v1"}, "https://scans.example.org", id="API URL"),
        pytest.param({"host": "scans.example.org/sub/api/v1/"}, "https://scans.example.org/sub", id="below"),
        pytest.param(
            {"host": "scans.example.org", "port": 8443}, "https://scans.example.org:8443", id="port"
        ),
        pytest.param({"host": "localhost", "schema": "http", "port": 81}, "http://localhost:81", id="schema"),
        pytest.param(
            {"host": "https://scans.example.org", "port": 443}, "https://scans.example.org", id="usual port"
        ),
        pytest.param({"port": 443}, "https://360-for-you.com", id="usual port alone"),
        pytest.param({"host": "http://[::1]", "port": 80}, "http://[::1]", id="usual port of http"),
        pytest.param({"host": "http://127.0.0.1:1", "port": 2}, "http://127.0.0.1:1", id="port in URL wins"),
        pytest.param({"host": "http://[::1]", "port": 2}, "http://[::1]:2", id="IPv6"),
    ],
)
def test_host_schema_and_port_become_one_url(fields: dict[str, Any], server: str) -> None:
    """Host, schema and port lead to one server URL, however they are written."""
    connection = Connection(conn_id="c", conn_type="three_sixty", password="sk_x", **fields)
    assert ConnectionSettings.of(connection, {}).server == server


@pytest.mark.parametrize(
    "value",
    [
        '{"conn_type": "three_sixty", "host": "http://127.0.0.1:8360", "password": "sk_demo"}',
        "three-sixty://:sk_demo@127.0.0.1:8360/http",
    ],
    ids=["JSON", "URI"],
)
def test_a_connection_from_the_environment_works(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A connection from the environment works as JSON and as a URI."""
    monkeypatch.setenv(CONNECTION, value)
    client = ThreeSixtyHook().client
    assert client.server == "http://127.0.0.1:8360"
    same_key = Connection(conn_id="c", conn_type="three_sixty", host="example.org", password="sk_demo")
    assert client.has_key_of(ConnectionSettings.of(same_key, {}).client())


@pytest.mark.parametrize(
    "value",
    [
        '{"conn_type": "three_sixty", "password": "sk_demo", "extra": {"read_timeout": 7, "verify": false}}',
        "three-sixty://:sk_demo@/?read_timeout=7&verify=false",
    ],
    ids=["JSON", "URI"],
)
def test_fields_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The extra fields can be given in the environment too, as JSON and in a URI's query."""
    monkeypatch.setenv(CONNECTION, value)
    extra = ThreeSixtyHook.get_connection("three_sixty_default").extra_dejson
    assert {name: str(text).lower() for name, text in extra.items()} == {
        "read_timeout": "7",
        "verify": "false",
    }
    assert ThreeSixtyHook().client.server == "https://360-for-you.com"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"password": ""}, "no API key", id="no key"),
        pytest.param(
            {"host": "http://scans.example.org"}, "Plain http to scans.example.org", id="plain http"
        ),
        pytest.param({"host": "ftp://scans.example.org"}, "not a server URL", id="ftp"),
        pytest.param({"host": "https://me:secret@scans.example.org"}, "not contain a user", id="userinfo"),
        pytest.param({"extra": {"read_timeout": "soon"}}, "'read_timeout' must be a number", id="timeout"),
        pytest.param({"extra": {"connect_timeout": 0}}, "'connect_timeout' must be a number", id="zero"),
        pytest.param({"extra": {"bandwidth_limit": "10 MB"}}, "'bandwidth_limit' must be", id="bandwidth"),
        pytest.param({"extra": {"bandwidth_limit": 10}}, "at least 1024", id="bandwidth in megabytes"),
        pytest.param({"extra": {"rate_limits": "fast"}}, "'rate_limits' must be a number", id="rate limits"),
        pytest.param({"extra": {"rate_limits": 0}}, "'rate_limits' must be a number", id="no requests"),
        pytest.param({"extra": {"verify": "/nowhere/ca.pem"}}, "'verify' must be true, false", id="verify"),
    ],
)
def test_an_invalid_connection_names_field_and_next_step(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    """An invalid connection raises an error with the field and the next step, and never shows a secret."""
    connect(monkeypatch, **fields)
    with pytest.raises(ThreeSixtyError, match=said) as caught:
        _ = ThreeSixtyHook().client
    assert "secret" not in str(caught.value)
    assert "sk_test_key" not in str(caught.value)


def test_longer_rate_limits_than_allowed_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    """A wait for a rate limit that is longer than the connection's field allows is not waited for."""
    connect(monkeypatch, host=emulator.url, extra={"rate_limit_wait": 0.5, "read_timeout": "5"})
    emulator.faults.add({"on": "GET /projects", "do": "rate_limit", "retry_after": 1})
    with pytest.raises(ThreeSixtyError, match="429 rate_limited"):
        ThreeSixtyHook().client.list_projects()
    assert len(emulator.exchanges) == 1


@pytest.mark.parametrize("name", CONN_FIELDS)
def test_every_field_is_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each field of the form is read: nonsense in it is refused, and the message names it."""
    connect(monkeypatch, extra={name: "nonsense"})
    with pytest.raises(ThreeSixtyError, match=name):
        _ = ThreeSixtyHook().client


@pytest.mark.parametrize("empty", ["", None], ids=["empty", "null"])
def test_an_empty_field_means_its_default(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    """A field that was emptied in the form means its default."""
    connect(monkeypatch, extra=dict.fromkeys(CONN_FIELDS, empty))
    assert ThreeSixtyHook().client.server == "https://360-for-you.com"


@pytest.mark.parametrize("limit", [0, None, ""], ids=["zero", "null", "empty"])
def test_no_bandwidth_limit(monkeypatch: pytest.MonkeyPatch, limit: object) -> None:
    """Without a limit on the connection uploads are not held back."""
    connect(monkeypatch, extra={"bandwidth_limit": limit})
    assert ThreeSixtyHook().client.bandwidth is None


def test_bandwidth_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection's limit counts for all hooks of one server in a process together."""
    connect(monkeypatch, extra={"bandwidth_limit": "5000000"})
    bandwidth = ThreeSixtyHook().client.bandwidth
    assert bandwidth
    assert bandwidth.limit == 5_000_000
    assert ThreeSixtyHook().client.bandwidth is bandwidth


def test_hooks_share_one_budget_per_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All hooks of a process share one budget per server and key, however the server's URL is written."""
    connect(monkeypatch, host="https://scans.example.org")
    budget = ThreeSixtyHook().client.budget
    connect(monkeypatch, host="scans.example.org/api/v1", extra={"rate_limits": "1"})
    assert ThreeSixtyHook().client.budget is budget
    connect(monkeypatch, host="https://scans.example.org", password="sk_another")
    assert ThreeSixtyHook().client.budget is not budget


@pytest.mark.parametrize(
    ("rate_limits", "gap"),
    [(None, 1.0), ("", 1.0), (2, 0.5), ("0.5", 2.0), ("off", 0.0), ("OFF", 0.0)],
    ids=["default", "empty", "twice", "half", "off", "upper case"],
)
def test_rate_limits(monkeypatch: pytest.MonkeyPatch, rate_limits: Any, gap: float) -> None:
    """The field multiplies every limit of the service, or switches them off."""
    connect(monkeypatch, host="https://scans.example.org", extra={"rate_limits": rate_limits})
    assert ThreeSixtyHook().client.budget.gap(GET_PROJECT) == gap


def test_connection_test_succeeds(emulator: Emulator) -> None:
    """The Test button asks two questions, once each, and creates nothing."""
    ok, said = ThreeSixtyHook().test_connection()
    assert ok
    assert f"{emulator.url} answers, and accepts the key" in said
    assert [e.path for e in emulator.exchanges] == ["/projects", "/uploads/NotThere"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"password": "wrong"}, "401 invalid_api_key", id="wrong key"),
        pytest.param({"password": ""}, "no API key", id="no key"),
        pytest.param({"extra": {"verify": "/nowhere"}}, "'verify' must be", id="wrong field"),
        pytest.param({"host": "http://127.0.0.1:9"}, "no answer from http://127.0.0.1:9", id="unreachable"),
    ],
)
def test_connection_test_fails(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, fields: dict[str, Any], said: str
) -> None:
    """The Test button shows the reason and does not raise."""
    connect(monkeypatch, **{"host": emulator.url, **fields})
    ok, text = ThreeSixtyHook().test_connection()
    assert not ok
    assert said in text


def test_connection_test_of_a_server_that_hangs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person does not wait for as long as an upload would wait."""
    make = ConnectionSettings.client_without_retries
    monkeypatch.setattr(ConnectionSettings, "client_without_retries", lambda settings: make(settings, 0.3))
    emulator.faults.add({"on": "GET /projects", "do": "stall", "seconds": 20})
    began = time.monotonic()
    ok, said = ThreeSixtyHook().test_connection()
    assert not ok
    assert "no answer from" in said
    assert time.monotonic() - began < 10


def test_a_client_for_a_person_waits_for_a_whole_reply_at_most_fifteen_seconds(
    emulator: Emulator,
) -> None:
    """A server that sends one byte after the other is given up by the Test button and a trigger's polls."""
    emulator.faults.add({"on": "GET /projects", "do": "drip", "seconds": 0.05})
    connection = Connection(conn_id="c", conn_type="three_sixty", host=emulator.url, password="sk_x")
    settings = ConnectionSettings.of(connection, {})
    began = time.monotonic()
    with pytest.raises(NoReplyError, match=r"not complete after 0.4 s") as raised:
        settings.client_without_retries(reply_timeout=0.4).list_projects()
    assert time.monotonic() - began < 5
    assert raised.value.timed_out
    emulator.faults.add({"on": "GET /projects", "do": "drip", "seconds": 0.005})
    assert settings.client().list_projects() == {"projects": []}


def test_connection_test_without_connection() -> None:
    """The Test button and the command report a missing connection, and do not raise."""
    ok, said = ThreeSixtyHook("nowhere").test_connection()
    assert (ok, said[:33]) == (False, "There is no connection 'nowhere':")


def test_errors_that_stay() -> None:
    """A permanent error uses no retry; the original error is its cause."""
    with pytest.raises(AirflowFailException, match="no such folder") as caught, airflow_errors():
        raise SourceError("no such folder")
    assert isinstance(caught.value.__cause__, SourceError)


def test_errors_that_may_pass() -> None:
    """An error that a retry may fix is left to Airflow's retries."""
    with pytest.raises(AirflowException, match="503") as caught, airflow_errors():
        raise ServerError("503")
    assert not isinstance(caught.value, AirflowFailException)


def test_a_refused_certificate_spends_no_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrusted certificate fails a task permanently, and the message names the connection's field."""
    with Emulator(tls=certificate(tmp_path)) as emulator:
        connect(monkeypatch, host=emulator.url)
        said = "extra field `verify`.* The connection is 'three_sixty_default'"
        with pytest.raises(AirflowFailException, match=said) as caught:
            CreateUploadSessionOperator(task_id="session").execute(context())
        assert isinstance(caught.value.__cause__, ConfigurationError)
        connect(monkeypatch, host=emulator.url, extra={"verify": str(tmp_path / "certificate.pem")})
        assert CreateUploadSessionOperator(task_id="session").execute(context())


@pytest.mark.parametrize(("seconds", "gives_its_slot_back"), [(3000, True), (61, True), (60, False)])
def test_a_long_maintenance_gives_the_slot_back(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, seconds: int, gives_its_slot_back: bool
) -> None:
    """A 503 that asks for more than `rate_limit_wait` defers a task; a shorter one is left to retries."""
    headers = {"Retry-After": str(seconds)}
    fault = {"on": "POST /uploads", "do": "status", "status": 503, "headers": headers}
    emulator.faults.add({**fault, "times": 1 if gives_its_slot_back else 3})
    operator = CreateUploadSessionOperator(task_id="session", deferrable=True)
    object.__setattr__(operator.hook.client.backoff, "sleep", lambda seconds: None)
    with pytest.raises(TaskDeferred if gives_its_slot_back else AirflowException) as raised:
        operator.execute(context())
    if isinstance(raised.value, TaskDeferred):
        assert raised.value.trigger.serialize()[1]["seconds"] == seconds
    else:
        assert not isinstance(raised.value, AirflowFailException)
    assert operator.resume(context(), {"status": "over"})


def test_a_task_uploads_a_file_under_a_flat_name(emulator: Emulator, tmp_path: Path) -> None:
    """A file is uploaded from a ``@task``, under a flat name, and the numbers are the server's."""
    scan = tmp_path / "Größe 1.E57"
    scan.write_bytes(b"x" * 3000)
    hook, seen = ThreeSixtyHook(), []
    upload_id = hook.client.create_upload_session().upload_id
    result = hook.upload(
        upload_id,
        str(scan),
        chunk_size=1000,
        on_progress=lambda p: seen.append(p.received),
        inspect="off",
    )
    assert result == {"filename": "Grosse_1.e57", "path": str(scan), "size": 3000}
    assert emulator.store.file_path(upload_id, "Grosse_1.e57").read_bytes() == scan.read_bytes()
    assert seen == [1000, 2000, 3000]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("", "path is ''", id="empty"),
        pytest.param("s3:///key", "names no bucket", id="no bucket"),
        pytest.param("/no/such/scan.e57", "does not exist", id="missing"),
        pytest.param("{folder}", "is a folder, not a file", id="folder"),
    ],
)
def test_a_path_that_is_no_file_fails_before_any_request(
    emulator: Emulator, tmp_path: Path, path: str, said: str
) -> None:
    """A path that is not a file fails permanently, before any request."""
    with pytest.raises(AirflowFailException, match=said):
        ThreeSixtyHook().upload("any", path.format(folder=tmp_path))
    assert emulator.exchanges == []


@pytest.mark.parametrize("expected", [{"size": 2}, {"etag": "abc"}], ids=["other size", "other ETag"])
def test_changed_since_listing(emulator: Emulator, tmp_path: Path, expected: dict[str, Any]) -> None:
    """A file that differs from the listing is refused before a byte is sent."""
    scan = tmp_path / "scan.e57"
    scan.write_bytes(b"123")
    with pytest.raises(AirflowFailException, match="when it was listed"):
        ThreeSixtyHook().upload("any", str(scan), **expected)
    assert emulator.exchanges == []


@pytest.mark.parametrize("several", [False, True], ids=["one file", "a folder"])
def test_key_replaced_in_the_middle(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """If the key is replaced during an upload, it is read again after a 401, and the upload continues."""
    (tmp_path / "scan.e57").write_bytes(b"x" * 3000)
    hook = ThreeSixtyHook()
    upload_id = hook.client.create_upload_session().upload_id
    refused = {"do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
    emulator.faults.add({"on": "PUT /uploads/*/*", "skip": 1, **refused})
    connect(monkeypatch, host=emulator.url, password="sk_the_new_key")
    if several:
        hook.uploads.files(upload_id, hook.paths.list_files(str(tmp_path)), chunk_size=1000)
    else:
        hook.upload(upload_id, str(tmp_path / "scan.e57"), chunk_size=1000)
    puts = [exchange.start for exchange in emulator.exchanges if exchange.method == "PUT"]
    assert puts == [0, 1000, 1000, 2000]


def test_key_refused(emulator: Emulator, tmp_path: Path) -> None:
    """A key that is refused and is still the connection's is not tried again."""
    (tmp_path / "scan.e57").write_bytes(b"x")
    refused = {"do": "status", "status": 401, "body": {"error": "invalid_api_key"}}
    emulator.faults.add({"on": "GET /uploads/*/*", **refused})
    with pytest.raises(AirflowFailException, match="401 invalid_api_key"):
        ThreeSixtyHook().upload("AAAAAAAA", str(tmp_path / "scan.e57"))
    assert len(emulator.exchanges) == 1
