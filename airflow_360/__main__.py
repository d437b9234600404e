"""The command ``airflow-360``: its options. What it does is in :mod:`airflow_360.commands`."""

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
    # As in `airflow connections test`. Without this, Airflow 3 searches only the environment and the secrets
    # backends for connections, but neither its database nor its API.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    from airflow_360 import commands as run  # Airflow reads the environment when it is imported

    if options.command == "check":
        return run.check(options.conn_id)
    return run.inspect(options.paths, options.aws_conn_id, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
