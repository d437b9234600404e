"""Secrets are redacted from the server's replies, in any spelling."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.api.redaction import MASK, Redactor, secrets_of_link, spellings
from airflow_360.emulator import Emulator
from airflow_360.exceptions import ApiError, NoReplyError, ThreeSixtyError
from tests.api.servers import KeepingServer
from tests.fakes import client_for, http_reply, outcome_of

KEY = "sk_q7vXz3LwT9bN4cR8"
SIGNATURE = "5169e0d4c3b2a1f65169e0d4c3b2a1f6"
TOKEN = "FwoGZXIvYXdzE///wEaDGq+1f/8kz+aa=="
CREDENTIAL = "AKIAIOSFODNN7EXAMPLE/20260611/eu-central-1/s3/aws4_request"
LINK = (
    "https://scans.s3.example.com/2026%2006/b%C3%BCro%20%231.e57?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential={quote(CREDENTIAL, safe='')}&X-Amz-Date=20260611T020000Z&X-Amz-Expires=86400"
    f"&X-Amz-Security-Token={quote(TOKEN, safe='')}&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
)
#: The secret that opens the file, and the part of it that a redaction up to a reserved character would leave.
SECRET_PARTS = (SIGNATURE, "FwoGZXIvYXdzE", "wEaDGq", "8kz", "AKIAIOSFODNN7EXAMPLE")

SPELLINGS: dict[str, Callable[[str], Any]] = {
    "as it is": str,
    "decoded": unquote,
    "decoded, + for spaces": unquote_plus,
    "encoded again": lambda link: quote(link, safe=""),
    "encoded again, + for spaces": lambda link: quote_plus(unquote(link)),
    "encoded twice more": lambda link: quote(quote(link, safe=""), safe=""),
    "HTML": escape,
    "HTML with numbers": lambda link: escape(link).replace("&amp;", "&#x26;").replace("=", "&#61;"),
    "HTML of the decoded link": lambda link: escape(escape(unquote(link))),
    "JSON in JSON": json.dumps,
    "JSON with escaped slashes": lambda link: json.dumps(link).replace("/", "\\/").replace("&", "\\u0026"),
    "HTML in JSON": lambda link: json.dumps(escape(link)),
    "parsed query": lambda link: dict(parse_qsl(urlsplit(link).query)),
    "parsed query with lists": lambda link: parse_qs(urlsplit(link).query),
    "pairs": lambda link: [list(pair) for pair in parse_qsl(urlsplit(link).query)],
    "query as text": lambda link: json.dumps(parse_qs(urlsplit(link).query)),
    "keys": lambda link: {value: name for name, value in parse_qsl(urlsplit(link).query)},
}


def assert_no_secret(text: str) -> None:
    assert [part for part in SECRET_PARTS if part in text] == []


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_presigned_link_in_any_spelling(spell: Callable[[str], Any]) -> None:
    """A presigned URL is redacted in each spelling, and the text around it stays."""
    said = Redactor(secrets_of_link(LINK)).redact({"before": "kept", "link": spell(LINK), "after": ["kept"]})
    assert MASK in str(said)
    assert_no_secret(str(said))
    assert (said["before"], said["after"]) == ("kept", ["kept"])


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_refusal_that_repeats_the_link(emulator: Emulator, spell: Callable[[str], Any]) -> None:
    """A refusal that repeats the link of its request, in any spelling, does not bring it into the error."""
    body = {"error": "project_creation_failed", "said": spell(LINK)}
    emulator.faults.add({"on": "POST /projects", "do": "status", "status": 400, "body": body})
    error = outcome_of(lambda: client_for(emulator, tries=0).create_project({"download_link": LINK}))
    assert isinstance(error, ApiError)
    assert MASK in str(error)
    assert_no_secret(f"{error} {error!r} {error.detail}")


def test_a_redirect_that_repeats_the_link(emulator: Emulator) -> None:
    """The URL of a redirect that contains the link, encoded again, is redacted."""
    headers = {"Location": f"https://login.example.org/?next={quote(LINK, safe='')}"}
    emulator.faults.add({"on": "POST /projects", "do": "status", "status": 302, "headers": headers})
    error = outcome_of(lambda: client_for(emulator, tries=0).create_project({"download_link": LINK}))
    assert isinstance(error, ApiError)
    assert "login.example.org" in str(error)
    assert_no_secret(f"{error} {error!r}")


def test_later_replies_do_not_repeat_the_link(emulator: Emulator) -> None:
    """The account's projects, listed after a request that was lost, do not repeat the link either."""
    link = f"https://share.example.org/scan.e57?token={SIGNATURE}"
    client = client_for(emulator, tries=0)
    emulator.faults.add({"on": "POST /projects", "do": "lost_reply"})
    outcome_of(lambda: client.create_project({"download_link": link}))
    listed = {"projects": [{"name": "a", "title": unquote(link)}]}
    emulator.faults.add({"on": "GET /projects", "do": "status", "status": 200, "body": listed})
    assert client.list_projects() == {"projects": [{"name": "a", "title": MASK}]}


