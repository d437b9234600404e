"""The command ``airflow-360``: checks a connection or inspects files, outside of a task.

This file is separate because it is the only one that parses options and prints lines.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 if all is well, 1 if it is not, 2 for wrong usage.

    :param arguments: the command line, without the program's name; None for that of the process.
    """
    parser = argparse.ArgumentParser(prog="airflow-360", description="The provider for 360 for you.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check",
        help="check whether a connection works, as its Test button does",
        description="Check whether an upload with a connection's server and key would work. Creates nothing "
        "and never shows the key. The exit status is 0 if it would work, otherwise 1.",
    )
    check.add_argument(
        "--conn-id",
        default="three_sixty_default",
        metavar="ID",
        help="the connection, wherever this Airflow keeps it (default: three_sixty_default)",
    )
    inspect = commands.add_parser(
        "inspect",
        help="find files that are empty, truncated or damaged",
        description="Read head and tail of files, and print what they state about themselves and what is "
        "wrong with them. Uploads nothing. The exit status is 1 if a file is damaged or cannot be read, "
        "otherwise 0.",
    )
    inspect.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, folder or glob, local or any scheme://"
    )
    inspect.add_argument("--json", action="store_true", help="print one JSON object per file and line")
    inspect.add_argument("--aws-conn-id", default="aws_default", metavar="ID", help="for s3:// paths")
    options = parser.parse_args(arguments)
    if options.command == "check":
        return _check(options.conn_id)
    return _inspect(options.paths, options.aws_conn_id, options.json)


def _inspect(paths: Sequence[str], aws_conn_id: str, as_json: bool) -> int:
    _find_connections()
    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_360.hooks.paths import Paths
    from airflow_360.inspection.table import HEADER, json_row, text_row

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


def _find_connections() -> None:
    # As in `airflow connections test`. Without this, Airflow 3 searches only the environment and the secrets
    # backends for connections, but neither its database nor its API.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def _check(conn_id: str) -> int:
    _find_connections()
    from airflow_360.hooks.three_sixty import ThreeSixtyHook

    good, said = ThreeSixtyHook(conn_id).test_connection()
    print(f"{conn_id}: {said}", file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
