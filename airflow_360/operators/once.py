"""Exactly one project of one session, over attempts that fail wherever they like.

The server takes no idempotency key, and names a project after its session normally but not always. So the
intent is recorded before the POST and the name after it; and what cannot be known is never guessed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_360.exceptions import ApiError, NoReplyError, NotFoundError, ProjectError, ServerError

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.api.records import Project
    from airflow_360.hooks.task_state import TaskState

__all__ = ["OnlyOnce"]

log = logging.getLogger(__name__)

#: Seconds for which a project may take to show after a POST that got no reply, and seconds between two looks.
LOOK, LOOK_EVERY = 120.0, 10.0
#: What says that this task keeps records; goes where they go, under Airflow's ``clear_on_success``.
MEMORY = ("project", "")
#: Seconds for which a project that was there may be missing before it is gone: three looks.
MISSING = 20.0


def _nothing() -> None:
    pass


@dataclass
class OnlyOnce:
    """Create the project of one session, or find the one that an earlier attempt created.

    :param client: the API.
    :param state: what this task remembers.
    :param about: what the project is made of, for the record and for messages; holds no secret.
    :param upload_id: the session; None for a link, where there is nothing to ask for.
    :param attempt: the try number, from 1.
    :param clears: changes when a person clears the task, and not on a retry.
    :param sleep: what waits between two looks.
    """

    client: ThreeSixtyClient
    state: TaskState
    about: str
    upload_id: str | None
    attempt: int
    clears: int
    sleep: Callable[[float], None] = time.sleep

    def project(self, create: Callable[[], Project], check: Callable[[], None] = _nothing) -> Project:
        """Return the one project.

        :param create: sends the POST, once.
        :param check: called before that; what it raises leaves no doubt behind.
        :raises ProjectError: when it cannot be known whether there is one already.
        :raises ThreeSixtyError: what ``create`` raised, where it surely created nothing.
        """

        def post(before: bool, doubt: dict[str, Any] | None = None) -> Project:
            check()
            return self._post(before, create, doubt)

        record: dict[str, Any] = self.state.get("project", self.about) or {}
        cleared = bool(record) and record.get("clears") != self.clears
        if name := record.get("name"):
            return self._recorded(name, cleared, post)
        if record.get("posted"):
            return self._unknown(record, cleared, post)
        if record:
            return post(bool(record["before"]))
        if self.attempt > 1 and not self._remembers:
            return self._without_memory(post)
        before = self._find(self.upload_id) is not None
        if self.upload_id is not None:
            self.state.set(*MEMORY, value=True)
        self._record(posted=False, before=before)
        return post(before)

    @property
    def _remembers(self) -> bool:
        """Tell whether a POST for this session would be on record, so that a new one need not be looked for.

        Never of a link: one that is signed anew for each attempt would look like another one.
        """
        return self.upload_id is not None and bool(self.state.get(*MEMORY))

    def _recorded(self, name: str, cleared: bool, post: Callable[..., Project]) -> Project:
        project = self._look(name, MISSING)
        if project is not None:
            if self.attempt > 1:
                log.info("%s became project %s already: nothing is created.", self.about, name)
            return project
        if not cleared:
            raise ProjectError(
                f"Project {name}, which this task created of {self.about}, is gone from the server."
            )
        log.warning("Project %s, made of %s before, is gone: creating another, as asked.", name, self.about)
        return post(False)

    def _unknown(self, doubt: dict[str, Any], cleared: bool, post: Callable[..., Project]) -> Project:
        """Go on after a POST of an earlier attempt of which nobody knows what became."""
        before = bool(doubt.get("before"))
        project = None if before else self._look(self.upload_id, LOOK)
        if project is not None:
            return self._keep(project)
        if not cleared:
            raise self._stop(before)
        log.warning(
            "Creating a project of %s anew: this task was cleared after %s.", self.about, self._doubt(before)
        )
        return post(before, doubt)

    def _without_memory(self, post: Callable[..., Project]) -> Project:
        """Go on where earlier attempts are forgotten: an old Airflow, or one that forgets on success."""
        if self.upload_id is None or self._look(self.upload_id, LOOK) is not None:
            raise self._stop_without_memory()
        return post(False)

    def _post(self, before: bool, create: Callable[[], Project], doubt: dict[str, Any] | None) -> Project:
        """Send the POST; where it surely did nothing, an older doubt stays what it was."""
        settled = doubt or {"posted": False, "before": before, "clears": self.clears}
        self._record(posted=True, before=before)
        try:
            return self._keep(create())
        except (NoReplyError, ServerError) as error:
            if isinstance(error, NoReplyError) and not error.sent:
                self.state.set("project", self.about, value=settled)
                raise
            log.warning("%s Looking whether the project was created all the same.", error)
            project = None if before else self._look(self.upload_id, LOOK)
            if project is None:
                raise self._stop(before) from error
            return self._keep(project)
        except ApiError:
            self.state.set("project", self.about, value=settled)  # the server said no
            raise

    def _keep(self, project: Project) -> Project:
        self._record(name=project.name)
        return project

    def _record(self, **what: Any) -> None:
        self.state.set("project", self.about, value={**what, "clears": self.clears})

    def _find(self, name: str | None) -> Project | None:
        if name is None:
            return None
        try:
            return self.client.get_project(name)
        except NotFoundError:
            return None

    def _look(self, name: str | None, seconds: float) -> Project | None:
        waited = 0.0
        while (project := self._find(name)) is None and name and waited < seconds:
            self.sleep(LOOK_EVERY)
            waited += LOOK_EVERY
        return project

    def _doubt(self, before: bool) -> str:
        taken = f", and {self.upload_id} is the name of an older project" if before else ""
        return f"a request to create it got no answer{taken}"

    def _stop_without_memory(self) -> ProjectError:
        found, over = "there is nothing to ask for", "trigger a new run"
        if self.upload_id:
            found, over = f"a project called {self.upload_id} is there", "clear the session task"
        return ProjectError(
            f"Nobody can tell whether a project was created of {self.about}: this Airflow keeps nothing of "
            f"this task's earlier attempts, and {found}. Look at your projects on {self.client.server}. If "
            f"it is there, mark this task as success; to make another, {over}."
        )

    def _stop(self, before: bool) -> ProjectError:
        return ProjectError(
            f"Nobody can tell whether a project was created of {self.about}: {self._doubt(before)}. Look at "
            f"your projects on {self.client.server}. If it is there, mark this task as success; if it is "
            "not, clear this task, which creates it again."
        )
