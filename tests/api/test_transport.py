"""One request, one reply or one error: keys, certificates, proxies, redirects, addresses, timeouts."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests.utils
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_360 import __version__
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import FileProgress
from airflow_360.api.transport import DEFAULT_SERVER, Transport, server_url
from airflow_360.emulator import Emulator
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    FileRejectedError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    OffsetMismatchError,
    QuotaError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadSessionNotFoundError,
)
from tests.api.servers import KeepingServer
from tests.fakes import KEY, Recorder, certificate, client_for, http_reply, outcome_of, strict_emulator

SECRET = "sk_tell_nobody"


def answered(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a fault: the next request for the account's projects gets this reply."""
    fault = {"on": "GET /projects", "do": "status", "status": status, "headers": dict(headers or {})}
    return fault if body is None else {**fault, "body": body}


def refusal(
    emulator: Emulator, status: int, body: Any = None, headers: Mapping[str, str] | None = None
) -> Exception:
    """Return the error of a single request with this reply."""
    emulator.faults.add(answered(status, body, headers))
    outcome = outcome_of(client_for(emulator, tries=0).list_projects)
    assert isinstance(outcome, Exception)
    return outcome


# -- the key


def test_netrc_does_not_replace_the_key(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A netrc entry for the server's host does not replace the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(emulator.url) == ("somebody", "else")  # it would apply
    client_for(emulator).list_projects()
    assert emulator.exchanges[-1].key_ok


def test_each_request_has_user_agent_and_key() -> None:
    """Each request has the package's version and other given names in its user agent, and the key."""
    with Recorder() as server:
        client_for(server.url, user_agent="apache-airflow/3.3.2").list_projects()
        client_for(server.url).list_projects()
    assert [heard.headers["User-Agent"] for heard in server.heard] == [
        f"airflow-provider-360/{__version__} apache-airflow/3.3.2",
        f"airflow-provider-360/{__version__}",
    ]
    assert [heard.headers["Authorization"] for heard in server.heard] == [f"Bearer {KEY}"] * 2
    assert [sorted(heard.names) for heard in server.heard] == [sorted(set(server.heard[0].names))] * 2


def test_cookies_are_not_kept() -> None:
    """A cookie that the server sets is not sent back."""
    with Recorder(http_reply(200, {}, {"Set-Cookie": "a=b; Path=/"})) as server:
        client = client_for(server.url)
        client.list_projects()
        client.list_projects()
    assert [heard.headers.get("Cookie") for heard in server.heard] == [None, None]


@pytest.mark.parametrize(
    "key",
    ["", "sk_a b", "sk_a\n", "sk_a\r\nX-Header: 1", "sk_ä", "sk_\x00", "sk_\x7f", " "],
    ids=["empty", "space", "line break", "header", "umlaut", "null", "delete", "blank"],
)
def test_an_unusable_key_is_refused_before_sending(key: str) -> None:
    """A missing or impossible key is refused before anything is sent."""
    with Recorder() as server:
        with pytest.raises(ThreeSixtyError) as raised:
            Transport(server.url, key)
    assert type(raised.value) is ConfigurationError
    assert "key" in str(raised.value)
    assert server.heard == []
    if key.strip():
        assert key not in str(raised.value)


# -- certificates


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Return the paths of two certificates, each vouching for itself only; the server shows `own`."""
    paths = {}
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        paths[name] = str(certificate(tmp_path / name)[0])
    return paths


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("verify", "environment"),
    [("own", None), ("own", "other"), (False, None), (False, "other"), (True, "own")],
    ids=[
        "a path",
        "a path against the environment",
        "no check",
        "no check against the environment",
        "the environment",
    ],
)
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificate_is_accepted(
    certificates: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    verify: str | bool,
    environment: str | None,
    variable: str,
) -> None:
    """The connection's setting for certificates applies; if it has none, the environment does."""
    own = Path(certificates["own"])
    if environment:
        monkeypatch.setenv(variable, certificates[environment])
    with strict_emulator(tls=(own, own.with_name("key.pem"))) as emulator:
        client_for(emulator, verify=certificates.get(str(verify), verify)).list_projects()
        assert emulator.exchanges[-1].key_ok


@pytest.mark.parametrize(
    ("verify", "environment"),
    [(True, None), (True, "other"), ("other", None), ("other", "own")],
    ids=["by default", "the environment", "a path", "a path against the environment"],
)
def test_certificate_is_refused(
    certificates: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    verify: str | bool,
    environment: str | None,
) -> None:
    """An untrusted certificate ends the connection before the key is sent."""
    own = Path(certificates["own"])
    if environment:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates[environment])
    with strict_emulator(tls=(own, own.with_name("key.pem"))) as emulator:
        client = client_for(emulator, verify=certificates.get(str(verify), verify), tries=0)
        with pytest.raises(ConfigurationError, match="is not trusted"):
            client.list_projects()
        assert not emulator.exchanges


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "no certificate",
    ],
    ids=["missing", "empty", "garbage"],
)
@pytest.mark.parametrize("given", ["environment", "path"])
def test_unusable_authorities(
    certificates: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    given: str,
) -> None:
    """A file of authorities that cannot be used is an error of ours, and nothing is sent."""
    own, bundle = Path(certificates["own"]), tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    if given == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with strict_emulator(tls=(own, own.with_name("key.pem"))) as emulator:
        verify: bool | str = True if given == "environment" else str(bundle)
        outcome = outcome_of(client_for(emulator, verify=verify, tries=0).list_projects)
        assert not emulator.exchanges
    assert isinstance(outcome, ThreeSixtyError), repr(outcome)


