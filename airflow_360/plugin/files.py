"""The app that serves the page's files to signed-in users. Separate because it imports FastAPI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse

from airflow_360.plugin.page import FILES

__all__ = ["files_app"]


def files_app() -> FastAPI:
    """Return the app."""

    def file(name: str) -> Any:
        if name not in FILES:
            raise HTTPException(404)
        headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(Path(__file__).parent / name, media_type=FILES[name], headers=headers)

    # Airflow does not authenticate requests to a mounted app, and its /docs would be public too.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/{name:path}", file, response_model=None, dependencies=[Depends(get_user)])
    return app
