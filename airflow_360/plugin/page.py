"""The page in Airflow's UI that shows uploads while they run, from Airflow 3.1 on.

Nothing here reads data: the module gives Airflow one static script. The script calls Airflow's own REST API
with the cookie, and thereby the permissions, of the signed-in user. Every Airflow process loads this module,
also each worker, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from airflow_360 import __version__
from airflow_360.version_compat import AIRFLOW_VERSION

__all__ = ["FILES", "ThreeSixtyPlugin"]

PREFIX = "/three-sixty"
NAME = "360 uploads"  # the label of menu and tab, and the name under which the script registers its component
SCRIPTS = (
    "airflow.js",
    "constants.js",
    "elements.js",
    "model.js",
    "page.js",
    "style.js",
    "texts.js",
    "views.js",
)
FILES = {
    **dict.fromkeys(SCRIPTS, "text/javascript"),
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}


class _Files:
    """The app that serves the page's files to signed-in users; built at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from airflow_360.plugin.files import files_app  # FastAPI, only where the page is served

            self._app = files_app()
        await self._app(scope, receive, send)


def _address(name: str) -> str:
    """Return a file's URL, also if Airflow has a path prefix; the version makes browsers load a new file."""
    below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{below}{PREFIX}/{name}?v={__version__}"


def _view(destination: str, url_route: str) -> dict[str, Any]:
    return {
        "name": NAME,
        "bundle_url": _address("page.js"),
        "icon": _address("icon.svg"),
        "icon_dark_mode": _address("icon-dark.svg"),
        "destination": destination,
        "url_route": url_route,
        "category": "browse",
    }


class ThreeSixtyPlugin(AirflowPlugin):
    """The plugin that adds the page to the navigation and as a tab to each run; empty before Airflow 3.1."""

    name = "three_sixty"
    if AIRFLOW_VERSION >= (3, 1):
        fastapi_apps = [{"app": _Files(), "url_prefix": PREFIX, "name": NAME}]
        react_apps = [_view("nav", "360"), _view("dag_run", "360_uploads")]
