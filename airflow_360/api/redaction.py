"""Redacts secrets from a server's replies. Pure.

A server may repeat a secret in another spelling: percent-encoded, HTML-escaped or JSON-escaped, once or
several times. So a text and a secret are compared after both have been decoded as far as possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from json import dumps
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

__all__ = ["MASK", "Redactor", "secrets_of_link", "spellings"]

MASK = "***"
MAX_LEVELS = 5  # of nested encodings that are decoded
MAX_MAPPED_CHARACTERS = (
    64 * 1024
)  # a longer text that repeats a secret in another spelling is redacted completely
MIN_LINK_CHARACTERS = 16  # "dl=1" is no secret, and would be redacted everywhere
MIN_VALUE_CHARACTERS = 6

_ESCAPE = re.compile(
    r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\([^ux])"
    r"|&#(\d{1,7});|&#[xX]([0-9A-Fa-f]{1,6});|&(amp|lt|gt|quot|apos);"
)
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
#: Query parameters that are secret in presigned URLs of AWS, Google, Azure and others.
_SECRET_NAME = re.compile(r"(?<![a-z])sig(?!ned)|token|credential|secret|passw|access.?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"[\w~+/=-]{24,}", re.ASCII)
_SIGNED_NAME = r"X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)"
_SIGNED = re.compile(
    rf"""({_SIGNED_NAME}(?:["']?\s?[:=]\s?["']?|%(?:25){{0,4}}3D|\\u003d|&#x?3D;|&#61;))[^&\s"'<>\\;,*[]+""",
    re.IGNORECASE,
)


class Redactor:
    """A redactor that replaces secrets with ``***``, in every spelling.

    The signature of a presigned URL of AWS or Google is redacted even if the URL is not known.

    :param secrets: the secrets; empty ones are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = frozenset(secret for secret in secrets if secret)
        self._longest_first = sorted(self.secrets, key=len, reverse=True)
        # No encoder changes letters and digits, so a long text without these need not be decoded.
        self._runs = {max(re.findall("[A-Za-z0-9]*", secret), key=len) for secret in self.secrets}
        self._needles = {_plain(_fully_decoded(_as_bytes(secret))) for secret in self.secrets}

    def also(self, secrets: Iterable[str]) -> Redactor:
        """Return a redactor for these secrets and further ones."""
        return self if self.secrets.issuperset(more := set(secrets)) else Redactor(self.secrets | more)

    def redact(self, value: Any) -> Any:
        """Return a string, or parsed JSON with all its keys and values, without secrets."""
        match value:
            case str():
                return self._redacted(value)
            case dict():
                return {
                    self.redact(name): MASK if _is_signed(name, item) else self.redact(item)
                    for name, item in value.items()
                }
            case list():
                return [self.redact(item) for item in value]
        return value

    def _redacted(self, text: str) -> str:
        data = _as_bytes(text)
        if len(data) <= MAX_MAPPED_CHARACTERS or any(run in text for run in self._runs):
            decoded = _plain(_fully_decoded(data))
            if any(needle in decoded for needle in self._needles):
                data = self._cut(data) if len(data) <= MAX_MAPPED_CHARACTERS else MASK
                text = data.encode("latin-1").decode("utf-8", "replace")
        for secret in self._longest_first:  # the text before a secret may look like a part of an escape
            text = text.replace(secret, MASK)
        return _SIGNED.sub(rf"\1{MASK}", text)

    def _cut(self, data: str) -> str:
        """Return the text without its secrets; it contains at least one."""
        decoded, starts = data, list(range(len(data) + 1))
        for _ in range(MAX_LEVELS):
            decoded, starts = _decoded_with_starts(decoded, starts)
        decoded = _plain(decoded)
        spans = sorted(span for needle in self._needles for span in _spans(decoded, needle))
        parts, at = [], 0
        for start, end in spans:
            if starts[end] > at:
                parts += [data[at : starts[start]], MASK] if starts[start] >= at else []
                at = starts[end]
        return "".join([*parts, data[at:]])


def secrets_of_link(link: str) -> list[str]:
    """Return the secrets of a URL that may be presigned: the whole URL, and each secret value in it.

    :param link: the URL.
    """
    link = link.strip()
    query = link.partition("?")[2].partition("#")[0]
    found = [part for part in (link, query) if len(part) >= MIN_LINK_CHARACTERS]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        plain = unquote_plus(value)
        if len(plain) >= MIN_VALUE_CHARACTERS and (
            _SECRET_NAME.search(unquote(name)) or _SECRET_VALUE.fullmatch(plain)
        ):
            found.append(value)
    try:
        password = urlsplit(link).password or ""
    except ValueError:
        password = ""
    return found + [password] * (len(password) >= MIN_VALUE_CHARACTERS)


def spellings(secret: str) -> list[str]:
    """Return the usual spellings of a secret, for callers that cannot decode the text they search.

    :param secret: a URL or a part of one.
    """
    found = {secret: None}
    for text in (secret, unquote(secret), unquote_plus(secret)):
        for spell in (str, quote, _quote_all, quote_plus, escape, _escape_json, _escape_json_slash):
            found[spell(text)] = None
    return list(found)


def _quote_all(text: str) -> str:
    return quote(text, safe="")


def _escape_json(text: str) -> str:
    return dumps(text)[1:-1]


def _escape_json_slash(text: str) -> str:
    return _escape_json(text).replace("/", "\\/").replace("&", "\\u0026")


def _is_signed(name: object, value: object) -> bool:
    texts = isinstance(name, str) and isinstance(value, str)
    return texts and bool(re.fullmatch(_SIGNED_NAME, str(name), re.IGNORECASE))


def _as_bytes(text: str) -> str:
    """Return a string with one character for each byte of its UTF-8, because ``%C3%BC`` encodes bytes."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


def _plain(data: str) -> str:
    return data.replace("+", " ")  # in a query, both mean a space


def _fully_decoded(data: str) -> str:
    for _ in range(MAX_LEVELS):
        decoded = _ESCAPE.sub(_character, data)
        if decoded == data:
            break
        data = decoded
    return data


def _decoded_with_starts(data: str, starts: Sequence[int]) -> tuple[str, list[int]]:
    """Decode one level; also return the start of each character in the original."""
    parts, places, at = [], list[int](), 0
    for escaped in _ESCAPE.finditer(data):
        character = _character(escaped)
        parts += [data[at : escaped.start()], character]
        places += [*starts[at : escaped.start()], *[starts[escaped.start()]] * len(character)]
        at = escaped.end()
    return "".join([*parts, data[at:]]), [*places, *starts[at:]]


def _character(escaped: re.Match[str]) -> str:
    percent, byte, unicode, character, decimal, hexadecimal, name = escaped.groups()
    if character or name:
        return str(character or _ENTITIES[name])
    if percent or byte:
        return chr(int(percent or byte, 16))
    number = int(decimal) if decimal else int(unicode or hexadecimal, 16)
    return _as_bytes(chr(number)) if number <= 0x10FFFF else escaped.group()


def _spans(text: str, needle: str) -> Iterable[tuple[int, int]]:
    start = text.find(needle)
    while start >= 0:
        yield start, start + len(needle)
        start = text.find(needle, start + len(needle))
