"""What the command ``airflow-360`` does outside of a task: check a connection, inspect files.

Separate because the command sets up Airflow's environment before it imports this.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException

from airflow_360.hooks.paths import Paths
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.inspection.table import HEADER, json_row, text_row

__all__ = ["check", "inspect"]


def check(conn_id: str) -> int:
    """Print whether an upload with a connection would work, and return the exit status.

    :param conn_id: the connection.
    """
    good, said = ThreeSixtyHook(conn_id).test_connection()
    print(f"{conn_id}: {said}", file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


def inspect(paths: Sequence[str], aws_conn_id: str, *, as_json: bool) -> int:
    """Print the result of the inspection of each file, and return the exit status.

    :param paths: files, folders or globs.
    :param aws_conn_id: the connection for ``s3://`` paths.
    :param as_json: whether to print one JSON object per file instead of a table.
    """
    opener = Paths()
    inspector = opener.inspector("fail", aws_conn_id)
    bad = False
    if not as_json:
        print(HEADER)
    for path in paths:
        try:
            with _without_log_lines():
                files = opener.list_files(path, aws_conn_id=aws_conn_id)
        except AirflowException as error:
            print(error, file=sys.stderr)
            bad = True
            continue
        for file, result in inspector.results(files):
            bad = bad or isinstance(result, Exception) or bool(result.errors)
            print((json_row if as_json else text_row)(file.path, file.size, result))
    if not as_json:
        print(f"{inspector.findings}.")
    return 1 if bad else 0


@contextmanager
def _without_log_lines() -> Iterator[None]:
    """Keep the lines that belong to a task's log out of the command's output."""
    log = logging.getLogger("airflow_360")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