# -- proxies


def test_a_proxy_never_sees_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment is used, and sees the request's destination but never the key."""
    own, key = certificate(tmp_path, "scans.example.org")
    with strict_emulator(tls=(own, key)) as emulator, Recorder(tunnel_to=emulator) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = client_for("https://scans.example.org", verify=str(own))
        client.list_projects()
        client.create_upload_session()
        assert [exchange.key_ok for exchange in emulator.exchanges] == [True, True]
    assert {(heard.method, heard.target) for heard in proxy.heard} == {("CONNECT", "scans.example.org:443")}
    assert KEY not in repr(proxy.heard)


def test_no_proxy_for_plain_http(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unencrypted key does not leave the machine through a proxy of the environment."""
    with Recorder() as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        client = client_for(emulator)
        client.list_projects()
        client.create_upload_session()
        assert [exchange.key_ok for exchange in emulator.exchanges] == [True, True]
    assert proxy.heard == []


def test_excepted_from_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to a host that the environment excepts from its proxy is sent directly."""
    own, key = certificate(tmp_path)
    with Recorder() as proxy, strict_emulator(tls=(own, key)) as emulator:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
        client_for(emulator, verify=str(own)).list_projects()
        assert emulator.exchanges[-1].key_ok
    assert proxy.heard == []


def test_a_dead_proxy_is_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is not there is no reply, and its password is not told."""
    monkeypatch.setenv("HTTPS_PROXY", "http://somebody:hush@127.0.0.1:1")
    with pytest.raises(NoReplyError) as raised:
        client_for("https://scans.example.org", tries=0).list_projects()
    assert "hush" not in str(raised.value)


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_redirect_is_an_error(emulator: Emulator, method: str, status: int) -> None:
    """A redirect is an error; the new address gets no request, and the message contains it."""
    with Recorder() as elsewhere:
        location = f"{elsewhere.url}/api/v1/uploads"
        emulator.faults.add(
            {"on": "* /uploads/*/*", "do": "status", "status": status, "headers": {"Location": location}}
        )
        octets = {"Content-Type": "application/octet-stream"}
        with pytest.raises(ApiError, match=location) as raised:
            Transport(emulator.url, KEY).request(
                method, "uploads", "AAAAAAAA", "a.e57", body=b"abc", headers=octets
            )
    assert (raised.value.status, raised.value.retryable) == (status, False)
    assert elsewhere.heard == []
    assert len(emulator.exchanges) == 1


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/elsewhere",
        "//evil",
        "http://[",
        "https://[::1/x",
    ],
    ids=["empty", "path", "no scheme", "half an address", "half an IPv6 address"],
)
def test_odd_redirects(location: str) -> None:
    """A redirect to an invalid URL is still an error of ours."""
    with Recorder(http_reply(302, {}, {"Location": location})) as server:
        outcome = outcome_of(client_for(server.url, tries=0).list_projects)
    assert isinstance(outcome, ThreeSixtyError), repr(outcome)


# -- addresses

SEGMENTS = {
    "plain": "Bx0xyTjt",
    "blank": "a b",
    "umlaut": "ä",
    "slash": "a/b",
    "escaped slash": "a%2Fb",
    "escaped dots": "%2e%2e",
    "question mark": "a?b=c",
    "hash": "a#b",
    "percent": "100%",
    "plus": "a+b",
    "colon and at": "u:p@h",
    "semicolon": "a;b",
    "backslash": "..\\a",
    "tilde": "~a",
    "three dots": "...",
    "dots inside": "a/../b",
    "not Latin": "点群",
    "emoji": "🏠",
}


@pytest.mark.parametrize("segment", SEGMENTS.values(), ids=SEGMENTS.keys())
def test_an_id_arrives_as_one_segment(segment: str) -> None:
    """An id or name of any kind arrives as one segment of the URL, unchanged."""
    with Recorder() as server:
        Transport(server.url, KEY).request("GET", "uploads", segment, "end")
    (heard,) = server.heard
    before, after = "/api/v1/uploads/", "/end"
    assert heard.target.startswith(before)
    assert heard.target.endswith(after)
    encoded = heard.target[len(before) : -len(after)]
    assert unquote(encoded) == segment
    assert not set("/?#") & set(encoded)


@given(segment=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_segment(segment_server: Recorder, segment: str) -> None:
    """For any text, an id is refused or arrives as one segment."""
    before = len(segment_server.heard)
    try:
        Transport(segment_server.url, KEY).request("GET", "uploads", segment, "end")
    except ThreeSixtyError:
        assert len(segment_server.heard) == before
        return
    target = segment_server.heard[-1].target
    assert [unquote(part) for part in target.split("/")] == ["", "api", "v1", "uploads", segment, "end"]


@pytest.fixture(scope="module")
def segment_server() -> Iterator[Recorder]:
    with Recorder() as server:
        yield server


@pytest.mark.parametrize(
    "segment",
    [
        "",
        ".",
        "..",
        "a\nb",
        "a\r\nX-Header: 1",
        "\x00",
        "a\tb",
        "a\x7f",
        "\x1b[31m",
        "\udcff",
    ],
    ids=["empty", "dot", "dots", "line break", "header", "null", "tab", "delete", "escape", "lone surrogate"],
)
def test_refused_segments(emulator: Emulator, segment: str) -> None:
    """An id that would change the address, or is not a text, is refused before sending, on one clean line."""
    outcome = outcome_of(lambda: Transport(emulator.url, KEY).request("GET", "uploads", segment))
    assert type(outcome) is ConfigurationError, repr(outcome)
    assert str(outcome).isprintable()
    assert not emulator.exchanges


SERVERS = {
    "https://360-for-you.com": "https://360-for-you.com",
    "https://360-for-you.com/": "https://360-for-you.com",
    "https://360-for-you.com/api/v1": "https://360-for-you.com",
    "https://360-for-you.com/api/v1/": "https://360-for-you.com",
    "360-for-you.com": "https://360-for-you.com",
    "360-for-you.com/api/v1": "https://360-for-you.com",
    "scans.example.org:8443": "https://scans.example.org:8443",
    "https://example.org/scans": "https://example.org/scans",
    "https://example.org/scans/api/v1/": "https://example.org/scans",
    "HTTPS://Example.org": "https://Example.org",
    "  https://example.org  ": "https://example.org",
    " example.org ": "https://example.org",
    "http://127.0.0.1:8360": "http://127.0.0.1:8360",
    "http://127.9.9.9": "http://127.9.9.9",
    "http://localhost:8360/api/v1": "http://localhost:8360",
    "http://LOCALHOST": "http://LOCALHOST",
    "http://[::1]:8360": "http://[::1]:8360",
}


@pytest.mark.parametrize(("address", "url"), SERVERS.items(), ids=SERVERS.keys())
def test_server_url(address: str, url: str) -> None:
    """A server's address in any usual form becomes its URL, and does so again."""
    assert server_url(address) == url
    assert server_url(url) == url


def test_default_server() -> None:
    """The hosted server is a server."""
    assert server_url(DEFAULT_SERVER) == DEFAULT_SERVER == "https://360-for-you.com"


@pytest.mark.parametrize(
    "address",
    [
        "http://360-for-you.com",
        "http://10.0.0.1",
        "http://192.168.1.5:8360",
        "http://0.0.0.0:8360",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://[2001:db8::1]",
        "http://2130706433",
        "http://xn--localhst-d4a",
        "http://127.0.0.1\\.example.org",
    ],
)
def test_plain_http_is_refused(address: str) -> None:
    """Plain http is refused for every host that is not this machine, however it is dressed up."""
    with pytest.raises(ThreeSixtyError, match="https") as raised:
        Transport(address, KEY)
    assert not isinstance(raised.value, ApiError)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "   ",
        "https://",
        "https:///api/v1",
        "ftp://example.org",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://example.org?key=1",
        "https://example.org/#top",
        "https://example.org:port",
        "https://example.org:99999",
        "https://[::1",
        "http://somebody@127.0.0.1",
        "http://127.0.0.1@example.org",
        "https://two words.org",
    ],
    ids=lambda address: address or "empty",
)
def test_no_server_url(address: str) -> None:
    """A value that is not a server's address is refused immediately."""
    with pytest.raises(ThreeSixtyError):
        server_url(address)


