"""Scenarios of one project task, with failures, kills and clears, and the required results."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st

from airflow_360.api.backoff import Backoff
from airflow_360.api.client import ThreeSixtyClient
from airflow_360.hooks.three_sixty import ThreeSixtyHook
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator
from airflow_360.projects.creation import (
    MAX_MORE_POSTS,
    CreationRecord,
    ProjectCreation,
    Stage,
)
from airflow_360.projects.times import CreationTimes
from airflow_360.runtime.creation_records import LinkRecords, SessionRecords
from tests.simulation.clock import VirtualClock
from tests.simulation.scheduler import Interruption, Interruptions, SavedState, Task
from tests.simulation.server import ANSWERS, Effect, Fault, Outage, Server, WirelessTransport

__all__ = [
    "PACKAGE",
    "TIMES",
    "Airflow",
    "Package",
    "Scenario",
    "Simulation",
    "check",
    "needs_a_person",
    "play",
    "scenarios",
]

#: The real durations, with fewer polls of a long wait, which only cost time here.
TIMES = CreationTimes(longest=900.0)
TITLE = "Bridge"
LINK = "https://bucket.test/scan.e57"
#: The longest time until a POST has its effect, if its connection broke.
LATEST_AFTER_BREAK = TIMES.after_break - 10
LATEST_AFTER_TIMEOUT = TIMES.after_timeout - 10
#: All outages together; the package tolerates an hour of failures.
MAX_OUTAGE_SECONDS = 50 * 60.0
MAX_KILLS = 3


@dataclass(frozen=True)
class Airflow:
    """The abilities of an Airflow to save state.

    :param state: whether it has a task state store (3.3 and newer).
    :param lasting: the storage that survives a clear: ``"asset"`` (3.3 and newer), ``"variable"`` (before) or
       None.
    :param deferrable: whether the project task is deferrable.
    """

    state: bool = True
    lasting: str | None = "asset"
    deferrable: bool = False


@dataclass(frozen=True)
class Scenario:
    """All events of one project task.

    :param consumed: whether the server consumes a session when it creates the project.
    :param airflow: the abilities of Airflow to save state.
    :param link: whether the project is created from a link instead of a session.
    :param title: whether the task gives its project a title.
    :param processing: seconds until a project is ready.
    :param stranger: ``"visible"`` or ``"hidden"`` if another account's project has the session's name.
    :param made_before: whether another task created this session's project before.
    :param faults: the faults of the POSTs, one after the other.
    :param outages: the times at which GETs fail.
    :param interruptions: kills and clears during the task.
    :param clears: clears after its end; each says whether the saved state is kept.
    :param pause: seconds before a retry, and before a clear.
    """

    consumed: bool = False
    airflow: Airflow = Airflow()
    link: bool = False
    title: bool = True
    processing: float = 0.0
    stranger: str | None = None
    made_before: bool = False
    faults: Sequence[Fault] = ()
    outages: Sequence[Outage] = ()
    interruptions: Sequence[Interruption] = ()
    clears: Sequence[bool] = ()
    pause: float = 300.0


@dataclass(frozen=True)
class Package:
    """The code under test; a planted bug replaces a part of it."""

    creation: type[ProjectCreation] = ProjectCreation
    operator: type[CreateProjectOperator] = CreateProjectOperator
    times: CreationTimes = TIMES


PACKAGE = Package()


@dataclass
class Simulation:
    """A scenario that was played, for :func:`check`."""

    scenario: Scenario
    server: Server
    interruptions: Interruptions
    upload_id: str | None = None
    #: The end and the result of each run of the task (the first one, and one for each later clear).
    ends: list[tuple[str, Any, str]] = field(default_factory=list)
    #: Seconds for which an execution waited in its worker slot.
    held: list[float] = field(default_factory=list)

    @property
    def story(self) -> str:
        """Return the journal as text."""
        return "\n".join([str(self.scenario), *self.server.journal])


def play(scenario: Scenario, folder: Path, package: Package = PACKAGE) -> Simulation:
    """Run a scenario.

    :param folder: the folder for the server's files.
    :param package: the code under test.
    """
    clock = VirtualClock()
    interruptions = Interruptions(scenario.interruptions)
    server = Server(
        folder,
        clock,
        interruptions.reach,
        session_consumed=scenario.consumed,
        processing_seconds=scenario.processing,
    )
    simulation = Simulation(scenario, server, interruptions)
    hook = _Hook(WirelessTransport(server), clock)
    state = SavedState(interruptions.reach) if scenario.airflow.state else None
    lasting = SavedState(interruptions.reach) if scenario.airflow.lasting else None
    simulation.upload_id = None if scenario.link else _filled_session(simulation, hook, lasting)
    if scenario.made_before:
        server.store.create_project({"upload_id": simulation.upload_id, "title": TITLE})

    def make() -> CreateProjectOperator:
        operator = _fresh(_simulated(package))
        operator.upload_id = simulation.upload_id
        operator.download_link = LINK if scenario.link else None
        operator.title = TITLE if scenario.title else None
        operator.deferrable = scenario.airflow.deferrable
        operator.simulate(hook)
        operator._package, operator._clock, operator._held = package, clock, simulation.held
        operator._variables = lasting if scenario.airflow.lasting == "variable" else None
        operator.creation_times = package.times
        simulation.held.append(0.0)
        return cast("CreateProjectOperator", operator)

    task = Task(
        "project",
        make,
        clock,
        interruptions,
        state,
        lasting if scenario.airflow.lasting == "asset" else None,
        pause_between=scenario.pause,
        note=server.note,
    )
    server.plan(scenario.faults, scenario.outages)
    interruptions.armed = True
    simulation.ends.append((task.run(), task.result, str(task.error)))
    for keep_state in scenario.clears:
        clock.sleep(scenario.pause)
        task.clear(keep_state)
        simulation.ends.append((task.run(), task.result, str(task.error)))
    clock.sleep(LATEST_AFTER_TIMEOUT)  # late effects happen before this time
    return simulation


def check(simulation: Simulation) -> None:
    """Assert the promises: one project, never another account's, no held worker slot, no person needed.

    The exceptions are those of ``docs/contract.md``.
    """
    scenario, server, story = simulation.scenario, simulation.server, simulation.story
    created = list(server.store.projects)
    names = {name for end, name, _ in simulation.ends if end == "success"}
    assert names <= set(created), f"A stranger's project was reused: {names}\n{story}"
    hidden = scenario.stranger == "hidden" and _doubt(simulation)
    # A clear of a link in doubt creates its project again: the message asks to check for a project first.
    looked = sum("is cleared" in line for line in server.journal) if scenario.link else 0
    assert hidden or len(created) <= 1 + looked, f"More than one project: {created}\n{story}"
    assert max(simulation.held) <= TIMES.in_place, f"A worker slot was held: {simulation.held}\n{story}"
    if not needs_a_person(simulation):
        assert {end for end, _, _ in simulation.ends} == {"success"}, f"A person is needed\n{story}"


def _doubt(simulation: Simulation) -> bool:
    """Return whether the result of a POST may be unknown to the task."""
    return simulation.server.doubt or bool(simulation.interruptions.happened or simulation.scenario.clears)


def needs_a_person(simulation: Simulation) -> bool:
    """Return whether the documentation allows the task to stop."""
    scenario, server = simulation.scenario, simulation.server
    moments = simulation.interruptions.happened
    in_post = sum("POST /projects" in moment or "a save of sending" in moment for moment in moments)
    return (
        server.refused
        or ((scenario.stranger is not None or scenario.link) and _doubt(simulation))
        or server.wasted + in_post + _forgotten(server.journal) > MAX_MORE_POSTS
    )


def _forgotten(journal: list[str]) -> int:
    """Return how many POSTs created nothing, and were killed before the task could save that."""
    faults = [re.search(r"POST /projects: ([^,]+), effect", line) for line in journal]
    return sum(
        fault is not None and not ANSWERS[fault[1]].doubtful and "is killed before a save" in after
        for fault, after in zip(faults, journal[1:], strict=False)
    )


# -- the package, with time and the connection replaced


class _Hook(ThreeSixtyHook):
    def __init__(self, transport: WirelessTransport, clock: VirtualClock) -> None:
        super().__init__()
        self._transport = transport
        self._clock = clock

    @cached_property
    def client(self) -> ThreeSixtyClient:
        """Return a client like that of a connection."""
        return ThreeSixtyClient(self._transport, Backoff(sleep=self._clock.sleep, random=lambda: 0.5))


class _Simulated:
    """An operator without a connection and without a log."""

    log: Any = logging.getLogger("airflow_360.simulation")

    def simulate(self, hook: ThreeSixtyHook) -> None:
        self.__dict__["hook"] = hook


class _SimulatedProject(_Simulated):
    """The project operator on virtual time."""

    _package: Package
    _clock: VirtualClock
    _held: list[float]
    _variables: SavedState | None

    def _creation(self, *args: Any) -> ProjectCreation:
        real: ProjectCreation = super()._creation(*args)  # type: ignore[misc]
        given = {f.name: getattr(real, f.name) for f in fields(real)}
        return self._package.creation(**{**given, "clock": self._clock, "sleep": self._sleep})

    def _sleep(self, seconds: float) -> None:
        self._held[-1] += seconds
        self._clock.sleep(seconds)

    def _records(self, *args: Any) -> SessionRecords | LinkRecords:
        records: SessionRecords | LinkRecords = super()._records(*args)  # type: ignore[misc]
        if self._variables is not None:  # as before Airflow 3.3
            records._lasting._store = self._variables
        return records


_prototypes: dict[type[CreateProjectOperator], Any] = {}


def _simulated(package: Package) -> Any:
    """Return an operator of the package under test; its parameters are set on copies of it."""
    base = package.operator
    if base not in _prototypes:
        kind: Any = type("SimulatedCreateProjectOperator", (_SimulatedProject, base), {})
        _prototypes[base] = kind(task_id="project", upload_id="set later", retries=3)
    return _prototypes[base]


class _SessionOperator(_Simulated, CreateUploadSessionOperator):
    pass


_SESSION = _SessionOperator(task_id="session")


def _fresh(prototype: Any) -> Any:
    """Return a new operator for each execution; constructing it would take a millisecond."""
    operator = object.__new__(type(prototype))
    operator.__dict__.update(prototype.__dict__)
    return operator


def _filled_session(simulation: Simulation, hook: ThreeSixtyHook, lasting: SavedState | None) -> str:
    """Create a session with the package's own operator, and put one file into it."""
    scenario, server = simulation.scenario, simulation.server
    if scenario.stranger:
        server.store.take_name(visible=scenario.stranger == "visible")

    def make() -> CreateUploadSessionOperator:
        operator = _fresh(_SESSION)
        operator.simulate(hook)
        return cast("CreateUploadSessionOperator", operator)

    with_assets = scenario.airflow.lasting == "asset"
    task = Task(
        "session", make, server.clock, simulation.interruptions, None, lasting if with_assets else None
    )
    assert task.run() == "success"
    upload_id = str(task.result)
    if lasting is not None and not with_assets:
        record = CreationRecord(Stage.UNSENT, session_created=server.clock.now)
        lasting.set(f"airflow_360_session_{upload_id}", record.to_json())
    hook.client.put_file(upload_id, "a.e57", b"scan")
    server.clock.sleep(600)
    return upload_id


