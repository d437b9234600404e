"""A client without a contract: it sends the given bytes and returns the reply."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

from airflow_360.emulator import Emulator

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.json["error"]


class Raw:
    """One connection to an emulator, with a key."""

    def __init__(
        self, emulator: Emulator, key: str | None = "sk_test", tls: ssl.SSLContext | None = None
    ) -> None:
        host = urlsplit(emulator.url).netloc
        self.http: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, timeout=10, context=tls)
            if tls
            else http.client.HTTPConnection(host, timeout=10)
        )
        self.authorization = {} if key is None else {"Authorization": f"Bearer {key}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        data = json.dumps(body) if isinstance(body, dict | list) else body
        self.http.request(method, path, data, {**self.authorization, **(headers or {})})
        reply = self.http.getresponse()
        return Answer(reply.status, dict(reply.headers), reply.read().decode())

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self.send(method, "/api/v1" + path, body, headers)

    def session(self) -> str:
        return str(self.call("POST", "/uploads").json["upload_id"])

    def whole(self, upload_id: str, filename: str, data: bytes) -> Answer:
        return self.call("PUT", f"/uploads/{upload_id}/{quote(filename, safe='/')}", data, OCTETS)

    def chunk(self, upload_id: str, filename: str, data: bytes, start: int, total: int) -> Answer:
        content_range = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{total}"}
        path = f"/uploads/{upload_id}/{quote(filename, safe='/')}"
        return self.call("PUT", path, data, {**OCTETS, **content_range})

    def begin(self, upload_id: str, filename: str, length: int, data: bytes = b"") -> None:
        """Send the head of a whole-file PUT, and as much of its body as is given."""
        self.http.putrequest("PUT", f"/api/v1/uploads/{upload_id}/{filename}")
        for name, value in {**self.authorization, **OCTETS, "Content-Length": str(length)}.items():
            self.http.putheader(name, value)
        self.http.endheaders(data)

    def received(self, upload_id: str, filename: str) -> int:
        return int(self.call("GET", f"/uploads/{upload_id}/{filename}").json["received"])

    def scan(self) -> str:
        """Create a session with one complete file."""
        upload_id = self.session()
        self.whole(upload_id, "scan.e57", b"points")
        return upload_id


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
