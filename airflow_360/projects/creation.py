"""Exactly one project per session, despite all failures: a record, a pure decision, and a runner.

The server takes no idempotency key. A session's id is a random token of the account, and a project gets that
name unless it is taken. So if the name was free right before the first POST, a project that this POST created
has that name. A lost reply can therefore be resolved: by searching for the project, and by a second POST when
the first one must have ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_360.exceptions import (
    ApiError,
    NoReplyError,
    NotFoundError,
    ProjectError,
    RateLimitedError,
    ServerError,
    ThreeSixtyError,
    UnexpectedReplyError,
)
from airflow_360.projects.times import CreationTimes
from airflow_360.texts import duration_text

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import Project

__all__ = [
    "ConfirmDeleted",
    "CreationRecord",
    "Facts",
    "Fail",
    "FindProject",
    "NotAsked",
    "Pause",
    "Post",
    "ProjectCreation",
    "ReadSession",
    "RecordStore",
    "Refuse",
    "Remember",
    "Reuse",
    "SessionState",
    "Stage",
    "Step",
    "Stop",
    "Wait",
    "next_step",
]

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_CAUSE_CHARACTERS = 300
MAX_CANDIDATES = 5
CLOCK_SLACK_SECONDS = 5.0  # a reply's Date header has whole seconds


#: The number of POSTs after the first one.
MAX_MORE_POSTS = 2
#: The number of 404s in a row that show that a project was deleted.
MAX_MISSING = 3


class Stage(StrEnum):
    """A stage of the creation of a project."""

    UNKNOWN = "unknown"  # nothing is recorded
    UNSENT = "unsent"  # it is certain that no POST was sent, or that the server refused it
    SENDING = "sending"  # a POST is being sent
    DOUBT = "doubt"  # a POST was sent, and its result is unknown
    CREATED = "created"


@dataclass(frozen=True)
class CreationRecord:
    """The saved state of a project's creation; stored as plain JSON.

    :param stage: the current stage.
    :param clears: changes if a person clears the task, but not on a retry.
    :param name: the project's name after its creation.
    :param name_was_free: whether no project had the session's name right before the first POST.
    :param posts: the number of POSTs that were sent.
    :param since: the start of the doubt, or of the wait for a readable record: seconds since 1970.
    :param patience: seconds from ``since`` until another POST is safe.
    :param cause: the reason why the result is unknown, for messages.
    :param attempt: the attempt that saved this record, from 1.
    :param failing_since: the time of the first failure of the current series in this attempt, or None. A POST
        is not counted, and ends the series: for a session it follows requests that succeeded.
    :param refused_since: the time of the first POST of a series that certainly created nothing, or None.
    :param limited_since: the time of the first rate limit that named a time, or None. Waiting for one is no
        failure; it ends the other two series.
    :param missing: how many times in a row a created project was not found.
    :param stopped: whether the task stopped and asked for a manual check.
    :param session_created: the time when the session was created, by the server's clock, or None.
    """

    stage: Stage = Stage.UNKNOWN
    clears: str = ""
    name: str | None = None
    name_was_free: bool = True
    posts: int = 0
    since: float | None = None
    patience: float = 0.0
    cause: str = ""
    attempt: int = 0
    failing_since: float | None = None
    refused_since: float | None = None
    limited_since: float | None = None
    missing: int = 0
    stopped: bool = False
    session_created: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON, without fields that have their default value."""
        default = asdict(CreationRecord())
        return {key: value for key, value in asdict(self).items() if value != default[key]}

    @classmethod
    def from_json(cls, value: object) -> CreationRecord:
        """Read the result of :meth:`to_json`; return an empty record for any other value."""
        if not isinstance(value, Mapping):
            return cls()
        known = {f.name: value[f.name] for f in fields(cls) if f.name in value}
        try:
            return cls(**{**known, "stage": Stage(known.get("stage", Stage.UNKNOWN))})
        except ValueError:
            return cls()

    def in_doubt(self, cause: str, since: float, patience: float) -> CreationRecord:
        """Return this record after a POST with an unknown result."""
        cause = cause[:MAX_CAUSE_CHARACTERS]
        doubt = replace(self, stage=Stage.DOUBT, cause=cause, since=since, patience=patience)
        return doubt.without_failures()

    def without_failures(self) -> CreationRecord:
        """Return this record after a request that did not fail, or for another attempt."""
        return replace(self, failing_since=None, refused_since=None, limited_since=None)

    def failed(self, now: float, failure: ThreeSixtyError, posting: bool = False) -> CreationRecord:
        """Return this record after a failure that may be temporary.

        :param now: seconds since 1970.
        :param failure: the failure.
        :param posting: whether the POST failed.
        """
        if _asked_seconds(failure):
            return replace(self.without_failures(), limited_since=self.limited_since or now)
        if posting:
            return replace(self, refused_since=self.refused_since or now)
        return replace(self, failing_since=self.failing_since or now)