# -- drawing scenarios

PASSING = [
    "no connection",
    "reset",
    "timed out",
    "500",
    "502",
    "503",
    "504",
    "portal",
    "another API",
    "103",
    "302",
    "401 of a proxy",
    "403 of a proxy",
    "404 of a proxy",
    "408 of a proxy",
    "429",
    "429 for seconds",
    "429 for minutes",
]
#: When a process can be killed, and when only a person can come in between.
MOMENTS = [
    "before POST",
    *3 * ["after POST"],
    "before a save",
    "after a save",
    "before GET",
    "after GET",
]
PAUSES = ["in a pause", "after a pause", "before a retry"]
SLOW = [name for name in PASSING if ANSWERS[name].slow]
LIMITED = ["429", "429 for seconds", "429 for minutes"]
OF_A_POST = [*PASSING, "429 for an hour", "session not found", "quota", "refused"]


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Draw the fault of one POST."""
    name = draw(st.sampled_from([*OF_A_POST, *SLOW, *SLOW]))
    answer = ANSWERS[name]
    if not answer.doubtful:
        return Fault(name)
    effect = draw(st.sampled_from([Effect.NEVER, Effect.AT_ONCE, Effect.LATER, Effect.LATER]))
    latest = LATEST_AFTER_TIMEOUT if answer.slow else LATEST_AFTER_BREAK
    delay = draw(st.sampled_from([1.0, 30.0, 600.0, latest, latest])) if effect is Effect.LATER else 0.0
    return Fault(name, effect, delay)


@st.composite
def outages(draw: st.DrawFn) -> Outage:
    """Draw a time in which GETs fail."""
    start = draw(st.sampled_from([0.0, 0.04, 0.08, 1.0, 5.0, 20.0, 200.0, 900.0, 3600.0]))
    seconds = draw(st.sampled_from([0.01, 5.0, 60.0, 900.0, 2400.0]))
    return Outage(start, seconds, draw(st.sampled_from([*PASSING, *LIMITED, *LIMITED])))


@st.composite
def interruptions(draw: st.DrawFn) -> Interruption:
    """Draw a kill or a clear."""
    clear = draw(st.integers(0, 3)) == 3
    moment = draw(st.sampled_from([*MOMENTS, *(PAUSES if clear else ())]))
    return Interruption(
        moment, draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3])), clear, clear and draw(st.booleans())
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a scenario in which every fault passes."""
    link = draw(st.integers(0, 9)) == 9
    airflow = Airflow(
        draw(st.booleans()), draw(st.sampled_from(["asset", "variable", None])), draw(st.booleans())
    )
    other = draw(st.sampled_from([None] * 7 + ["visible", "hidden", "made before"])) if not link else None
    known = airflow.lasting is not None
    return Scenario(
        consumed=draw(st.booleans()),
        airflow=airflow,
        link=link,
        title=not known or draw(st.booleans()),
        processing=draw(st.sampled_from([0.0, 30.0, 3000.0, 10_000.0])),
        stranger=other if other in ("visible", "hidden") else None,
        made_before=other == "made before",
        faults=_at_most(MAX_MORE_POSTS, draw(st.lists(faults(), max_size=4)), lambda fault: fault.wasted),
        outages=_short(draw(st.lists(outages(), max_size=3))),
        interruptions=_at_most(
            MAX_KILLS, draw(st.lists(interruptions(), max_size=4)), lambda one: not one.clear
        ),
        clears=draw(st.lists(st.booleans(), max_size=2)),
        pause=draw(st.sampled_from([0.0, 300.0, 5000.0])),
    )


def _at_most(most: int, items: list[Any], counts: Any) -> tuple[Any, ...]:
    kept: list[Any] = []
    for item in items:
        if not counts(item) or sum(map(counts, kept)) < most:
            kept.append(item)
    return tuple(kept)


def _short(drawn: list[Outage]) -> tuple[Outage, ...]:
    kept: list[Outage] = []
    for outage in drawn:
        if sum(one.seconds for one in kept) + outage.seconds <= MAX_OUTAGE_SECONDS:
            kept.append(outage)
    return tuple(kept)
