"""The page in Airflow's UI, without a browser: access to its files, and their content."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airflow_360 import version_compat
from airflow_360.links.project import ProjectLink
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import UploadFileOperator, UploadFilesOperator
from airflow_360.plugin import page
from airflow_360.sensors.project import ProjectReadySensor

FOLDER = Path(page.__file__).parent
SCRIPT = "\n".join(path.read_text("utf-8") for path in sorted(FOLDER.glob("*.js")))
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".svg"))
HAS_PAGES = version_compat.AIRFLOW_VERSION >= (3, 1)
with_pages = pytest.mark.skipif(not HAS_PAGES, reason="This Airflow has no pages of plugins.")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The plugin's module, to be loaded again; it is restored afterwards."""
    yield page
    monkeypatch.undo()
    importlib.reload(page)


@pytest.mark.parametrize("version", [(2, 11), (3, 0)], ids=["2.11", "3.0"])
def test_an_old_airflow_gets_no_page(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    """An Airflow that has no pages of plugins is given none."""
    monkeypatch.setattr(version_compat, "AIRFLOW_VERSION", version)
    loaded = importlib.reload(plugin).ThreeSixtyPlugin()
    assert not getattr(loaded, "fastapi_apps", [])
    assert not getattr(loaded, "react_apps", [])


@with_pages
def test_the_page_is_in_the_navigation_and_in_each_run() -> None:
    """The page is in the navigation and a tab of each run, and its names are those of the script."""
    views = page.ThreeSixtyPlugin().react_apps
    assert [view["destination"] for view in views] == ["nav", "dag_run"]
    assert len({view["url_route"] for view in views}) == 2
    (name,) = {view["name"] for view in views}
    script = SCRIPT
    assert f'const NAME = "{name}";' in script
    assert f'const OPEN_LABEL = "{ProjectLink.name}";' in script


@with_pages
@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://127.0.0.1:8080", "/three-sixty/page.js"),
        ("https://example.com/airflow/", "/airflow/three-sixty/page.js"),
        ("https://example.com/a/b", "/a/b/three-sixty/page.js"),
        ("", "/three-sixty/page.js"),
    ],
)
def test_below_a_path(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, base_url: str, address: str
) -> None:
    """The script's URL is also right if Airflow is served below a path."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    (bundle,) = {view["bundle_url"] for view in importlib.reload(plugin).ThreeSixtyPlugin().react_apps}
    assert bundle.partition("?")[0] == address


@with_pages
@pytest.mark.parametrize("path", ["", "docs", "redoc", "openapi.json", "page.py", "nothing", *FILES])
def test_without_signing_in_you_get_nothing(path: str) -> None:
    """Without signing in you get nothing, not even files without data."""
    from fastapi.testclient import TestClient

    (served,) = page.ThreeSixtyPlugin.fastapi_apps
    reply = TestClient(served["app"]).get(f"/{path}")
    assert reply.status_code == 401
    assert "Not authenticated" in reply.text


@with_pages
@pytest.mark.parametrize("path", ["", "docs", "redoc", "openapi.json", "page.py", *FILES])
def test_a_signed_in_user_gets_only_the_files_of_the_page(path: str) -> None:
    """A signed-in user gets the page's files and nothing else."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from airflow_360.plugin.files import files_app

    app = files_app()
    app.dependency_overrides[get_user] = lambda: None
    reply = TestClient(app).get(f"/{path}")
    assert reply.status_code == (200 if path in FILES else 404)


def test_script_makes_no_markup_of_data() -> None:
    """The script has no way to turn a text into markup or code, and loads nothing from elsewhere."""
    script = SCRIPT
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|\beval\b|new Function"
    assert not re.findall(markup, script)
    imported = set(re.findall(r'\bimport \{[^}]*\} from "\./([\w.]+)";', script))
    assert imported < set(FILES)
    assert len(re.findall(r"\bimport\b", script)) == script.count('from "./')
    assert not re.findall(r"https?://|@import|url\(", script)


def test_every_file_is_served() -> None:
    """The plugin serves exactly the files next to it."""
    assert sorted(page.FILES) == FILES


def test_kinds_by_fields() -> None:
    """Each operator has the templated fields by which the script recognizes it."""
    script = SCRIPT
    rules = re.findall(r"if \(has\(([^)]*)\)\) return (.*);", script) + re.findall(
        r'return has\("(project_name)"\) \? (.*) : null', script
    )

    def kind(operator: type[Any]) -> str:
        fields = set(operator.template_fields)
        return next(str(kind) for given, kind in rules if set(re.findall(r"\w+", given)) <= fields)

    assert kind(CreateProjectOperator) == '"project"'
    assert kind(UploadFileOperator) == kind(UploadFilesOperator) == 'has("paths") ? "folder" : "file"'
    assert [
        "paths" in operator.template_fields for operator in (UploadFileOperator, UploadFilesOperator)
    ] == [
        False,
        True,
    ]
    assert kind(ProjectReadySensor) == '"wait"'
