"""Projects, and their records in the API.

Separate because a project needs nothing else after its creation: only its age changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_360.emulator.files import UploadSession, extension_of

__all__ = ["Project", "timestamp"]

_POINT_CLOUDS = frozenset("e57 las laz lgs lgsx ply pts ptx xyz".split())
_SPLATS = frozenset("ksplat sog splat spz".split())
_PLAIN_FIELDS: dict[str, Any] = {
    "deleted": False,
    "colored_links": False,
    "potree_use_pitch_roll": False,
    "frame_ancestors": "",
    "redirect": "",
    "multiprojects": [],
    "welcome_overlay": "",
    "cesium_map_offset": 0,
    "access_level_for_comments": 0,
}


def timestamp(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@dataclass(eq=False)
class Project:
    """A project. Tests may set ``errors``, because a ready project can have errors."""

    id: int
    name: str
    created_at: float
    processing_seconds: float
    options: dict[str, Any]
    session: UploadSession | None = None
    errors: int = 0

    def status(self, now: float) -> int:
        """Return 0 for queued, 1 to 99 for processing, 100 for ready."""
        age = now - self.created_at
        if age >= self.processing_seconds:
            return 100
        return max(0, min(99, int(100 * age / self.processing_seconds)))

    @property
    def title(self) -> str:
        """Return the requested title, or one made from the name."""
        return str(self.options.get("title") or f"Project {self.name}")

    def summary(self, now: float) -> dict[str, Any]:
        """Return the entry of this project in the list of projects."""
        return {"name": self.name, "title": self.title, "status": self.status(now)}

    def record(self, now: float) -> dict[str, Any]:
        """Return ``name`` and ``status``, and everything else once the project is ready."""
        status = self.status(now)
        if status < 100:
            return {"name": self.name, "status": status}
        finished = timestamp(self.created_at + self.processing_seconds)
        return {
            "id": self.id,
            "name": self.name,
            "title": self.title,
            "status": status,
            "privacy_mode": self.options.get("privacy_mode", 2),
            "errors": self.errors,
            "created": timestamp(self.created_at),
            "updated": finished,
            "last_usage": None,
            "views": 0,
            **self.contents(),
            **self._place(),
            **_PLAIN_FIELDS,
            "public_project": self.options.get("privacy_mode") == 0,
        }

    def contents(self) -> dict[str, Any]:
        """Return the fields about the files, which the emulator's page shows at any status."""
        files = self.session.files if self.session else {}
        extensions = {extension_of(name) for name in files}
        setups = sum(extension_of(name) in _POINT_CLOUDS for name in files)
        flags = {flag: flag in extensions for flag in ("ifc", "glb", "obj", "pdf", "kml")}
        return {
            "size": self.session.received() if self.session else 0,
            "setups_count": setups,
            "enabled_setups": setups,
            "extensions": sorted(extensions),
            "potree": bool(extensions & _POINT_CLOUDS),
            "threedgs": bool(extensions & _SPLATS),
            "video360": "mp4" in extensions,
            "geotiff": bool(extensions & {"tif", "tiff"}),
            **flags,
        }

    def _place(self) -> dict[str, Any]:
        system = str(self.options.get("coordinate_system") or "")
        code = re.fullmatch(r"EPSG:(\d{1,9})", system, re.IGNORECASE | re.ASCII)
        return {"epsg": int(code[1]) if code else None, "proj4": "", "coord_unit": "m"}