@pytest.mark.parametrize(
    "address",
    [
        f"https://somebody:{SECRET}@example.org",
        f"http://:{SECRET}@127.0.0.1:8360",
        f"ftp://:{SECRET}@example.org",
        f"https://:{SECRET}@example.org?a=b",
        f"https://:{SECRET}@example.org:port",
        f"ftp://:a@{SECRET}@example.org",
        f"ftp://example.org?key={SECRET}&key={SECRET}?",
    ],
    ids=["https", "loopback", "other scheme", "query", "no port", "two @", "two ?"],
)
def test_a_key_in_the_address_is_not_repeated(address: str) -> None:
    """A URL that contains a key is refused without repeating it."""
    with pytest.raises(ThreeSixtyError) as raised:
        server_url(address)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "facts"),
    [
        ("ftp://example.org?key=1", ["'ftp://example.org'", DEFAULT_SERVER]),
        ("https://somebody@example.org", ["user or password", "password field"]),
        ("http://example.org/", ["example.org", "use https"]),
    ],
    ids=["scheme", "user", "plain http"],
)
def test_a_refused_address_says_how_to_write_it(address: str, facts: list[str]) -> None:
    """The message names the address, without what may be secret, and says how to write it."""
    with pytest.raises(ConfigurationError) as raised:
        server_url(address)
    for fact in facts:
        assert fact in str(raised.value)


# -- replies