class NotAsked(Enum):
    """A placeholder for a project that was not requested, or was not found."""

    NOT_ASKED = "not asked"
    MISSING = "missing"


class SessionState(Enum):
    """The known state of the session."""

    NOT_ASKED = "not asked"
    WHOLE = "whole"
    NOT_WHOLE = "not whole"
    GONE = "gone"


@dataclass(frozen=True)
class Facts:
    """The facts on which the choice of the next step is based.

    :param now: seconds since 1970.
    :param upload_id: the session, or None for a link. A link's project cannot be searched for by name.
    :param title: the title that this task gives its project, or None.
    :param first: whether this is the task's first attempt.
    :param cleared: whether a person cleared the task since the record was saved.
    :param project: the result of the search for the project.
    :param session: the state of the session on the server.
    :param failure: the failure of the last request, if it may be temporary.
    :param posting: whether the request that failed was the POST.
    """

    now: float
    upload_id: str | None
    title: str | None = None
    first: bool = True
    cleared: bool = False
    project: Project | NotAsked = NotAsked.NOT_ASKED
    session: SessionState = SessionState.NOT_ASKED
    failure: ThreeSixtyError | None = None
    posting: bool = False


@dataclass(frozen=True)
class FindProject:
    """A step: ask the server for a project with this name."""

    name: str


@dataclass(frozen=True)
class ReadSession:
    """A step: check that the session is complete, or that the linked object exists."""


@dataclass(frozen=True)
class Post:
    """A step: send the POST; ``why`` is the reason why another one is safe, and empty for the first one."""

    name_is_free: bool
    why: str = ""


@dataclass(frozen=True)
class Remember:
    """A step: continue with another record."""

    record: CreationRecord


@dataclass(frozen=True)
class Reuse:
    """A step: reuse the project that exists; ``warning`` describes an uncertainty about it."""

    project: Project
    warning: str = ""


@dataclass(frozen=True)
class Wait:
    """A step: wait, then ask again; ``until`` is the latest end of the wait."""

    seconds: float
    why: str
    until: float | None = None


@dataclass(frozen=True)
class ConfirmDeleted:
    """A step: ask again for a created project that was not found."""


@dataclass(frozen=True)
class Refuse:
    """A step: raise the problem with the session; no POST was sent."""


@dataclass(frozen=True)
class Fail:
    """A step: raise an error."""

    error: ThreeSixtyError


@dataclass(frozen=True)
class Stop:
    """A step: stop for good, because only a person can tell whether a project exists."""

    reason: str


Step = FindProject | ReadSession | Post | Remember | Reuse | Wait | ConfirmDeleted | Refuse | Fail | Stop


def next_step(record: CreationRecord, facts: Facts, times: CreationTimes) -> Step:
    """Return the next step; pure, so that a table can test it.

    :param record: the saved record.
    :param facts: the facts from the server since the last wait.
    :param times: see :class:`.CreationTimes`.
    """
    if facts.failure is not None:
        return _after_failure(record, facts, facts.failure, times)
    match record.stage:
        case Stage.CREATED:
            return _after_creation(record, facts)
        case Stage.SENDING:
            cause = "the task was stopped while it sent the request"
            return Remember(record.in_doubt(cause, record.since or facts.now, times.after_timeout))
        case Stage.DOUBT:
            return _in_doubt(record, facts, times)
    return _before_the_first_post(record, facts, times)


def _after_failure(
    record: CreationRecord, facts: Facts, failure: ThreeSixtyError, times: CreationTimes
) -> Step:
    if _asked_seconds(failure):
        begun, tolerated = record.limited_since, times.rate_limited
    elif facts.posting:
        begun, tolerated = record.refused_since, times.refused
    else:
        begun, tolerated = record.failing_since, times.failing
    since = facts.now if begun is None else begun
    if not failure.may_pass or facts.now - since > tolerated:
        return Fail(failure.given_up())
    seconds = max(_interval(facts.now - since, times), failure.retry_after or 0.0)
    return Wait(seconds, str(failure), max(since + tolerated, facts.now + seconds))


