"""The command line of the emulator, for demos and for trying out a DAG by hand.

Separate because only this module parses options, handles signals and prints lines.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from airflow_360.emulator.emulator import Emulator
from airflow_360.emulator.faults import FaultError, parse

__all__ = ["main"]


def _limits(text: str) -> float | Literal["real", "off"]:
    match text:
        case "real" | "off":
            return text
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_360.emulator",
        description="Serve the upload API on loopback; any key that begins with sk_ is accepted.",
    )
    parser.add_argument("--port", type=int, default=8360, help="0 takes a free one (default: 8360)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder for the uploaded bytes (default: a temporary one)"
    )
    parser.add_argument(
        "--processing-seconds", type=float, default=10.0, metavar="N", help="from 0 to 100 (default: 10)"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a fault script, JSON")
    parser.add_argument(
        "--limits",
        type=_limits,
        default="real",
        metavar="real|off|FACTOR",
        help="rate limits: those of the contract, none, or those times a factor (default: real)",
    )
    return parser


def _log(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :param arguments: the command line, without the program's name; None uses that of the process
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        faults = parse(options.faults.read_text("utf-8")) if options.faults else []
        emulator = Emulator(
            port=options.port,
            host=options.host,
            data_dir=options.data,
            processing_seconds=options.processing_seconds,
            faults=faults,
            limits=options.limits,
            log=_log,
        )
    except (FaultError, OSError) as error:
        parser.error(str(error))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with emulator:
        print(f"Listening on {emulator.url} (API: {emulator.url}/api/v1). Ctrl+C ends it.", flush=True)
        stop.wait()
    for fault in emulator.faults.unused():
        print(f"This fault did not happen: {fault}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
