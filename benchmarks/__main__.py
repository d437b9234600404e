"""``python -m benchmarks``: run all or the named scenarios, and print one table at the end."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

from benchmarks import in_airflow, inspecting, parsing, transfers
from benchmarks.report import Result, text
from benchmarks.stage import GIB, Sizes, Stage, stage

SCENARIOS: dict[str, Callable[[Stage], Result]] = {
    "one-file": transfers.one_file,
    "one-file-tls": transfers.one_file_tls,
    "long-link": transfers.long_link,
    "s3": transfers.s3_to_360,
    "many-files": transfers.many_files,
    "paced-files": transfers.paced_files,
    "parsing": parsing.imports,
    "inspecting": inspecting.inspections,
    "task-time": in_airflow.time_of_a_task,
    "task-memory": in_airflow.memory_of_a_task,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    sizes = replace(Sizes(), runs=options.runs, one_file=int(options.gib * GIB), files=options.files)
    results = []
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.__doc__}", flush=True)
        with stage(name, sizes) as where:
            results.append(scenario(where))
    print(f"\n{machine()}\n\n{text(results)}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    sizes = Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this package beside its peers. All of it takes about an hour.",
        epilog="\n".join(f"  {name:13} {scenario.__doc__}" for name, scenario in SCENARIOS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="what to measure; all by default")
    parser.add_argument("--runs", type=int, default=sizes.runs, help="how often (%(default)s)")
    parser.add_argument(
        "--gib", type=float, default=sizes.one_file / GIB, help="the one big file (%(default)s)"
    )
    parser.add_argument("--files", type=int, default=sizes.files, help="how many small files (%(default)s)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.scenarios) - set(SCENARIOS)):
        parser.error(f"there is no scenario {', '.join(unknown)}: choose from {', '.join(SCENARIOS)}")
    return options


def machine() -> str:
    """Return a description of the machine and the versions."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("apache-airflow", "requests", "urllib3", "boto3")
    )
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {packages}"
    )


if __name__ == "__main__":
    main()
