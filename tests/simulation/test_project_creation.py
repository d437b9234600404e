"""One project per session, despite failures, kills and clears: random scenarios, on virtual time."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, find, given, settings

from tests.airflow.conftest import AIRFLOW
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.creation import (
    Airflow,
    Scenario,
    check,
    needs_a_person,
    play,
    scenarios,
)
from tests.simulation.scheduler import Interruption
from tests.simulation.server import Fault, Outage

pytestmark = pytest.mark.skipif(AIRFLOW < (3, 3), reason="it simulates older ones on a newer one")

FAST, LONG = 100, 6000
#: After the kills, two POSTs that were never sent count as sent. The third one breaks, so all are used.
FORGOTTEN = Scenario(
    faults=(Fault("no connection"), Fault("reset")),
    interruptions=(Interruption("before POST"), Interruption("before a save", skip=2)),
    airflow=Airflow(lasting=None),
    pause=0.0,
)
#: Three of four attempts are killed, so none may fail, although there is no worker for 5,000 s after each.
DEAD_FOR_LONG = Scenario(
    faults=2 * (Fault("429"),),
    interruptions=tuple(Interruption("before GET", skip) for skip in (2, 2, 0)),
    pause=5000.0,
)
#: The same, but without long pauses: two POSTs are refused after an outage of 40 minutes.
REFUSED_AFTER_AN_OUTAGE = Scenario(
    faults=2 * (Fault("429"),),
    outages=(Outage(0.0, 2400.0, "503"),),
    interruptions=tuple(Interruption("before GET", skip) for skip in (18, 0, 0)),
)
#: Scenarios within which the drawing must find each planted bug.
MAX_SEARCH = 4000


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No log lines: a failed scenario prints its own journal."""
    logger = logging.getLogger("airflow_360")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the files of the simulated servers."""
    return tmp_path_factory.mktemp("server")


@pytest.mark.parametrize("examples", [FAST, pytest.param(LONG, marks=pytest.mark.soak)])
def test_one_project_per_session_without_a_person(examples: int, folder: Path) -> None:
    """Temporary faults end in one project, never another account's, without a click or a held slot."""
    seen = Counter[str]()

    @settings(max_examples=examples, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(scenario=scenarios())
    @example(FORGOTTEN)
    @example(DEAD_FOR_LONG)
    @example(REFUSED_AFTER_AN_OUTAGE)
    def holds(scenario: Scenario) -> None:
        simulation = play(scenario, folder)
        seen["alone" if not needs_a_person(simulation) else "excepted"] += 1
        seen["doubt"] += simulation.server.doubt
        seen["interrupted"] += bool(simulation.interruptions.happened)
        check(simulation)

    holds()
    # The scenarios have the right mix: most of them must end without a person, and many are in doubt. In a
    # hundred examples, which resemble each other, chance may leave less than half.
    assert seen["alone"] > examples / (2 if examples == LONG else 4)
    assert min(seen["doubt"], seen["interrupted"]) > examples / 10


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_the_net_holds(bug: Bug, folder: Path) -> None:
    """A scenario distinguishes the package from one with a planted bug."""
    check(play(bug.scenario, folder))
    with pytest.raises(AssertionError):
        check(play(bug.scenario, folder, bug.package))


@pytest.mark.soak
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_the_drawing_finds_each_planted_bug(bug: Bug, folder: Path) -> None:
    """The scenarios that are drawn find each planted bug."""

    def is_noticed(scenario: Scenario) -> bool:
        try:
            check(play(scenario, folder, bug.package))
        except AssertionError:
            return True
        return False

    rules = settings(
        max_examples=MAX_SEARCH,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    find(scenarios(), is_noticed, settings=rules, random=random.Random(0))  # or it raises NoSuchExample
