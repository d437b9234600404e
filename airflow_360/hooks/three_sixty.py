"""Hook for the 360 API."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_360.exceptions import AuthenticationError, ThreeSixtyError
from airflow_360.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_360.hooks.connection import (
    DEFAULT_CONN_ID,
    connection_settings,
    form_widgets,
)
from airflow_360.hooks.errors import settings_of
from airflow_360.runtime.lineage import Lineage

if TYPE_CHECKING:
    from airflow_360.api.client import ThreeSixtyClient
    from airflow_360.hooks.clients import ConnectionSettings
    from airflow_360.hooks.file_upload import FileUpload
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.hooks.paths import Paths
    from airflow_360.hooks.projects import Projects
    from airflow_360.hooks.uploads import Uploads
    from airflow_360.runtime.task_state import TaskState
    from airflow_360.upload.engine import OnProgress

__all__ = ["ThreeSixtyHook"]

T = TypeVar("T")


class ThreeSixtyHook(BaseHook):
    """A hook for a 360 server.

    :param three_sixty_conn_id: the connection; its host is the server's URL, its password the API key.
    """

    conn_name_attr = "three_sixty_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "three_sixty"
    hook_name = "360 for you"

    def __init__(self, three_sixty_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.three_sixty_conn_id = three_sixty_conn_id
        #: The files that this hook moved, for lineage.
        self.lineage = Lineage(self)

    @cached_property
    def client(self) -> ThreeSixtyClient:
        """Return the synchronous API client; it raises this package's own errors.

        :raises ThreeSixtyError: if the connection has no key, or a field is wrong.
        """
        with settings_of(self.three_sixty_conn_id):
            return self._settings().client()

    @cached_property
    def paths(self) -> Paths:
        """Return the object that opens and lists paths."""
        from airflow_360.hooks.paths import Paths  # the only import of all that reads bytes

        return Paths()

    @cached_property
    def projects(self) -> Projects:
        """Return what creates and polls projects for the operators; in your tasks use ``client``."""
        from airflow_360.hooks.projects import Projects  # the only import of the rules about projects

        return Projects(self)

    @cached_property
    def file_upload(self) -> FileUpload:
        """Return the upload of one file for the operators; in your tasks use :meth:`upload`."""
        from airflow_360.hooks.file_upload import FileUpload  # the only import of all that moves bytes

        return FileUpload(self)

    @cached_property
    def uploads(self) -> Uploads:
        """Return the uploads of several files, or of an archive."""
        from airflow_360.hooks.uploads import Uploads  # and of all that moves several files

        return Uploads(self)

    def with_current_key(self, call: Callable[[ThreeSixtyClient], T]) -> T:
        """Call the API, and call it again if the key was replaced during the call.

        A long upload may outlive its key: after a 401 the connection is read again.

        :param call: the function to call; it must continue from the server's number.
        :raises AuthenticationError: if the key is refused and the connection still has the same key.
        """
        used = self.client
        try:
            return call(used)
        except AuthenticationError as error:
            if error.status != 401:
                raise
            del self.client
            if self.client.has_key_of(used):
                raise
            self.log.warning(
                "The API key of connection %r was replaced. Continuing with the new one.",
                self.three_sixty_conn_id,
            )
            return call(self.client)

    def get_conn(self) -> ThreeSixtyClient:
        """Return the client; all hooks of Airflow have this method."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Check the server and the key, without creating anything on the server.

        :returns: whether an upload would work, and a message for people, which never contains the key.
        """
        try:
            with settings_of(self.three_sixty_conn_id):
                settings = self._settings()
                client = settings.client_without_retries()
            return settings.check(client)
        except ThreeSixtyError as error:
            return False, str(error)

    def upload(
        self,
        upload_id: str,
        path: AnyPath,
        filename: str | None = None,
        chunk_size: int | None = None,
        aws_conn_id: str | None = "aws_default",
        on_progress: OnProgress | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
        modified: float | None = None,
        is_first_attempt: bool = False,
        state: TaskState | None = None,
        inspect: str = "warn",
        manifest: bool | str | None = None,
    ) -> dict[str, Any]:
        """Upload one file into a session, or resume its upload; you can also call this inside a ``@task``.

        :param upload_id: the session.
        :param path: the file: local, ``s3://`` or any ``scheme://`` that Airflow's object storage opens.
        :param filename: its name on the server; by default that of the path. It is flattened.
        :param chunk_size: bytes of a chunk; by default it adapts to the line, so one takes a few seconds.
        :param aws_conn_id: the connection for ``s3://`` paths that do not name one.
        :param on_progress: called with the server's numbers; by default they are logged every few seconds.
        :param size: the size in bytes that the file must have, from a listing.
        :param etag: the ETag that it must have.
        :param modified: the modification time that it must have, in seconds since the epoch.
        :param is_first_attempt: True to send a file of one chunk without asking first what the server has.
        :param state: the task's saved state; used to verify that the source has not changed since the first
            attempt.
        :param inspect: ``"warn"`` logs if the file is empty, truncated or damaged, ``"fail"`` fails
            before the first byte if it is, ``"off"`` does not inspect.
        :param manifest: True writes name, size and SHA-256 of the sent file to the log; a path writes them to
            a file, see :class:`~airflow_360.operators.upload.UploadFileOperator`.
        :returns: ``{filename, path, size}``; ``filename`` is the file's name on the server. An inspection may
            add ``coordinate_system``, ``damaged`` and ``doubtful``.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowException: if a retry may help.
        """
        return self.file_upload.file(
            upload_id,
            path,
            filename,
            chunk_size,
            aws_conn_id,
            on_progress,
            size=size,
            etag=etag,
            modified=modified,
            is_first_attempt=is_first_attempt,
            state=state,
            inspect=inspect,
            manifest=manifest,
        )

    def _settings(self) -> ConnectionSettings:
        return connection_settings(self.get_connection(self.three_sixty_conn_id))

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow before 3.2."""
        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows its standard fields, for Airflow before 3.2, in its spelling."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}
