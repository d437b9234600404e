"""A refused TLS certificate is a wrong setting: one attempt, and the message names the setting."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from airflow_360.api.certificates import certificate_problem
from airflow_360.api.check import check
from airflow_360.emulator import Emulator
from airflow_360.exceptions import ConfigurationError
from airflow_360.projects.waiting import GiveUp, WaitRecord, next_step
from airflow_360.upload.engine import upload
from airflow_360.upload.many import Job, upload_many
from tests.fakes import MemorySource, Waits, certificate, client_for, outcome_of, some_bytes

WHAT_FALSE_MEANS = "could then read the API key and the scans"


def expired(paths: tuple[Path, Path]) -> tuple[Path, Path]:
    """Replace a certificate by the same one of last year."""
    key = serialization.load_pem_private_key(paths[1].read_bytes(), None)
    old = x509.load_pem_x509_certificate(paths[0].read_bytes())
    year = datetime.timedelta(days=365)
    built = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(old.not_valid_before_utc - year)
        .not_valid_after(old.not_valid_after_utc - year)
        .add_extension(old.extensions[0].value, critical=False)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type] # an EC key
    )
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    return paths


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("not trusted", "extra field `verify` to the path of the CA file"),
        ("expired", "Renew the certificate on the server"),
        ("for another host", "connection's host to a name in the certificate"),
    ],
)
def test_a_refused_certificate_is_one_attempt(tmp_path: Path, wrong: str, said: str) -> None:
    """For any problem with a certificate: one attempt without retries, and a message with the next step."""
    paths = certificate(tmp_path, "scans.example.org")
    waits = Waits()
    with Emulator(tls=expired(paths) if wrong == "expired" else paths) as emulator:
        url = emulator.url.replace("127.0.0.1", "localhost") if wrong == "for another host" else emulator.url
        verify: bool | str = True if wrong == "not trusted" else str(paths[0])
        client = client_for(url, verify=verify, sleep=waits)
        for call in (client.list_projects, client.create_upload_session):
            error = outcome_of(call)
            assert isinstance(error, ConfigurationError), repr(error)
            assert not error.retryable
            for part in (url, "`verify`", said, WHAT_FALSE_MEANS):
                assert part in str(error)
        assert emulator.exchanges == []
    assert waits == []


def test_uploads_and_waits_end_at_once(tmp_path: Path) -> None:
    """A certificate that is refused in the middle ends an upload and a wait immediately."""
    paths = certificate(tmp_path)
    waits = Waits()
    with Emulator(tls=paths) as emulator:
        client = client_for(emulator, sleep=waits)
        source = MemorySource(some_bytes(10))
        jobs = [Job(f"{number}.e57", 10, lambda: source) for number in range(4)]
        with pytest.raises(ConfigurationError):
            upload(client, "AAAAAAAA", source, "a.e57", ask=False)
        with pytest.raises(ConfigurationError):
            upload_many(client, "AAAAAAAA", jobs)
        error = outcome_of(lambda: client.get_project("AAAAAAAA"))
        assert emulator.exchanges == []
    assert waits == []
    assert isinstance(error, ConfigurationError)
    assert next_step(WaitRecord(), error, 0.0) == GiveUp(error)


def test_the_connection_test_says_what_is_wrong(tmp_path: Path) -> None:
    """The Test button names the field, and does not claim that the server is not a 360 server."""
    with Emulator(tls=certificate(tmp_path)) as emulator:
        good, said = check(client_for(emulator, tries=0))
    assert not good
    assert said.startswith("GET /api/v1/projects: the TLS certificate of")


@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["missing", "empty", "garbage"])
def test_an_unusable_ca_file(tmp_path: Path, content: str | None) -> None:
    """A CA file that is missing, or is none, is a wrong setting too."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    waits = Waits()
    with Emulator(tls=certificate(tmp_path)) as emulator:
        with pytest.raises(ConfigurationError, match="the CA file cannot be used"):
            client_for(emulator, verify=str(bundle), sleep=waits).list_projects()
    assert waits == []


@pytest.mark.parametrize(
    "error",
    [ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), OSError(2, "No such file"), ValueError("odd")],
    ids=repr,
)
def test_other_errors_are_none_of_a_certificate(error: Exception) -> None:
    """A temporary failure, such as a broken handshake, is not reported as a wrong setting."""
    assert certificate_problem(error, "https://scans.example.org") is None
