"""The page about the emulator keeps up with it."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pytest

from airflow_360.emulator import Emulator, Exchange
from airflow_360.emulator.__main__ import _parser
from airflow_360.emulator.faults import _COMMON, _KINDS, parse
from tests.emulator.raw import Raw

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_example() -> None:
    """The example on the page is this one, and it works."""
    sent = b"points"

    def upload(emulator: Emulator) -> str:
        with Raw(emulator) as raw:
            upload_id = raw.session()
            with pytest.raises(ConnectionError):
                raw.whole(upload_id, "scan.e57", sent)
            return upload_id

    # [example]
    with Emulator(faults=[{"on": "PUT /uploads/*/*", "do": "lost_reply"}]) as emulator:
        upload_id = upload(emulator)  # the code to test, with emulator.url as its server
        assert emulator.store.file_path(upload_id, "scan.e57").read_bytes() == sent
        assert all(e.start == e.received_before for e in emulator.exchanges if e.method == "PUT")
        assert emulator.faults.unused() == []
        assert emulator.violations == []
    # [/example]
    source = Path(__file__).read_text("utf-8").split("    # [example]\n")[1].split("    # [/example]\n")[0]
    assert textwrap.dedent(source) in block("python")


def test_script() -> None:
    """The fault script of the page can be parsed."""
    assert len(parse(block("json"))) == 3


@pytest.mark.parametrize("kind", _KINDS)
def test_kinds(kind: str) -> None:
    """Every kind of fault has its section, and every field of it a row there."""
    section = PAGE.split(f"### `{kind}`\n")[1].split("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == _KINDS[kind]


@pytest.mark.parametrize(
    "name",
    [
        *sorted(_COMMON),
        *(
            option
            for action in _parser()._actions
            for option in action.option_strings
            if "--help" not in action.option_strings
        ),
        *inspect.signature(Exchange).parameters,
    ],
)
def test_names(name: str) -> None:
    """Every option and every field is on the page."""
    assert re.search(rf"`{name}\b", PAGE)


@pytest.mark.parametrize("name", inspect.signature(Emulator).parameters)
def test_arguments(name: str) -> None:
    """Every argument of the emulator is on the page, under its own name or that of its option."""
    option = {"data_dir": "data"}.get(name, name).replace("_", "-")
    assert f"`{name}`" in PAGE or f"`--{option} " in PAGE
