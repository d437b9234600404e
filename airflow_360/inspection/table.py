"""The result of an inspection as a line: for people, or as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from airflow_360.inspection.results import Inspection
from airflow_360.sources.names import printable
from airflow_360.texts import size_text

__all__ = ["HEADER", "json_row", "text_row"]

ROW = "{:<10} {:<14} {:>10}  {:<20} {}"
HEADER = ROW.format("STATE", "FORMAT", "SIZE", "COORDINATE SYSTEM", "FILE")


def text_row(path: str, size: int, result: Inspection | Exception) -> str:
    """Return a line with a file's state, and a line below it for each problem.

    :param path: the file's path.
    :param size: its length in bytes.
    :param result: its inspection, or the error that made it impossible.
    """
    if isinstance(result, Exception):
        return "\n".join(
            [ROW.format("unread", "-", size_text(size), "-", printable(path)), f"  {printable(str(result))}"]
        )
    state = "damaged" if result.errors else "doubtful" if result.problems else "ok"
    kind = f"{result.format} {result.version}".strip() or "-"
    system = result.coordinate_system
    stated = "-" if system is None else system.code or "WKT, no code"
    lines = [ROW.format(state, kind, size_text(size), stated, printable(path))]
    return "\n".join([*lines, *(f"  {problem.text}" for problem in result.problems)])


def json_row(path: str, size: int, result: Inspection | Exception) -> str:
    """Return one line of JSON; the parameters are those of :func:`text_row`."""
    about = {"path": printable(path), "size": size}
    if isinstance(result, Exception):
        return json.dumps({**about, "error": str(result)})
    return json.dumps({**about, **asdict(result)})