NO_ANSWERS: dict[str, tuple[Any, dict[str, str]]] = {
    "page": ("<!doctype html><title>Welcome</title>", {}),
    "nothing": ("", {}),
    "null": ("null", {"Content-Type": "application/json"}),
    "half of it": ('{"projects": [', {"Content-Type": "application/json"}),
    "two of them": ("{}{}", {"Content-Type": "application/json"}),
    "cut off": ({"projects": []}, {"Content-Length": "1000"}),
    "bad gzip": ({"projects": []}, {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize(("body", "headers"), NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_a_good_status_without_json_is_no_reply(
    emulator: Emulator, body: Any, headers: dict[str, str]
) -> None:
    """A good status without whole JSON is no reply."""
    emulator.faults.add({**answered(200, body, headers), "close": True})
    with pytest.raises(NoReplyError, match=r"GET /api/v1/projects") as raised:
        client_for(emulator, tries=0).list_projects()
    assert raised.value.retryable


def test_bottomless_json(emulator: Emulator) -> None:
    """JSON that is too deep to be read is no reply."""
    error = refusal(emulator, 200, "[" * 100_000)
    assert isinstance(error, NoReplyError), repr(error)


def test_a_reply_without_content_is_no_reply(emulator: Emulator) -> None:
    """A reply without content is no reply."""
    assert isinstance(refusal(emulator, 204), NoReplyError)


STATUSES: dict[str, tuple[int, Any, type[ApiError], str | None]] = {
    "400": (400, {"error": "invalid_filename"}, InvalidRequestError, "invalid_filename"),
    "400 page": (400, "<p>Bad request", InvalidRequestError, None),
    "401": (401, {"error": "invalid_api_key"}, AuthenticationError, "invalid_api_key"),
    "401 missing": (401, {"error": "missing_bearer_token"}, AuthenticationError, "missing_bearer_token"),
    "401 page": (401, "<p>Who are you?", AuthenticationError, None),
    "402": (402, {"error": "storage_quota_exceeded"}, QuotaError, "storage_quota_exceeded"),
    "403 scope": (403, {"error": "insufficient_scope"}, AuthenticationError, "insufficient_scope"),
    "403 tariff": (403, {"error": "tariff_forbids_upload"}, QuotaError, "tariff_forbids_upload"),
    "403 no api": (403, {"error": "tariff_does_not_allow_api"}, QuotaError, "tariff_does_not_allow_api"),
    "403 projects": (403, {"error": "project_limit_reached"}, QuotaError, "project_limit_reached"),
    "403 e-mail": (403, {"error": "email_not_verified"}, QuotaError, "email_not_verified"),
    "404 file": (404, {"error": "file_not_found"}, NotFoundError, "file_not_found"),
    "404 project": (404, {"error": "project_not_found"}, NotFoundError, "project_not_found"),
    "404 session": (
        404,
        {"error": "upload_session_not_found"},
        UploadSessionNotFoundError,
        "upload_session_not_found",
    ),
    "403 page": (403, "<title>Blocked</title>", UnexpectedReplyError, None),
    "404 page": (404, "<title>Not found</title>", UnexpectedReplyError, None),
    "404 other JSON": (404, {"detail": "Not found."}, UnexpectedReplyError, None),
    "404 list": (404, ["error", "file_not_found"], UnexpectedReplyError, None),
    "404 cut off": (404, '{"error": "upload_session_not_f', UnexpectedReplyError, None),
    "404 empty": (404, "", UnexpectedReplyError, None),
    "405": (405, {"error": "method_not_allowed"}, ApiError, "method_not_allowed"),
    "408": (408, None, UnexpectedReplyError, None),
    "408 JSON": (408, {"error": "request_timeout"}, UnexpectedReplyError, "request_timeout"),
    "421": (421, "<title>Misdirected</title>", UnexpectedReplyError, None),
    "425": (425, "", UnexpectedReplyError, None),
    "409": (
        409,
        {"error": "non_contiguous_chunk", "received": 7},
        OffsetMismatchError,
        "non_contiguous_chunk",
    ),
    "411": (411, {"error": "length_required"}, InvalidRequestError, "length_required"),
    "413": (413, {"error": "file_too_large", "limit": 5}, FileRejectedError, "file_too_large"),
    "413 session": (413, {"error": "session_too_large", "limit": 5}, FileRejectedError, "session_too_large"),
    "413 proxy": (413, "<title>413 Request Entity Too Large</title>", FileRejectedError, None),
    "415": (415, {"error": "extension_not_allowed"}, FileRejectedError, "extension_not_allowed"),
    "418": (418, {"error": "teapot"}, ApiError, "teapot"),
    "429": (429, {"error": "rate_limited"}, RateLimitedError, "rate_limited"),
    "429 page": (429, "<p>Slow down", RateLimitedError, None),
    "500": (500, {"error": "oops"}, ServerError, "oops"),
    "502 page": (502, "<title>Bad gateway</title>", ServerError, None),
    "503": (503, {}, ServerError, None),
    "504": (504, None, ServerError, None),
    "599": (599, None, ServerError, None),
    "304": (304, None, ApiError, None),
}


@pytest.mark.parametrize(("status", "body", "kind", "code"), STATUSES.values(), ids=STATUSES.keys())
def test_each_refusal_becomes_its_class(
    emulator: Emulator, status: int, body: Any, kind: type[ApiError], code: str | None
) -> None:
    """Each refusal becomes its class, with status and code; the message has the request and the reply."""
    error = refusal(emulator, status, body)
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status, error.code) == (status, code)
    assert error.retryable == (status == 429 or status >= 500 or kind is UnexpectedReplyError)
    for said in ("GET /api/v1/projects", str(status), code or ""):
        assert said in str(error)
    if code is None and status < 500 and status not in (304, 413):
        assert "check that the connection's host is a 360 server" in str(error).lower()
    if code is None and (status >= 500 or status == 413):
        assert "proxy" in str(error)


def test_other_fields_of_a_refusal_are_shown(emulator: Emulator) -> None:
    """The other fields of a refusal are kept as data and shown in the message."""
    large = refusal(emulator, 413, {"error": "file_too_large", "limit": 5_000})
    foreign = refusal(
        emulator, 415, {"error": "extension_not_allowed", "extension": "exe", "allowed": ["e57", "LAS"]}
    )
    gap = refusal(emulator, 409, {"error": "non_contiguous_chunk", "received": 7})
    assert isinstance(large, FileRejectedError)
    assert (large.limit, large.detail) == (5_000, {"limit": 5_000})
    assert "5000" in str(large)
    assert isinstance(foreign, FileRejectedError)
    assert (foreign.extension, foreign.allowed) == ("exe", ["e57", "las"])
    assert "exe" in str(foreign)
    assert "e57" in str(foreign)
    assert isinstance(gap, OffsetMismatchError)
    assert gap.received == 7


@pytest.mark.parametrize(
    "body",
    [{}, {"received": None}, {"received": "7"}, {"received": -1}, {"received": True}, "<p>Conflict"],
    ids=str,
)
def test_409_without_a_number(emulator: Emulator, body: Any) -> None:
    """A 409 without the server's number of bytes is not a valid reply: the engine has to ask."""
    assert type(refusal(emulator, 409, body)) is NoReplyError


@pytest.mark.parametrize("error", [None, 7, "", ["a"], {"code": "a"}, True], ids=repr)
def test_odd_codes(emulator: Emulator, error: object) -> None:
    """An error code that is no text is none."""
    refused = refusal(emulator, 400, {"error": error, "more": 1})
    assert isinstance(refused, InvalidRequestError)
    assert refused.code is None


def retry_after(emulator: Emulator, header: str | None, status: int = 429) -> float | None:
    headers = None if header is None else {"Retry-After": header}
    error = refusal(emulator, status, {"error": "rate_limited"}, headers)
    assert isinstance(error, RateLimitedError | ServerError)
    return error.retry_after


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_retry_after_of_a_server_error(emulator: Emulator, status: int) -> None:
    """Retry-After counts with any 5xx as with 429, and pauses no other request."""
    error = refusal(emulator, status, "<p>Maintenance", {"Retry-After": "1800"})
    assert isinstance(error, ServerError)
    assert error.retry_after == 1800
    assert "asks to wait 1800 s" in str(error)
    assert retry_after(emulator, None, status) is None
    client_for(emulator).list_projects()


HUGE = ["9" * 400, "9" * 5000, "-1", "1e9", "0x10", "Fri, 31 Dec 9999 23:59:59 GMT", "1 Jan 0001 0:0:0 +2359"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("status", [200, 302, 404, 429, 503])
@pytest.mark.parametrize("value", HUGE, ids=lambda value: value[:12])
@pytest.mark.parametrize(
    "name",
    ["Retry-After", "Date", "Content-Length", "Location", "Age", "Keep-Alive", "Expires", "Set-Cookie"],
)
def test_huge_numbers_and_dates_in_headers(name: str, value: str, status: int) -> None:
    """With any number or date in a header, the reply is understood, or an error of this package."""
    value = f"a=b; Max-Age={value}; Expires={value}" if name == "Set-Cookie" else value
    value = f"https://127.0.0.1:{value}/{value}" if name == "Location" else value
    body = '{"projects": []}'
    with Recorder(http_reply(status, body, {name: value})) as server:
        # With a wrong length the client waits in vain; nothing else may end by the timeout.
        client = client_for(server.url, tries=0, read_timeout=1.0 if name == "Content-Length" else 30.0)
        outcome = outcome_of(client.list_projects)
        assert isinstance(outcome, ThreeSixtyError | dict), repr(outcome)
        if status == 200 and name != "Content-Length":
            assert outcome == {"projects": []}
        assert abs(client.server_now() - time.time()) < 366 * 86400 + 60


@pytest.mark.parametrize(("days", "believed"), [(0.5, True), (364, True), (368, False), (-368, False)])
def test_a_date_that_is_more_than_a_year_off_is_ignored(
    emulator: Emulator, days: float, believed: bool
) -> None:
    """The server's clock is read from its Date, unless that cannot be true."""
    date = datetime.now(UTC) + timedelta(days=days)
    emulator.faults.add(answered(200, {}, {"Date": format_datetime(date, usegmt=True)}))
    client = client_for(emulator)
    client.list_projects()
    expected = date.timestamp() if believed else time.time()
    assert client.server_now() == pytest.approx(expected, abs=60)


def test_misdirected_requests_get_another_connection() -> None:
    """After a 421 the next request has a new connection, since the old one leads to another server."""
    reply = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n"
    with KeepingServer(reply) as server:
        client = client_for(server.url, tries=0)
        for connections in (1, 2):
            assert isinstance(outcome_of(client.list_projects), UnexpectedReplyError)
            assert server.connections == connections


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", None),
        ("0.0", None),
        ("00", None),
        (" 7 ", 7.0),
        ("1", 1.0),
        ("1.5", 1.5),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("99999999999999999999", 86400.0),
        ("9" * 400, 86400.0),
        ("9" * 5000, 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", None),
        (None, None),
        ("", None),
        ("soon", None),
        ("-7", None),
        ("7 s", None),
        ("inf", None),
        ("nan", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 +9999999999", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
    ],
)
def test_retry_after_is_seconds_and_a_day_at_most(
    emulator: Emulator, header: str | None, seconds: float | None
) -> None:
    """Retry-After is read as seconds, a day at most; 0, a date that has passed and nonsense name no time."""
    assert retry_after(emulator, header) == seconds


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2)), None], ids=str)
def test_retry_after_as_a_date(emulator: Emulator, zone: tzinfo | None) -> None:
    """Retry-After as an HTTP date is the seconds until then; a date without a zone is UTC."""
    moment = datetime.now(zone or UTC) + timedelta(seconds=100)
    text = format_datetime(moment if zone else moment.replace(tzinfo=None), usegmt=zone is UTC)
    seconds = retry_after(emulator, text)
    assert seconds is not None
    assert 90 < seconds <= 100


