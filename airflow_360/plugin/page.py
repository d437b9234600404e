"""The page in Airflow's UI that shows uploads while they run, from Airflow 3.1 on.

Nothing here reads data: the module gives Airflow one static script. The script calls Airflow's own REST API
with the cookie, and thereby the permissions, of the signed-in user. Every Airflow process loads this module,
also each worker, so it imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from airflow_360 import __version__
from airflow_360.version_compat import AIRFLOW_VERSION

__all__ = ["ThreeSixtyPlugin"]

PREFIX = "/three-sixty"
NAME = "360 uploads"  # the label of menu and tab, and the name under which page.js registers its component
FILES = {
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}


class _Files:
    """The app that serves the page's files to signed-in users; built at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = _built()
        await self._app(scope, receive, send)


def _built() -> Any:
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse

    def file(name: str) -> Any:
        if name not in FILES:
            raise HTTPException(404)
        headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(Path(__file__).parent / name, media_type=FILES[name], headers=headers)

    # Airflow does not authenticate requests to a mounted app, and its /docs would be public too.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/{name:path}", file, response_model=None, dependencies=[Depends(get_user)])
    return app


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
