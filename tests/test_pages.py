"""Pages that repeat the code agree with it: error codes, exceptions, messages, templated fields."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_360 import exceptions
from airflow_360.api.replies import ADVICE
from airflow_360.emulator.server import STATUS
from airflow_360.hooks.errors import airflow_errors
from airflow_360.hooks.three_sixty import ThreeSixtyHook

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TROUBLESHOOTING, re.MULTILINE | re.DOTALL))
OPERATORS = [
    name
    for path in sorted((DOCS / "reference").glob("*.md"))
    for name in re.findall(
        r"^\.\. autoclass:: (\S+(?:Operator|Sensor))$", path.read_text("utf-8"), re.MULTILINE
    )
]
CLASSES = [name for name in exceptions.__all__ if isinstance(getattr(exceptions, name), type)]
MESSAGES = sorted(
    set(re.findall(r"^- `+ ?(.+?) ?`+$", TROUBLESHOOTING, re.MULTILINE))
    | set(re.findall(r"^\| `([^`]+)` \|", TROUBLESHOOTING, re.MULTILINE))
)


def texts() -> list[str]:
    """Return all texts in the package's code; a value in them is shown as "…"."""
    found = []
    for path in (ROOT / "airflow_360").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[.\d]*[sdf]", "…", node.value))
    return found


TEXTS = texts()


@pytest.mark.parametrize("code", ADVICE)
def test_error_codes(code: str) -> None:
    """Each error code with advice has a section, which quotes the advice."""
    (title,) = [title for title in SECTIONS if title.split()[-1] == code]
    assert f"> {ADVICE[code]}\n" in SECTIONS[title]
    assert "**Next step:**" in SECTIONS[title]
    if code in STATUS:
        assert title == f"{STATUS[code]} {code}"


@pytest.mark.parametrize("name", CLASSES)
def test_error_ids_are_headings(name: str) -> None:
    """A message in Airflow ends with an id that is a heading of the page: the server's code, or the class."""
    kind = getattr(exceptions, name)
    with pytest.raises(AirflowException, match=rf"It broke\. \[error id: {name}\]$"), airflow_errors():
        raise kind("It broke.")
    assert name in SECTIONS
    if issubclass(kind, exceptions.ApiError):
        with pytest.raises(AirflowException, match=r"\[error id: file_too_large\]$"), airflow_errors():
            raise kind("It broke.", code="file_too_large")


def test_no_other_error_codes() -> None:
    """The page has no section for an error code that the package does not know."""
    assert {title.split()[1] for title in SECTIONS if " " in title} == {*ADVICE, "rate_limited"}


def test_exceptions() -> None:
    """Each exception has a section with its cause and the next step, and there is no other."""
    assert {title for title in SECTIONS if " " not in title} == set(CLASSES)
    for name in CLASSES:
        assert "**Cause:**" in SECTIONS[name]
        assert "**Next step:**" in SECTIONS[name]


@pytest.mark.parametrize("name", CLASSES)
def test_retries(name: str) -> None:
    """The page says of each exception whether Airflow retries it."""
    said = re.findall(r"^\*\*Airflow retries:\*\* (.+)\.$", SECTIONS[name], re.MULTILINE)
    retryable = getattr(exceptions, name).retryable
    depends = name in ("SourceError", "ThreeSixtyError")
    assert said == ["it depends on the cause" if depends else "yes" if retryable else "no"]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages(message: str) -> None:
    """Each message on the page is a part of a text in the code."""
    assert any(message in text for text in TEXTS)


@pytest.mark.long  # the import of moto alone takes seconds
def test_aws_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of the page, stored in AWS Secrets Manager, is one that the hook can use."""
    import boto3  # type: ignore[import-untyped]
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
    from moto import mock_aws

    page = (DOCS / "installation.md").read_text("utf-8")
    (command,) = re.findall(r"^(aws secretsmanager (?:.*\\\n)*.*)$", page, re.MULTILINE)
    words = shlex.split(command)
    name, secret = (words[words.index(option) + 1] for option in ("--name", "--secret-string"))
    (kwargs,) = re.findall(r"BACKEND_KWARGS='(\{.*connections_prefix.*\})'", page)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")

    with mock_aws():
        backend = SecretsManagerBackend(**json.loads(kwargs))
        boto3.client("secretsmanager", "eu-central-1").create_secret(Name=name, SecretString=secret)
        found = backend.get_conn_value("three_sixty_default")

    assert found
    monkeypatch.setenv("AIRFLOW_CONN_THREE_SIXTY_DEFAULT", found)
    assert ThreeSixtyHook().client.server == "https://360-for-you.com"


def test_alert() -> None:
    """The text of the page's alert has the task, the message, the source, the project and the log."""
    page = (DOCS / "alerting.md").read_text("utf-8")
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "describe" in code]
    names: dict[str, Any] = {}
    exec(compile(block.split("def tell_slack")[0].partition("\n\n\n")[2], "alerting", "exec"), names)
    ti = SimpleNamespace(
        dag_id="nightly",
        run_id="manual",
        task_id="ready",
        map_index=3,
        log_url="https://airflow.example.com/log",
        xcom_pull=lambda **asked: f"https://360.example.com/{asked['key']}/{asked['map_indexes']}",
    )
    text = names["describe"](
        {"ti": ti, "task": SimpleNamespace(path="s3://a"), "exception": ValueError("No")}
    )
    assert text.splitlines() == [
        "nightly manual ready",
        "No",
        "Source: s3://a",
        "Project: https://360.example.com/project_url/3",
        "Log: https://airflow.example.com/log",
    ]


def test_llms_txt() -> None:
    """The list for assistants has every page of the users' sidebar with its title, in the same order."""
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", (DOCS / "llms.txt").read_text("utf-8"), re.MULTILINE)
    pages = []
    for toctree in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), re.DOTALL):
        for entry in toctree.split():
            if (DOCS / f"{entry}.md").is_file() or "*" in entry:
                pages += sorted(DOCS.glob(f"{entry}.md"))
    titles = [re.findall(r"^# (.+)$", page.read_text("utf-8"), re.MULTILINE)[0] for page in pages]
    assert listed == [
        (title, page.relative_to(DOCS).as_posix()) for title, page in zip(titles, pages, strict=True)
    ]


@pytest.mark.parametrize("name", OPERATORS)
def test_parameters(name: str) -> None:
    """The page of an operator shows its docstring, and that describes each of its parameters."""
    module, _, title = name.rpartition(".")
    operator = getattr(importlib.import_module(module), title)
    parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    assert set(re.findall(r"^\s*:param (\w+):", operator.__doc__, re.MULTILINE)) >= parameters
