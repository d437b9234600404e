"""The command ``airflow-360``: checks a connection outside of a task, for a person or a deployment.

This file is separate because it is the only one that parses options and prints lines.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

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
    return _check(parser.parse_args(arguments).conn_id)


def _check(conn_id: str) -> int:
    # As in `airflow connections test`. Without this, Airflow 3 searches only the environment and the secrets
    # backends for connections, but neither its database nor its API.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    from airflow_360.hooks.three_sixty import ThreeSixtyHook

    good, said = ThreeSixtyHook(conn_id).test_connection()
    print(f"{conn_id}: {said}", file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