def test_retry_after_by_the_servers_clock(emulator: Emulator) -> None:
    """A date counts from the reply's own one: a clock of ours that is an hour off does no harm."""
    server = datetime.now(UTC) + timedelta(hours=1)
    date, after = (format_datetime(server + timedelta(seconds=s), usegmt=True) for s in (0, 100))
    error = refusal(emulator, 429, {"error": "rate_limited"}, {"Retry-After": after, "Date": date})
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 100


@given(value=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40))
@example(value="Mon, 1 Jan 99999999999999999999 0:0:0 GMT")
@example(value="1 Jan 0001 0:0:0 +2400")
def test_retry_after_of_any_text(refusing_server: KeepingServer, value: str) -> None:
    """For any text in Retry-After and Date, the result is a wait of at most a day, or None."""
    head = f"HTTP/1.1 429 Later\r\nRetry-After: {value}\r\nDate: {value}\r\nContent-Length: 0\r\n\r\n"
    refusing_server.reply = head.encode("latin-1")
    error = outcome_of(client_for(refusing_server.url, tries=0).list_projects)
    assert isinstance(error, RateLimitedError), repr(error)
    assert error.retry_after is None or 0 < error.retry_after <= 86400


@pytest.fixture(scope="module")
def refusing_server() -> Iterator[KeepingServer]:
    with KeepingServer() as server:
        yield server