@pytest.mark.parametrize(
    "said",
    [LINK, quote(LINK, safe=""), escape(LINK), json.dumps(LINK), dict(parse_qsl(urlsplit(LINK).query))],
    ids=["link", "encoded", "HTML", "JSON", "query"],
)
def test_a_signature_of_an_unknown_link(said: Any) -> None:
    """A reply about a link from an earlier attempt does not contain the link's signature."""
    assert_no_secret(str(Redactor([KEY]).redact(said)))


@pytest.mark.parametrize(
    ("link", "secret"),
    [
        ("https://a.blob.core.windows.net/b/c.e57?sv=2024&se=2026&sig=q%2Bw%2Fe%3D%3D123", "q+w/e==123"),
        ("https://storage.googleapis.com/b/c?X-Goog-Signature=0a1b2c3d", "0a1b2c3d"),
        ("https://d1.cloudfront.net/c?Expires=1&Signature=a~b_c-d9&Key-Pair-Id=K2", "a~b_c-d9"),
        ("https://www.dropbox.com/s/c.e57?rlkey=ab12cd34ef56gh78ij90klmn&dl=1", "ab12cd34ef56gh78ij90klmn"),
        ("https://example.org/c.e57?access_token=abc.def", "abc.def"),
        ("https://someone:hush-hush@example.org/c.e57", "hush-hush"),
    ],
    ids=["Azure", "Google", "CloudFront", "Dropbox", "token", "password"],
)
def test_single_values_of_a_link(link: str, secret: str) -> None:
    """A secret value of a link is redacted on its own, for any signer; ordinary values are not."""
    redactor = Redactor(secrets_of_link(link))
    assert redactor.redact({"value": secret}) == {"value": MASK}
    assert redactor.redact("2026 host dl=1 K2") == "2026 host dl=1 K2"


