"""Checks of parameters: while the DAG is parsed, and after their templates are rendered."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.providers.common.compat.sdk import mask_secret

from airflow_360.exceptions import ConfigurationError, ProjectError
from airflow_360.values import is_unset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

__all__ = [
    "INSPECT_MODES",
    "AnyPath",
    "check_literal",
    "checked_chunk_size",
    "checked_options",
    "checked_privacy_mode",
    "is_literal",
    "mask_link",
    "path_text",
    "privacy_mode_number",
    "require_choice",
    "require_rendered",
]

INSPECT_MODES = ("warn", "fail", "off")
PRIVACY_MODES = {"public": 0, "link": 1, "private": 2}
#: A path as users write it.
AnyPath: TypeAlias = "str | os.PathLike[str] | ObjectStoragePath"


def require_rendered(**values: Any) -> None:
    """Require that templates were rendered to a value.

    :raises ThreeSixtyError: if one is empty; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, str) or is_unset(value):
            raise ConfigurationError(
                f"{name} is {value!r}: check its template, and that the task it comes from has run. "
                "If you marked that task as success, it returned nothing: clear it instead.",
                parameter=name,
            )


def check_literal(name: str, value: Any, *allowed: str) -> None:
    """Refuse a wrong value while the DAG is parsed, unless the value is known only when the task runs.

    :param name: the parameter.
    :param value: the value in the DAG file; templates and outputs of tasks are accepted.
    :param allowed: the allowed values.
    :raises ValueError: if the value is not allowed; the message names the parameter and the allowed values.
    """
    if is_literal(value) and value not in allowed:
        raise ValueError(_choice_text(name, value, allowed))


def is_literal(value: Any) -> bool:
    """Return whether a value is known when the DAG is parsed: neither a template nor the output of a task."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    return value is None or isinstance(value, (int, float))


def require_choice(name: str, value: Any, *allowed: str) -> None:
    """Require that a value, which may come from a template, is one of the allowed values.

    :raises ThreeSixtyError: if not; the message names the parameter and the allowed values.
    """
    if value not in allowed:
        raise ConfigurationError(_choice_text(name, value, allowed), parameter=name)


def _choice_text(name: str, value: Any, allowed: Sequence[str]) -> str:
    return f"{name} must be {' or '.join(repr(choice) for choice in allowed)}, not {value!r}."


def path_text(path: Any) -> Any:
    """Return a path as text; a value that is not known before the task runs is returned unchanged.

    :param path: a string, a ``Path``, an ``ObjectStoragePath``, or a list of them.
    """
    if isinstance(path, (list, tuple)):
        return [path_text(item) for item in path]
    # By name, because the import takes half a second. Before Airflow 3, str(path) omits the connection.
    if any(kind.__name__ == "ObjectStoragePath" for kind in type(path).__mro__):
        return str(path.serialize()["path"])
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def privacy_mode_number(value: str | int) -> int:
    """Return the number of a privacy mode.

    :raises ValueError: if there is no such mode.
    """
    mode = PRIVACY_MODES.get(str(value).lower(), value)
    if str(mode) not in ("0", "1", "2"):
        raise ValueError(f'privacy_mode must be "private", "link", "public", 0, 1 or 2, not {value!r}.')
    return int(mode)


def checked_privacy_mode(value: str | int) -> int:
    """Return the number of a privacy mode that may come from a template.

    :raises ProjectError: if there is no such mode.
    """
    try:
        return privacy_mode_number(value)
    except ValueError as error:
        raise ProjectError(str(error)) from None


def checked_options(options: Any, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return further fields of a request, an empty mapping for None.

    :param options: the further fields.
    :param fields: the fields for which the operator has parameters.
    :raises ProjectError: if the options are not a dict of plain JSON values, or repeat a field.
    """
    checked: Mapping[str, Any] = options or {}
    try:
        json.dumps({**checked}, allow_nan=False)
    except (TypeError, ValueError):
        raise ProjectError(f"options must be a dict of plain JSON values, not {options!r}.") from None
    if twice := sorted(set(fields) & set(checked)):
        raise ProjectError(
            f"options must not contain {', '.join(twice)}: the operator has parameters for it."
        )
    return checked


def checked_chunk_size(chunk_size: int | None) -> int | None:
    """Return a chunk size in bytes, or None.

    :raises ConfigurationError: if it is less than 1.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ConfigurationError(
            f"chunk_size must be at least 1 byte, not {chunk_size}.", parameter="chunk_size"
        )
    return chunk_size


def mask_link(link: str) -> None:
    """Mask a link that may be presigned in logs and in Airflow's UI, in each usual spelling."""
    from airflow_360.api.redaction import secrets_of_link, spellings

    parts = secrets_of_link(link)
    if found := {spelling for part in parts for spelling in spellings(part)}:
        mask_secret([*found])