def test_real_rate_limit() -> None:
    """The limit of the contract, reached for real, carries its wait."""
    with strict_emulator(limits="real") as emulator:
        client = client_for(emulator, tries=0)
        for _ in range(30):
            client.create_upload_session()
        with pytest.raises(RateLimitedError) as raised:
            client.create_upload_session()
    assert raised.value.code == "rate_limited"
    assert raised.value.retry_after is not None
    assert 3590 < raised.value.retry_after <= 3600


# -- the content of a message


def test_messages_never_hold_the_key(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """After any failure, neither an error's texts nor the log at any level contain the key."""
    with caplog.at_level(logging.DEBUG):
        errors = []
        client = client_for(emulator, key=SECRET, tries=1, read_timeout=0.2)
        for status, body, kind, _ in STATUSES.values():
            emulator.faults.add({**answered(status, body), "times": 2 if kind.retryable else 1})
            errors.append(outcome_of(client.list_projects))
        for fault in ("lost_reply", "reset", "stall"):
            emulator.faults.add({"on": "GET /projects", "do": fault, "times": 2 if fault == "stall" else 4})
            errors.append(outcome_of(client.list_projects))
        errors.append(outcome_of(client_for("http://127.0.0.1:1", key=SECRET, tries=0).list_projects))
        errors.append(outcome_of(lambda: client_for(emulator, key=f"{SECRET} {SECRET}")))
        errors.append(outcome_of(lambda: client_for("http://example.org", key=SECRET)))
        errors.append(outcome_of(lambda: client.get_project("..")))
        errors.append(repr(client_for(emulator, key=SECRET)))
    assert len(caplog.records) > 3
    for error in errors[:-1]:
        assert isinstance(error, ThreeSixtyError), repr(error)
        assert SECRET not in f"{error} {error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}"
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (401, {"error": "invalid_api_key", "got": f"Bearer {SECRET}"}, {}),
        (401, {"error": f"no such key: {SECRET}"}, {}),
        (302, {}, {"Location": f"https://example.org/login?key={SECRET}"}),
    ],
    ids=["detail", "code", "location"],
)
def test_a_server_that_repeats_the_key(
    emulator: Emulator, status: int, body: Any, headers: dict[str, str]
) -> None:
    """A server that repeats the key in its refusal does not get it into the message."""
    emulator.faults.add(answered(status, body, headers))
    error = outcome_of(client_for(emulator, key=SECRET, tries=0).list_projects)
    assert isinstance(error, ApiError)
    assert SECRET not in f"{error} {error!r}"