@given(
    st.lists(st.sampled_from([_ for _ in SPELLINGS.values() if isinstance(_("x"), str)]), max_size=2),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_any_two_spellings_on_top_of_each_other(
    spells: list[Callable[[str], str]], before: str, after: str
) -> None:
    """A secret that was encoded twice in any way, with any text around it, is redacted."""
    text = f" {LINK} "
    for spell in spells:
        text = spell(text)
    assert_no_secret(Redactor([KEY, *secrets_of_link(LINK)]).redact(f"{before}{text}{after}"))


@pytest.mark.parametrize("before", ["%", "\\u", "\\", "&#", "%5", "x"])
def test_a_key_behind_the_beginning_of_an_escape(before: str) -> None:
    """A key is redacted although the characters before it make it look like an escape."""
    assert "41ab9c0d" not in Redactor(["41ab9c0d"]).redact(f"{before}41ab9c0d")


@given(st.text())
def test_other_text_stays(text: str) -> None:
    """A text without a secret stays as it is."""
    assert Redactor([KEY, *secrets_of_link(LINK)]).redact(text) == text


def test_empty_secrets_are_ignored() -> None:
    """An empty secret redacts nothing."""
    assert Redactor(["", *secrets_of_link("")]).redact("text") == "text"


def test_long_texts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of escapes takes seconds at most, and a long text with a secret is redacted."""
    redactor, began = Redactor([KEY, *secrets_of_link(LINK)]), time.monotonic()
    for escapes in ("\\", "%", "%25", "&amp;", "%41"):
        text = escapes * (1024 * 1024 // len(escapes))
        assert redactor.redact(text) == text
        assert_no_secret(redactor.redact(text + LINK))
        assert_no_secret(redactor.redact(text + quote(LINK, safe="")))
    assert time.monotonic() - began < 60


def test_usual_spellings() -> None:
    """For Airflow's masking of secrets, which compares texts as they are, there is each usual spelling."""
    found = spellings(LINK)
    for name in (
        "as it is",
        "decoded",
        "decoded, + for spaces",
        "encoded again",
        "HTML",
        "encoded again, + for spaces",
    ):
        assert SPELLINGS[name](LINK) in found


# -- replies that break

BROKEN = {
    "status line": f"Bearer {KEY}\r\n\r\n".encode(),
    "version": f"HTTP/{KEY} 200 OK\r\n\r\n".encode(),
    "status": f"HTTP/1.1 {KEY} OK\r\n\r\n".encode(),
    "lengths": f"HTTP/1.1 200 OK\r\nContent-Length: 1,{KEY}\r\n\r\n{{}}".encode(),
    "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "encoding": http_reply(200, {}, {"Content-Encoding": KEY}),
    "encoding in capitals": http_reply(200, {}, {"Content-Encoding": KEY.upper()}),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_reply_that_repeats_the_key(reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The error of an unreadable reply does not repeat the key in it."""
    caplog.set_level(logging.DEBUG)
    with KeepingServer(reply) as server:
        error = outcome_of(client_for(server.url, key=KEY, tries=0, read_timeout=0.5).list_projects)
    assert isinstance(error, ThreeSixtyError), repr(error)
    assert KEY not in f"{error} {error!r} {caplog.text}"
    assert KEY.lower() not in str(error)


@pytest.mark.parametrize(
    "lines",
    [f"Authorization Bearer {KEY}", f"Bearer {KEY}: x", f" {KEY}", f"X-A: b\r\nX {KEY}\r\nX-C: d"],
    ids=["no colon", "space in the name", "continuation", "in the middle"],
)
@pytest.mark.parametrize("status", [200, 401])
def test_malformed_headers_are_not_logged(lines: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """The lines of malformed headers do not get into the log, although urllib3 would write them."""
    caplog.set_level(logging.DEBUG)
    reply = f"HTTP/1.1 {status} Whatever\r\n{lines}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with KeepingServer(reply) as server:
        outcome_of(client_for(server.url, key=KEY, tries=0, read_timeout=0.5).list_projects)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    assert KEY not in caplog.text


def test_malformed_headers_are_tolerated() -> None:
    """A reply with a malformed header behind those that count is read as any other."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno header at all\r\n\r\n[]"
    with KeepingServer(reply) as server:
        assert client_for(server.url, tries=0).list_projects() == []


def test_a_lost_reply_names_no_link() -> None:
    """The error of a reply that breaks does not repeat the link either."""
    with KeepingServer(f"{unquote(LINK)}\r\n\r\n".encode()) as server:
        error = outcome_of(lambda: client_for(server.url, tries=0).create_project({"download_link": LINK}))
    assert isinstance(error, NoReplyError)
    assert_no_secret(f"{error} {error!r}")
