"""From a filled session, or a link, to a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow_360.exceptions import NotFoundError, ProjectError
from airflow_360.hooks.task_state import TaskState
from airflow_360.hooks.three_sixty import airflow_errors
from airflow_360.links.project import ProjectLink
from airflow_360.operators.base import ThreeSixtyOperator, reschedule
from airflow_360.triggers.project import ProjectReadyTrigger, ready_record, record_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_360.api.records import FileProgress, Project

__all__ = ["CreateProjectOperator"]

PRIVACY_MODES = {"public": 0, "link": 1, "private": 2}
NAMED = 10  # files that one message names


class CreateProjectOperator(ThreeSixtyOperator):
    """Create one project from a session whose files are complete, or from a link.

    XCom: ``project_name``, the project's slug; and ``project_url``, its page, which the button opens.

    The session is listed first: nothing is created unless every file is complete and, with ``uploads``,
    unless the session holds exactly what was uploaded. On retry and on clear the project that the session
    already became is taken over, and none is made again.

    :param upload_id: the session (templated).
    :param download_link: a URL that the server fetches by itself, instead of a session (templated).
    :param uploads: what the upload tasks returned: one result, a list, or a mapped task's ``output``
        (templated).
    :param title: the human title; the server makes one up without it (templated).
    :param privacy_mode: ``"private"`` (only the owner and who is invited), ``"link"``, ``"public"``, or the
        server's number. Private by default, as in the vendor's own client (templated).
    :param coordinate_system: such as ``"EPSG:25832"`` (templated).
    :param options: any other field of the server's interface, passed through as it is (templated).
    :param wait_for_completion: whether to wait, without a worker slot, until the project is ready.
    :param poll_interval: seconds between two polls of that wait. 60 by default: the server allows 60 a minute
        for all projects of a key.
    """

    template_fields: Sequence[str] = (
        "upload_id",
        "download_link",
        "uploads",
        "title",
        "privacy_mode",
        "coordinate_system",
        "options",
        "three_sixty_conn_id",
    )
    operator_extra_links = (ProjectLink(),)

    def __init__(
        self,
        *,
        upload_id: str | XComArg | None = None,
        download_link: str | None = None,
        uploads: Any = None,
        title: str | None = None,
        privacy_mode: str | int = "private",
        coordinate_system: str | None = None,
        options: Mapping[str, Any] | None = None,
        wait_for_completion: bool = False,
        poll_interval: float = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (upload_id is None) == (download_link is None):
            raise ValueError(f"{self.task_id}: give either upload_id or download_link, and not both.")
        self.upload_id = cast("str | None", upload_id)
        self.download_link = download_link
        self.uploads = uploads
        self.title = title
        self.privacy_mode = privacy_mode
        self.coordinate_system = coordinate_system
        self.options = options
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval

    @airflow_errors()
    def execute(self, context: Context) -> str:
        """Create the project, or take over the one that the session already became."""
        fields = self._fields()
        state = TaskState(context)
        project = self._existing(state) or self._create(fields, state)
        page = self.hook.client.project_url(project.name)
        self.log.info("Project %s: %s", project.name, page)
        ProjectLink.persist(context, page)
        if self.wait_for_completion:
            self._wait(project.name)
        return project.name

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> str:
        """Return the project's name once the trigger saw it ready."""
        from airflow_360.api.records import Project

        project = Project.from_reply(record_of(event))
        ready_record(project, self.hook.client.project_url(project.name))
        return project.name

    def _fields(self) -> dict[str, Any]:
        """Return the request's body, after looking at what the templates came out as."""
        if bool(self.upload_id) == bool(self.download_link):
            raise ProjectError(
                "A project is made either of an upload session or of a link: upload_id came out as "
                f"{self.upload_id!r}, and download_link is {'set' if self.download_link else 'empty'}."
            )
        given = {
            "upload_id": self.upload_id,
            "download_link": self.download_link,
            "title": self.title,
            "privacy_mode": _privacy_mode(self.privacy_mode),
            "coordinate_system": self.coordinate_system,
        }
        fields = {name: value for name, value in given.items() if value not in (None, "")}
        if twice := sorted(set(fields) & set(self.options or ())):
            raise ProjectError(
                f"options must not hold {', '.join(twice)}: the operator has parameters for it."
            )
        return {**fields, **(self.options or {})}

    def _existing(self, state: TaskState) -> Project | None:
        """Return the project that this session became in an earlier attempt, if it did."""
        name = state.get("project", self._about) or self.upload_id
        if name is None:
            return None
        try:
            project = self.hook.client.get_project(name)
        except NotFoundError:
            return None
        self.log.info("%s became project %s already: nothing is created.", self._about, project.name)
        return project

    def _create(self, fields: Mapping[str, Any], state: TaskState) -> Project:
        if self.upload_id:
            _check_session(
                self.upload_id, self.hook.client.list_files(self.upload_id), _results(self.uploads)
            )
        project = self.hook.client.create_project(fields)
        state.set("project", self._about, value=project.name)
        return project

    @property
    def _about(self) -> str:
        return f"session {self.upload_id}" if self.upload_id else "link"

    def _wait(self, project_name: str) -> None:
        """Return when the project is ready; until then give the slot back."""
        project = self.hook.client.get_project(project_name)
        if project.ready:
            ready_record(project, self.hook.client.project_url(project.name))
            return
        if self.deferrable:
            self.defer(
                trigger=ProjectReadyTrigger(project_name, self.three_sixty_conn_id, self.poll_interval),
                method_name="execute_complete",
                timeout=self.execution_timeout if isinstance(self.execution_timeout, timedelta) else None,
            )
        self.log.info("Project %s: status %d of 100", project_name, project.status)
        reschedule(self.poll_interval)