def test_a_server_that_spells_the_key(emulator: Emulator) -> None:
    """A server that repeats the key in JSON escapes does not get it into the message either."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    headers = {"Content-Type": "application/json"}
    emulator.faults.add(answered(401, f'{{"error": "invalid_api_key", "got": "{escaped}"}}', headers))
    error = outcome_of(client_for(emulator, key=SECRET, tries=0).list_projects)
    assert isinstance(error, ApiError)
    assert "***" in str(error)
    assert SECRET not in f"{error} {error!r} {error.detail}"


LONG = "x" * 100_000
RUDE = "one\r\ntwo\x1b[31mred\x00\u2028end\u202etxt"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (f"<p>{LONG}{RUDE}", {}),
        ({"error": LONG}, {}),
        ({"error": RUDE}, {}),
        ({"error": "a", "detail": LONG}, {}),
        ({"error": "a", "detail": RUDE}, {}),
        ({"error": "a", RUDE: 1}, {}),
        ({"error": "a", LONG: 1}, {}),
        ({"error": "a", "detail": [{"b": LONG}]}, {}),
        ({"error": "a", **{f"field{n}": "x" * 400 for n in range(1000)}}, {}),
    ],
    ids=["page", "long code", "rude code", "long", "rude", "rude name", "long name", "nested", "many fields"],
)
def test_server_text_is_bounded_and_clean(emulator: Emulator, body: Any, headers: dict[str, str]) -> None:
    """For any text from the server, of any length, a message is one line of bounded length."""
    error = refusal(emulator, 400, body, headers)
    assert isinstance(error, InvalidRequestError)
    assert str(error).isprintable()
    assert len(str(error)) < 1500
    assert len(error.code or "") < 400


def test_location_is_bounded() -> None:
    """A redirect's URL is cleaned and bounded like any other text of a server."""
    with Recorder(http_reply(302, {}, {"Location": f"/{'x' * 10_000}\x1b"})) as server:
        error = outcome_of(client_for(server.url, tries=0).list_projects)
    assert isinstance(error, ApiError)
    assert str(error).isprintable()
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("invalid_api_key", "API key (the password)"),
        ("insufficient_scope", "projects:write"),
        ("storage_quota_exceeded", "Free storage"),
        ("upload_session_not_found", "clear the session task"),
        ("project_creation_failed", "run the upload tasks again"),
    ],
)
def test_a_refusal_contains_the_next_step(emulator: Emulator, code: str, advice: str) -> None:
    """If a reader can act on a refusal, the message contains the next step."""
    assert advice in str(refusal(emulator, 400, {"error": code}))


def test_the_reason_is_this_request_s_own(emulator: Emulator) -> None:
    """A request without an answer names its own reason, even while another error is being handled."""
    emulator.faults.add({"on": "GET /projects", "do": "lost_reply", "times": 2})
    client = client_for(emulator, tries=0)
    error: object = None
    try:
        raise NotFoundError("something that happened before")
    except NotFoundError:
        error = outcome_of(client.list_projects)
    assert isinstance(error, NoReplyError)
    assert "something that happened before" not in str(error)
    assert "RemoteDisconnected" in str(error)


# -- timeouts


def test_read_timeout(emulator: Emulator) -> None:
    """A server that does not answer is given up after the read timeout."""
    emulator.faults.add({"on": "GET /projects", "do": "stall", "seconds": 5})
    client = client_for(emulator, read_timeout=0.2, connect_timeout=60, tries=0)
    began = time.monotonic()
    with pytest.raises(NoReplyError, match="imed out"):
        client.list_projects()
    assert 0.2 <= time.monotonic() - began < 2


def test_connect_timeout() -> None:
    """A server that never answers the TLS handshake is given up after the connect timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = client_for(
            f"https://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.2, read_timeout=60, tries=0
        )
        began = time.monotonic()
        with pytest.raises(NoReplyError, match="imed out"):
            client.list_projects()
        assert 0.2 <= time.monotonic() - began < 2


def test_a_closed_port_is_no_reply() -> None:
    """A closed port is an error without a reply, and the message contains the server and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(NoReplyError, match="refused") as raised:
        client_for(url, tries=0).list_projects()
    assert url in str(raised.value)


