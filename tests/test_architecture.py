"""The structure of the code: imports, public names, the cost of parsing, files in the repository."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "airflow_360"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = ("api", "emulator", "exceptions", "projects", "sources", "upload")
DISTRIBUTIONS = importlib.metadata.packages_distributions()
# Airflow 2 requires these itself, for connection forms; Airflow 3 replaces them when it reads a form.
FORMS = {"flask_appbuilder", "flask_babel", "wtforms"}
SHARES = {"smbclient", "smbprotocol"}  # from the samba provider
SERVER = {"fastapi"}  # Airflow 3 serves its API with it; it is used for nothing else here
PARSED = ("links", "operators", "sensors", "task_groups")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(*floors: str) -> list[str]:
    names = [module_name(path) for path in FILES if path.name != "__main__.py"]
    return [name for name in names if name.split(".")[1:2] and name.split(".")[1] in floors]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module's top level, also those under an `if` or a `try`."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try):
                yield from statements(getattr(statement, block, []))


def imported(tree: ast.AST) -> set[str]:
    """Return every module that is imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names - {"__future__"}


def made(tree: ast.Module) -> list[set[str]]:
    """Return the names that a module defines: its classes and functions, and its constants and types."""
    code: set[str] = set()
    values: set[str] = set()
    for statement in statements(tree.body):
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                code.add(name)
            case ast.Assign(targets=targets):
                values.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                values.add(name)
    return [{name for name in names if not name.startswith("_")} for names in (code, values)]


