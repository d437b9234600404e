"""Bugs that the simulation must notice: each replaces one part of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from airflow_360.api.client import ThreeSixtyClient
from airflow_360.api.records import Project
from airflow_360.exceptions import ApiError, QuotaError, RateLimitedError, ThreeSixtyError
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.projects.creation import (
    CreationRecord,
    Pause,
    Post,
    ProjectCreation,
    Stage,
    Step,
    Wait,
)
from tests.simulation.creation import TIMES, Airflow, Package, Scenario
from tests.simulation.scheduler import Interruption
from tests.simulation.server import Effect, Fault, Outage

__all__ = ["BUGS", "Bug"]


class _ReusesAnyProject(ProjectCreation):
    """Reuses any project that has the session's name."""

    def _find(self, client: ThreeSixtyClient, name: str) -> None:
        super()._find(client, name)
        if isinstance(self._facts.project, Project):
            self._facts = replace(self._facts, project=Project(name, 100))


class _ForgetsNameWasFree(ProjectCreation):
    """Forgets that another project had the name before the first POST."""

    def _save(self, record: CreationRecord) -> None:
        super()._save(replace(record, name_was_free=True))


class _BelievesProxies(ProjectCreation):
    """Treats a proxy's refusal as the server's."""

    def _after_error(self, error: ThreeSixtyError, before: CreationRecord) -> None:
        if _is_a_proxys(error):
            error = QuotaError(str(error), status=403, code="forbidden")
        super()._after_error(error, before)


class _TakesProxiesForUnsent(ProjectCreation):
    """Treats a proxy's refusal as a POST that was not sent."""

    def _after_error(self, error: ThreeSixtyError, before: CreationRecord) -> None:
        super()._after_error(RateLimitedError(str(error)) if _is_a_proxys(error) else error, before)


def _is_a_proxys(error: ThreeSixtyError) -> bool:
    return isinstance(error, ApiError) and error.code is None and error.status < 500


class _RecordsAfterThePost(ProjectCreation):
    """Records that a POST is being sent only once its result is known."""

    def _save(self, record: CreationRecord) -> None:
        if record.stage is Stage.SENDING:
            self._record = record
        else:
            super()._save(record)


class _TakesAKillForUnsent(ProjectCreation):
    """Posts immediately after a kill."""

    def _begun(self, record: CreationRecord) -> CreationRecord:
        if record.stage is Stage.SENDING:
            record = replace(record, stage=Stage.UNSENT)
        return super()._begun(record)


class _TakesNothingSavedForUnsent(ProjectCreation):
    """Posts immediately if no earlier attempt is recorded."""

    def _begun(self, record: CreationRecord) -> CreationRecord:
        if record.stage is Stage.UNKNOWN:
            record = replace(record, stage=Stage.UNSENT)
        return super()._begun(record)


class _ForgetsAtAClear(ProjectCreation):
    """Starts over when a person clears the task."""

    def _begun(self, record: CreationRecord) -> CreationRecord:
        cleared = bool(record.clears) and record.clears != self.clears
        return super()._begun(CreationRecord(Stage.UNSENT) if cleared else record)


class _TakesAKillForABreak(ProjectCreation):
    """Waits after a kill only as long as after a broken connection."""

    def _begun(self, record: CreationRecord) -> CreationRecord:
        if record.stage is Stage.SENDING:
            record = record.in_doubt("killed", record.since or 0.0, self.times.after_break)
        return super()._begun(record)


class _NeverPostsAgain(ProjectCreation):
    """Stops although another POST is safe."""

    def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Post) and step.why:
            raise self._stopped("the project was not found")
        return super()._carry_out(step)


class _SpendsRetries(ProjectCreation):
    """Fails if a request fails, and leaves the waiting to Airflow's retries."""

    def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Wait) and self._facts.failure:
            raise self._facts.failure
        return super()._carry_out(step)


class _LosesDoubtAtARateLimit(CreateProjectOperator):
    """Loses the record if it waits for a rate limit."""

    def _pause(self, context: Any, state: Any, pause: Pause) -> NoReturn:
        if pause.rate_limit:
            pause = replace(pause, record=CreationRecord(Stage.UNSENT))
        super()._pause(context, state, pause)


@dataclass(frozen=True)
class Bug:
    """A bug, and a scenario that shows it.

    :param package: the package with the bug.
    :param scenario: the events that make it matter.
    """

    package: Package
    scenario: Scenario


def _late(answer: str, delay: float) -> Sequence[Fault]:
    return (Fault(answer, Effect.LATER, delay),)


_KILLED = Scenario(faults=_late("reset", 600.0), interruptions=(Interruption("after POST"),), pause=0.0)

#: Each bug by its name.
BUGS = {
    "posts again at once": Bug(
        Package(times=replace(TIMES, after_break=0.0, after_timeout=0.0)),
        Scenario(faults=_late("reset", 30.0)),
    ),
    "waits too briefly after a timeout": Bug(
        Package(times=replace(TIMES, after_timeout=900.0)), Scenario(faults=_late("timed out", 3590.0))
    ),
    "reuses any project": Bug(Package(creation=_ReusesAnyProject), Scenario(stranger="visible")),
    "forgets that the name was taken": Bug(
        Package(creation=_ForgetsNameWasFree), Scenario(stranger="visible", faults=(Fault("503"),))
    ),
    "believes a proxy's refusal": Bug(
        Package(creation=_BelievesProxies), Scenario(faults=(Fault("403 of a proxy"),))
    ),
    "takes a proxy's refusal for unsent": Bug(
        Package(creation=_TakesProxiesForUnsent), Scenario(faults=_late("403 of a proxy", 30.0))
    ),
    "records after the POST": Bug(Package(creation=_RecordsAfterThePost), _KILLED),
    "takes a kill for unsent": Bug(Package(creation=_TakesAKillForUnsent), _KILLED),
    "takes a kill for a break": Bug(
        Package(creation=_TakesAKillForABreak),
        Scenario(
            faults=_late("timed out", 3590.0),
            interruptions=(Interruption("before a save of doubt"),),
            pause=0.0,
        ),
    ),
    "takes nothing saved for unsent": Bug(
        Package(creation=_TakesNothingSavedForUnsent),
        replace(_KILLED, airflow=Airflow(state=False, lasting=None)),
    ),
    "forgets at a clear": Bug(
        Package(creation=_ForgetsAtAClear),
        Scenario(
            faults=_late("reset", 600.0), interruptions=(Interruption("in a pause", clear=True),), pause=0.0
        ),
    ),
    "never posts again": Bug(Package(creation=_NeverPostsAgain), Scenario(faults=(Fault("503"),))),
    "spends retries on failures": Bug(
        Package(creation=_SpendsRetries),
        Scenario(
            outages=(Outage(0.0, 60.0, "503"),), interruptions=3 * (Interruption("before GET"),), pause=0.0
        ),
    ),
    "loses the doubt at a rate limit": Bug(
        Package(operator=_LosesDoubtAtARateLimit),
        Scenario(
            airflow=Airflow(state=False),
            faults=_late("reset", 890.0),
            outages=(Outage(0.5, 100.0, "429 for minutes"),),
        ),
    ),
    "keeps its worker slot": Bug(
        Package(times=replace(TIMES, in_place=3600.0)), Scenario(faults=(Fault("503"),))
    ),
}