def _after_creation(record: CreationRecord, facts: Facts) -> Step:
    name = record.name or ""
    if facts.project is NotAsked.NOT_ASKED:
        return FindProject(name)
    if facts.project is not NotAsked.MISSING:
        return Reuse(facts.project)
    if record.missing + 1 < MAX_MISSING:
        return ConfirmDeleted()
    if facts.cleared:
        return Remember(CreationRecord(Stage.UNSENT, session_created=record.session_created))
    said = f"Project {name}, which this task created, was deleted on the server."
    return Fail(ProjectError(f"{said} Clear this task to create it again."))


def _before_the_first_post(record: CreationRecord, facts: Facts, times: CreationTimes) -> Step:
    unsent = facts.first or record.stage is Stage.UNSENT
    if facts.upload_id is None:
        if not unsent:
            return Stop("nothing is saved of its earlier attempts")
        return ReadSession() if facts.session is SessionState.NOT_ASKED else Post(True)
    if facts.project is NotAsked.NOT_ASKED:
        return FindProject(facts.upload_id)
    if facts.project is not NotAsked.MISSING:
        return _if_the_name_is_taken(record, facts, facts.project, unsent, times)
    if not unsent:
        cause = "nothing is saved of this task's earlier attempts, and one of them may have sent it"
        return Remember(record.in_doubt(cause, facts.now, times.after_timeout))
    if facts.session is SessionState.NOT_ASKED:
        return ReadSession()
    return Post(True) if facts.session is SessionState.WHOLE else Refuse()


def _if_the_name_is_taken(
    record: CreationRecord, facts: Facts, project: Project, unsent: bool, times: CreationTimes
) -> Step:
    """Return the next step if a project has the session's name: it may be this session's or another one's."""
    if facts.session is SessionState.NOT_ASKED:
        return ReadSession()
    if _is_a_strangers(project, record.session_created, facts.title):
        if not unsent:
            cause = "nothing is saved of this task's earlier attempts"
            return Remember(
                replace(record.in_doubt(cause, facts.now, times.after_timeout), name_was_free=False)
            )
        return Post(False) if facts.session is SessionState.WHOLE else Refuse()
    if project.ready or facts.session is SessionState.GONE:
        return Reuse(project, "another task, another run or an attempt of which nothing is saved created it")
    if record.since is None:
        return Remember(replace(record, since=facts.now))
    left = record.since + times.record - facts.now
    if left <= 0:
        return Stop(f"the project {project.name} exists, but is not ready, so its record cannot be read")
    why = (
        f"a project with the name of session {facts.upload_id} exists, and its record can be read only when "
        "it is ready"
    )
    return Wait(min(_interval(facts.now - record.since, times), left), why, record.since + times.record)


def _is_a_strangers(project: Project, session_created: float | None, title: str | None) -> bool:
    """Return whether a project's record proves that it belongs to another session."""
    if not project.ready:
        return False
    created = _seconds(project.record.get("created"))
    if (
        created is not None
        and session_created is not None
        and created < session_created - CLOCK_SLACK_SECONDS
    ):
        return True
    theirs = project.record.get("title")
    return bool(title) and isinstance(theirs, str) and theirs.split() != str(title).split()


def _in_doubt(record: CreationRecord, facts: Facts, times: CreationTimes) -> Step:
    if facts.upload_id is None:
        return Stop(record.cause)
    if not record.name_was_free:
        return Stop(f"{record.cause}, and another project had the name {facts.upload_id} before")
    if facts.project is NotAsked.NOT_ASKED:
        return FindProject(facts.upload_id)
    if facts.project is not NotAsked.MISSING:
        return Reuse(facts.project)
    return _while_it_is_missing(record, facts, times)


def _while_it_is_missing(record: CreationRecord, facts: Facts, times: CreationTimes) -> Step:
    since = record.since or 0.0
    waited = facts.now - since

    def wait(until: float) -> Wait:
        why = f"{record.cause}, so the project may exist; it is searched for"
        return Wait(min(_interval(waited, times), until - waited), why, since + until)

    if waited < min(record.patience, times.without_session):
        return wait(record.patience)
    if facts.session is SessionState.NOT_ASKED:
        return ReadSession()
    if facts.session is not SessionState.WHOLE:
        what = "the session no longer exists" if facts.session is SessionState.GONE else "the session changed"
        if waited < times.without_session:
            return wait(times.without_session)
        return Stop(f"{record.cause}; {what}, and the project was not found")
    if waited < record.patience:
        return wait(record.patience)
    if record.posts > MAX_MORE_POSTS:
        return Stop(f"{record.cause}; the request was sent {record.posts} times")
    return Post(
        True,
        f"no project had the name {facts.upload_id} before the first request, none has it "
        f"{duration_text(waited)} after the last one ({record.cause}), and the session is complete",
    )