def taken(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of everything that a file imports by name from this package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow_360":
            yield from ((node.module or "", alias.name) for alias in node.names)


def declared_all(tree: ast.Module) -> list[str] | None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    return None


def fresh_interpreter(before: str, modules: list[str]) -> set[str]:
    """Return the modules that a new Python loads for `modules`, less those that `before` had loaded."""
    program = (
        f"import importlib, json, sys\n{before}\nbefore = set(sys.modules)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_arrows_hold() -> None:
    """Every import-linter contract of setup.cfg is kept."""
    # A separate process: it configures logging, which would disable the loggers of later tests.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_all_equals_the_public_names(path: Path) -> None:
    """A module's `__all__` contains all classes and functions that it defines, maybe constants, no more."""
    tree = tree_of(path)
    code, values = made(tree)
    if path.name == "__init__.py" and path.parent != PACKAGE:
        code |= {name for _, name in taken(tree)}
    if path.name == "version_compat.py":  # its names are Airflow's, under one path for all versions
        values |= {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
        }
    names = declared_all(tree)
    if names is None:
        assert not code or path.name in ("__main__.py", "get_provider_info.py"), f"no __all__ for {code}"
    else:
        assert code <= set(names) <= code | values


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_modules_take_only_public_names_from_each_other(path: Path) -> None:
    """Every name that a module imports from another one of the package is in that one's `__all__`."""
    public = {module_name(file): declared_all(tree_of(file)) or [] for file in FILES}
    private = []
    for module, name in taken(tree_of(path)):
        if name not in public[module] and f"{module}.{name}" not in public and name != "__version__":
            private.append(f"{module}.{name}")
    assert not private


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_public_lacks_a_docstring(path: Path) -> None:
    """Every module, public class, public function and public method has a docstring."""
    silent = []

    def look(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> None:
        if not ast.get_docstring(node):
            silent.append(name)
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in statements(node.body):
                if (
                    isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                    and not child.name.startswith("_")
                    and not any("overload" in ast.unparse(decorator) for decorator in child.decorator_list)
                    and not any(".setter" in ast.unparse(decorator) for decorator in child.decorator_list)
                ):
                    look(child, f"{name}.{child.name}")

    look(tree_of(path), module_name(path))
    assert not silent


SKIN = ("hooks", "fs", "links", "operators", "plugin", "sensors", "triggers")


def test_no_module_that_uses_airflow_is_long() -> None:
    """A module of the skin has at most 400 lines, except the one with the four upload operators."""
    lines = {relative(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    long = {name for name, count in lines.items() if count > 400 and name.split("/")[1] in SKIN}
    assert long <= {"airflow_360/operators/upload.py"}


def test_few_imports_wait_until_a_function_runs() -> None:
    """At most twenty imports stand in a function instead of at the top of their module."""
    late = [
        f"{relative(path)}: {ast.unparse(node)}"
        for path in FILES
        for function in ast.walk(tree_of(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(late) <= 20, late


def test_every_test_says_what_is_true_when_it_is_green() -> None:
    """Every test function has a docstring, and it is a sentence."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            if not (ast.get_docstring(node) or "").endswith("."):
                silent.append(f"{relative(path)}::{node.name}")
    assert not silent


def test_parsing_a_dag_file_costs_neither_boto3_nor_requests() -> None:
    """Importing all that a DAG names adds no HTTP library, no boto3, and nothing that moves bytes."""
    added = fresh_interpreter(
        "from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, task_group",
        modules_of(*PARSED),
    )
    assert "airflow_360.operators.upload" in added
    heavy = {"boto3", "botocore", "requests", "urllib3", "s3fs", "fsspec", "slugify"}
    assert not heavy & {name.split(".")[0] for name in added}
    # Modules for uploads are imported only when a task runs, and so is the provider that opens S3.
    # Of the core only the errors, the durations that a DAG can replace, and the check of a session's files.
    early = {
        f"airflow_360.{name}" for name in ("exceptions", "projects", "projects.times", "projects.contents")
    }
    late = ("airflow.providers.amazon", *(f"airflow_360.{floor}" for floor in CORE))
    assert not [name for name in added - early if name.startswith(late)]


def test_the_core_runs_without_airflow() -> None:
    """Importing the client, the sources, the engine, the errors and the emulator does not import Airflow."""
    modules = modules_of(*CORE)
    added = fresh_interpreter("", modules)
    assert set(modules) <= added
    assert not {name for name in added if name.split(".")[0] == "airflow"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_everything_imported_is_declared(path: Path) -> None:
    """Every import of a module is Python's own, ours, or a dependency that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["openlineage"], *extras["smb"]]
    declared = {re.split(r"[\[<>=!~; ]", line)[0] for line in lines}
    undeclared = set()
    for name in imported(tree_of(path)):
        top, *rest = name.split(".")
        if top in sys.stdlib_module_names or top == "airflow_360":
            continue
        if top in FORMS | SERVER | {"fsspec"}:
            candidates = {"apache-airflow"}
        elif top in SHARES:
            candidates = {"apache-airflow-providers-samba"}
        elif top != "airflow":
            candidates = set(DISTRIBUTIONS.get(top, ()))
        elif rest[:1] == ["providers"]:
            parts = rest[1:]
            candidates = {
                "-".join(("apache-airflow-providers", *parts[:n])) for n in range(1, len(parts) + 1)
            }
        else:
            candidates = {"apache-airflow"}
        if not candidates & declared:
            undeclared.add(name)
    assert not undeclared


@pytest.mark.parametrize("name", ["__init__.py", "get_provider_info.py"])
def test_what_airflow_loads_first_imports_only_sys(name: str) -> None:
    """Package and entry point import nothing but sys, because they load before Airflow is configured."""
    assert imported(tree_of(PACKAGE / name)) <= {"sys"}


@pytest.mark.parametrize(
    "name",
    [
        "api/backoff.py",
        "api/budget.py",
        "emulator/faults.py",
        "emulator/files.py",
        "emulator/limits.py",
        "emulator/projects.py",
        "emulator/store.py",
        "projects/times.py",
        "projects/waiting.py",
        "upload/ranges.py",
    ],
)
def test_no_clock_is_read_that_was_not_given(name: str) -> None:
    """The rules, the arithmetic and the waits use only the clock, sleep and random numbers passed to them."""
    calls = [
        ast.unparse(node.func) for node in ast.walk(tree_of(PACKAGE / name)) if isinstance(node, ast.Call)
    ]
    assert not [call for call in calls if re.fullmatch(r"(time|random)\.\w+|(.+\.)?(now|utcnow|today)", call)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sdist's files are not a checkout's")
def test_nothing_foreign_is_in_the_repository() -> None:
    """No file of the repository is over 1 MiB, or contains a registry's host or a path of one machine."""
    # As -c rather than from the configuration, so that a checkout of another user's can be read too.
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    # The brackets keep this file from finding itself.
    host = re.compile(rb"(py[p]i|python[h]osted|np[m]js|registry\.npm|deb\.[d]ebian)\.(org|com)")
    machine = re.compile(rb"(?<![\w.}~-])/(work/|[r]oot/|[t]mp/w/|home/[a-z]+/)")
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if len(content) > 1024 * 1024:
            found.append(f"{name}: {len(content):,} bytes")
        found += [
            f"{name}: {match.group().decode()}"
            for match in (*host.finditer(content), *machine.finditer(content))
        ]
    assert not found