def _results(uploads: Any) -> list[Mapping[str, Any]] | None:
    """Return what upload tasks returned as a list; None where nothing was given.

    :param uploads: one result, a list, or a lazy sequence of them.
    :raises ProjectError: when it is something else.
    """
    if uploads is None:
        return None
    # A slice: iterating a lazy sequence costs one request per item.
    found = [uploads] if isinstance(uploads, Mapping) else list(uploads[:]) if _is_sequence(uploads) else None
    if found is None or not all(isinstance(result, Mapping) for result in found):
        raise ProjectError(f"uploads must be what the upload tasks returned, not {uploads!r}.")
    return found


def _check_session(
    upload_id: str | XComArg, files: Sequence[FileProgress], uploads: Sequence[Mapping[str, Any]] | None
) -> None:
    """Make sure that a session holds what it should, all of it complete.

    :param upload_id: the session, for the message.
    :param files: what the server lists.
    :param uploads: what upload tasks returned; None accepts whatever is complete.
    :raises ProjectError: when it does not, saying what is missing, incomplete or too much.
    """
    faults = [
        f"{file.name} is not complete ({file.received:,} of {file.total:,} bytes)"
        for file in files
        if not file.complete
    ]
    if not files and not uploads:
        faults.append("it is empty")
    if uploads is not None:
        faults += _differences({file.name: file.total for file in files}, uploads)
    if faults:
        more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise ProjectError(
            f"No project was made of session {upload_id}: {'; '.join(faults[:NAMED])}{more}. Run the "
            "upload tasks again, or clear the session task to start over."
        )


def _differences(held: Mapping[str, int], uploads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how a session differs from what was uploaded: in names and sizes, or in count and bytes."""
    named = {str(result["filename"]): int(result["size"]) for result in uploads if "filename" in result}
    summaries = [result for result in uploads if "filename" not in result]
    faults = [
        f"{name} should have {size:,} bytes and "
        + (f"has {held[name]:,}" if name in held else "is not there")
        for name, size in named.items()
        if held.get(name) != size
    ]
    if not summaries:
        return faults + [
            f"{name} is there and was not uploaded by these tasks" for name in held if name not in named
        ]
    count = len(named) + sum(int(result["files"]) for result in summaries)
    size = sum(named.values()) + sum(int(result["bytes"]) for result in summaries)
    if (len(held), sum(held.values())) != (count, size):
        faults.append(
            f"it holds {len(held):,} files of {sum(held.values()):,} bytes, and {count:,} files of "
            f"{size:,} bytes were uploaded"
        )
    return faults


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _privacy_mode(value: str | int) -> int:
    mode = PRIVACY_MODES.get(str(value).lower(), value)
    if str(mode) not in ("0", "1", "2"):
        raise ProjectError(f'privacy_mode must be "private", "link", "public", 0, 1 or 2, not {value!r}.')
    return int(mode)