def _interval(waited: float, times: CreationTimes) -> float:
    """Return the seconds until the next request: as long as the wait so far, within bounds."""
    return min(max(waited, times.shortest), times.longest)


def _seconds(value: object) -> float | None:
    """Return a date-time from the server as seconds since 1970, or None."""
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


class RecordStore(Protocol):
    """A store that keeps the record of one creation across attempts, as far as Airflow can."""

    def load(self) -> CreationRecord:
        """Return the saved record, or an empty one."""

    def save(self, record: CreationRecord) -> None:
        """Save the record."""


@dataclass(frozen=True)
class Pause:
    """A pause after which the task can continue; meanwhile it should give its worker slot back.

    :param seconds: the length of the pause.
    :param record: the record, which must not be lost in the meantime.
    :param rate_limit: the refusal, if the task waits for a rate limit.
    """

    seconds: float
    record: CreationRecord
    rate_limit: RateLimitedError | None = None


def _ignore(_request: str) -> None:
    pass


@dataclass
class ProjectCreation:
    """A runner that creates the project of one session or link, or finds the one that exists.

    :param call: calls the API with the connection's current key.
    :param store: saves the record.
    :param about: the source of the project, for messages; contains no secret.
    :param upload_id: the session, or None for a link.
    :param create: sends the POST, once.
    :param check: checks that the session is complete, or that the linked object exists.
    :param title: the title that this task gives its project, or None.
    :param attempt: the number of the task's attempt, from 1.
    :param clears: changes if a person clears the task, but not on a retry.
    :param on_request: called with ``"asked"`` before a POST and while its result is unknown, and with
        ``"refused"`` if it certainly created nothing.
    :param times: see :class:`.CreationTimes`.
    """

    call: Callable[[Callable[[ThreeSixtyClient], Any]], Any]
    store: RecordStore
    about: str
    upload_id: str | None
    create: Callable[[ThreeSixtyClient], Project]
    check: Callable[[ThreeSixtyClient], None]
    title: str | None = None
    attempt: int = 1
    clears: str = ""
    on_request: Callable[[str], None] = _ignore
    times: CreationTimes = field(default_factory=CreationTimes)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> Project | Pause:
        """Return the project, or the pause after which this must be called again.

        :raises ProjectError: if only a person can tell whether a project exists, or if it was deleted.
        :raises ThreeSixtyError: if the server refuses the project, or the session does not contain exactly
            the uploaded files.
        """
        self._stored = self.store.load()
        self._record = self._begun(self._stored)
        cleared = bool(self._record.clears) and self._record.clears != self.clears
        self._facts = Facts(self.clock(), self.upload_id, self.title, self.attempt == 1, cleared)
        self._problem: ThreeSixtyError | None = None
        self._posted = False
        self._save(self._record)
        if self._record.stage in (Stage.SENDING, Stage.DOUBT):
            self.on_request("asked")
        in_place = 0.0
        while True:
            done = self._carry_out(next_step(self._record, self._facts, self.times))
            if isinstance(done, Pause) and in_place + done.seconds <= self._in_place(done):
                in_place += done.seconds
                self.sleep(done.seconds)
                self._forget()
            elif done is not None:
                return done

    def _in_place(self, pause: Pause) -> float:
        """Return the seconds that this execution may wait in its worker slot."""
        if pause.rate_limit is None:
            return self.times.in_place
        allowed: float = self.call(lambda client: client.backoff.longest_rate_limit_wait)
        return min(self.times.in_place, allowed)

    def _begun(self, record: CreationRecord) -> CreationRecord:
        """Return the record that this execution starts with."""
        if record.attempt != self.attempt:
            record = record.without_failures()
            if record.stage in (Stage.UNKNOWN, Stage.UNSENT):
                record = replace(record, since=None)  # the wait for a readable record starts again
        if record.stage is Stage.CREATED:
            return replace(record, attempt=self.attempt)
        if record.stage is Stage.UNKNOWN and self.attempt == 1:
            record = replace(record, stage=Stage.UNSENT)
        if record.stage in (Stage.SENDING, Stage.DOUBT) and record.clears != self.clears:
            # A person has checked: a link's project is created again, and a session gets all its POSTs back.
            if self.upload_id:
                record = replace(record, posts=0)
            elif record.stopped:
                record = CreationRecord(Stage.UNSENT)
        return self._marked(record)

    def _marked(self, record: CreationRecord) -> CreationRecord:
        """Return a record as one of this attempt."""
        return replace(record, clears=self.clears, attempt=self.attempt)

    def _carry_out(self, step: Step) -> Project | Pause | None:
        """Carry out one step; None means that the next one follows immediately."""
        match step:
            case FindProject(name):
                self._attempt(lambda client: self._find(client, name))
            case ReadSession():
                self._attempt(self._read_session)
            case Remember(record):
                if self._record.stage is Stage.CREATED:
                    self._forget()  # the project with another name
                if record.stage is Stage.DOUBT:
                    self.on_request("asked")
                self._save(self._marked(record))
            case Post():
                self._post(step)
            case ConfirmDeleted():
                self._save(replace(self._record, missing=self._record.missing + 1))
                return Pause(self.times.missing, self._record)
            case Reuse():
                return self._reuse(step)
            case Wait():
                return self._pause(step)
            case Refuse():
                assert self._problem is not None
                raise self._problem
            case Fail(error):
                record = replace(self._record, missing=0)
                # A failed request does not use up a clear: the retry may still create a deleted project.
                self._save(record if self._facts.failure else self._marked(record))
                raise error
            case Stop(reason):
                raise self._stopped(reason)
        return None

    def _attempt(self, ask: Callable[[ThreeSixtyClient], None]) -> None:
        """Send a request that changes nothing; a failure that may be temporary becomes a fact."""
        try:
            self.call(lambda client: ask(client.without_retries()))
        except ThreeSixtyError as error:
            if not error.may_pass:
                raise
            self._facts = replace(self._facts, failure=error, posting=False, now=self.clock())
        else:
            self._facts = replace(self._facts, now=self.clock())

    def _find(self, client: ThreeSixtyClient, name: str) -> None:
        found: Project | NotAsked
        try:
            found = client.get_project(name)
        except NotFoundError:
            found = NotAsked.MISSING
        self._facts = replace(self._facts, project=found)

    def _read_session(self, client: ThreeSixtyClient) -> None:
        state = SessionState.WHOLE
        try:
            self.check(client)
        except NotFoundError as error:
            self._problem, state = error, SessionState.GONE
            if self._facts.project is NotAsked.MISSING:  # it may have become the project just before
                self._facts = replace(self._facts, project=NotAsked.NOT_ASKED)
        except ProjectError as error:
            self._problem, state = error, SessionState.NOT_WHOLE
        self._facts = replace(self._facts, session=state)

    def _post(self, step: Post) -> None:
        """Send the POST, and record its result."""
        before = replace(self._record, failing_since=None)
        if step.why:
            log.warning("Sending the request to create a project from %s again: %s.", self.about, step.why)
        free = step.name_is_free and before.name_was_free
        self.on_request("asked")
        self._save(
            replace(
                before,
                stage=Stage.SENDING,
                posts=before.posts + 1,
                since=self.clock(),
                name_was_free=free,
            )
        )
        self._forget()
        try:
            project = self.call(lambda client: self.create(client.without_retries()))
        except ThreeSixtyError as error:
            self._after_error(error, before)
        else:
            self._posted = True
            self._save(self._created(project))
            self._facts = replace(self._facts, project=project)

    def _after_error(self, error: ThreeSixtyError, before: CreationRecord) -> None:
        refuses_a_link = self.upload_id is None and isinstance(error, NotFoundError)
        if _is_doubtful(error) and not refuses_a_link:
            patience = self.times.after_timeout if _may_still_run(error) else self.times.after_break
            log.warning("%s Searching for the project, because the server may have created it.", error)
            self._save(self._record.in_doubt(_cause(error), self.clock(), patience))
            return
        if before.stage is not Stage.DOUBT:
            before = replace(before, stage=Stage.UNSENT, since=None)
            self.on_request("refused")
        self._save(before)
        if not error.retryable:
            raise error
        self._facts = replace(self._facts, failure=error, posting=True)

    def _reuse(self, step: Reuse) -> Project:
        project = step.project
        if step.warning:
            log.warning(
                "Project %s (%s) exists for %s and is reused: %s. If it is not yours, clear the session "
                "task.",
                project.name,
                self.call(lambda client: client.project_url(project.name)),
                self.about,
                step.warning,
            )
        elif not self._posted:
            log.info("Project %s was already created for %s and is reused.", project.name, self.about)
        self._save(self._created(project))
        return project

    def _created(self, project: Project) -> CreationRecord:
        return CreationRecord(
            Stage.CREATED,
            self.clears,
            project.name,
            self._record.name_was_free,
            attempt=self.attempt,
            session_created=self._record.session_created,
        )

    def _pause(self, step: Wait) -> Pause:
        facts, failure, record = self._facts, self._facts.failure, self._record
        self._save(record.failed(facts.now, failure, facts.posting) if failure else record.without_failures())
        until = f", waiting until {_clock_text(step.until)} at the latest" if step.until else ""
        log.warning("Next request in %s%s: %s", duration_text(step.seconds), until, step.why)
        limit = failure if isinstance(failure, RateLimitedError) else None
        return Pause(step.seconds, self._record, limit)

    def _forget(self) -> None:
        """Forget the facts from the server, because time has passed or something was sent."""
        self._facts = replace(
            self._facts,
            now=self.clock(),
            project=NotAsked.NOT_ASKED,
            session=SessionState.NOT_ASKED,
            failure=None,
        )

    def _save(self, record: CreationRecord) -> None:
        self._record = record
        if record != self._stored:
            self.store.save(record)
            self._stored = record

    def _stopped(self, reason: str) -> ProjectError:
        """Return the error that asks for a manual check."""
        self._save(replace(self._record, stopped=True))
        page = "the server"
        try:
            found = self.call(lambda client: client.without_retries().list_projects())
            page = self.call(lambda client: client.server)
        except ThreeSixtyError as error:
            log.warning("The account's projects could not be listed: %s", error)
            found = None
        names = _candidates(found, self.title)
        listed = f" It could be one of these: {'; '.join(names)}." if names else ""
        next_step = (
            "If none of them is it, clear the session task to start over"
            if self.upload_id
            else "If there is none, clear this task to create it; if the task stops again, trigger a new run"
        )
        return ProjectError(
            f"Cannot determine whether a project was created from {self.about}: {reason}. Check your "
            f"projects on {page}.{listed} {next_step}."
        )