CALLS: dict[str, Callable[[ThreeSixtyClient], object]] = {
    "POST /uploads": lambda client: client.create_upload_session(),
    "PUT /uploads/*/*": lambda client: client.put_file("AAAAAAAA", "a.e57", b"abc"),
    "GET /uploads/*/*": lambda client: client.get_file_progress("AAAAAAAA", "a.e57"),
    "GET /uploads/*": lambda client: client.list_files("AAAAAAAA"),
    "DELETE /uploads/*": lambda client: client.delete_upload_session("AAAAAAAA"),
    "POST /projects": lambda client: client.create_project({"upload_id": "AAAAAAAA"}),
    "GET /projects/*": lambda client: client.get_project("AAAAAAAA"),
    "GET /projects": lambda client: client.list_projects(),
}


@pytest.mark.parametrize(("endpoint", "call"), CALLS.items(), ids=CALLS.keys())
def test_every_call_has_a_time_out(
    emulator: Emulator, endpoint: str, call: Callable[[ThreeSixtyClient], object]
) -> None:
    """No method of the client waits for ever."""
    emulator.faults.add({"on": endpoint, "do": "stall", "seconds": 5})
    with pytest.raises(NoReplyError, match="imed out"):
        call(client_for(emulator, read_timeout=0.1, tries=0))


def put_while_the_server_stalls(
    emulator: Emulator, kept: bool, seconds: float, **client: Any
) -> FileProgress:
    """Send a body to a server that does not read for some seconds, over a new or a kept connection."""
    upload_id = client_for(emulator).create_upload_session().upload_id
    emulator.faults.add({"on": "PUT /uploads/*/*", "do": "stall", "when": "before_body", "seconds": seconds})
    sender = client_for(emulator, **client)
    if kept:
        sender.list_files(upload_id)
    return sender.put_file(upload_id, "a.e57", bytes(32 << 20))


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_a_pause_while_sending_is_not_a_connect_timeout(emulator: Emulator, kept: bool) -> None:
    """A server that stops reading for longer than the connect timeout does not break a PUT."""
    assert put_while_the_server_stalls(emulator, kept, 0.5, connect_timeout=0.2, read_timeout=10).complete


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_a_server_that_stops_reading_does_not_hold_a_put(emulator: Emulator, kept: bool) -> None:
    """If the server takes no more bytes for the send timeout, the request fails and can be repeated."""
    started = time.monotonic()
    with pytest.raises(NoReplyError, match="imed out") as caught:
        put_while_the_server_stalls(emulator, kept, 5, send_timeout=0.3, tries=0)
    assert time.monotonic() - started < 4
    assert (caught.value.sent, caught.value.timed_out, caught.value.retryable) == (True, False, True)


# -- connections


def test_an_error_that_was_handled_before_is_not_the_cause() -> None:
    """A connection that is refused while an earlier error is handled counts as unsent, and is the cause."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    try:
        raise KeyError("earlier")
    except KeyError:
        with pytest.raises(NoReplyError, match="refused") as caught:
            client_for(url, tries=0).list_projects()
    assert not caught.value.sent


def test_connections_are_kept() -> None:
    """Requests use one connection as long as the server keeps it."""
    with KeepingServer() as server:
        client = client_for(server.url)
        for _ in range(5):
            client.list_projects()
        assert server.connections == 1


def test_a_post_has_a_connection_of_its_own() -> None:
    """Each POST opens a new connection, even if the server would keep the last one."""
    with KeepingServer() as server:
        client = client_for(server.url)
        client.list_projects()
        for _ in range(3):
            client.create_upload_session()
        assert server.connections == 4


def test_a_reply_in_another_encoding() -> None:
    """A reply that is not UTF-8 is a normal reply: unreadable bytes are replaced."""
    page = http_reply(502, "<p>caf?").replace(b"?", b"\xe9")
    with Recorder(page) as server, pytest.raises(ServerError, match=r"502 .not a reply"):
        client_for(server.url, tries=0).list_projects()


def test_a_list_that_holds_the_key(emulator: Emulator) -> None:
    """A server that repeats the key within a list does not get it into the message either."""
    body = {"error": "odd", "seen": [f"Bearer {KEY}", [KEY]]}
    assert KEY not in str(refusal(emulator, 418, body))
    assert "seen: ['Bearer ***', ['***']]" in str(refusal(emulator, 418, body))


# -- no reply


def test_message_of_a_request_without_a_reply(emulator: Emulator) -> None:
    """The message about a request without an answer has the server, the cause, and the next step."""
    emulator.faults.add({"on": "POST /projects", "do": "lost_reply"})
    client = client_for(emulator)
    with pytest.raises(NoReplyError) as raised:
        client.create_project({"download_link": "https://x/y.e57"})
    told = str(raised.value)
    assert told.startswith(f"POST /api/v1/projects: no answer from {emulator.url} (RemoteDisconnected: ")
    assert told.endswith("). If this persists, check the connection's host and the network.")


def test_without_a_connection_a_request_was_not_sent() -> None:
    """A request for which there was no connection was surely not sent, and keys are told apart."""
    client = client_for("http://127.0.0.1:1", tries=0)
    with pytest.raises(NoReplyError) as raised:
        client.list_projects()
    assert not raised.value.sent
    assert client.has_key_of(client_for("http://127.0.0.1:2"))
    assert not client.has_key_of(client_for("http://127.0.0.1:1", key="sk_other"))