def _asked_seconds(error: ThreeSixtyError) -> float:
    """Return the seconds that a rate limit asked to wait; 0 if it named no time, or for another error."""
    return (error.retry_after or 0.0) if isinstance(error, RateLimitedError) else 0.0


def _is_doubtful(error: ThreeSixtyError) -> bool:
    """Return whether the server may have created a project although a POST failed with this error."""
    match error:
        case NoReplyError():
            return error.sent
        case ServerError() | UnexpectedReplyError() | NotFoundError():
            return True
        case RateLimitedError():
            return False
        case ApiError():
            return error.code is None
    return False


def _may_still_run(error: ThreeSixtyError) -> bool:
    """Return whether the server may still be working on a request that failed with this error.

    Statuses from 520 are not standard: with them, proxies such as Cloudflare (524) report that a server was
    too slow.
    """
    timed_out = isinstance(error, NoReplyError) and error.timed_out
    return timed_out or (isinstance(error, ApiError) and (error.status in (408, 504) or error.status >= 520))


def _cause(error: ThreeSixtyError) -> str:
    if isinstance(error, NotFoundError):
        return "the session existed a moment before, and the request to create the project got a 404 for it"
    if isinstance(error, ApiError):
        return f"the request to create it got HTTP {error.status}"
    timed_out = isinstance(error, NoReplyError) and error.timed_out
    return f"the request to create it got no {'reply in time' if timed_out else 'usable reply'}"


def _clock_text(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))


def _candidates(found: object, title: str | None) -> list[str]:
    """Return up to five projects of the account that could be the one; the list's format is undocumented."""
    entries = next((v for v in _values(found) if isinstance(v, list)), [])
    rows = [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]
    same = [row for row in rows if title and row.get("title") == title]
    return [_row_text(row) for row in (same or rows)[-MAX_CANDIDATES:]]


def _values(found: object) -> list[object]:
    return [found, *found.values()] if isinstance(found, Mapping) else [found]


def _row_text(row: Mapping[str, Any]) -> str:
    text = f"{row['name']} ({row['title']})" if row.get("title") else str(row["name"])
    return "".join(c for c in text[:120] if c.isprintable())
