"""A task group with the whole pipeline, which can be mapped over scans."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf, task_group

from airflow_360.hooks.connection import DEFAULT_CONN_ID
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import CreateUploadSessionOperator, UploadFilesOperator
from airflow_360.sensors.project import ProjectReadySensor

if TYPE_CHECKING:
    from airflow_360.hooks.parameters import AnyPath
    from airflow_360.sources.listing import Globs

__all__ = ["scan_to_project"]


@task_group(group_id="scan_to_project")
def scan_to_project(
    path: AnyPath,
    title: str | None = None,
    pattern: Globs = None,
    exclude: Globs = None,
    recursive: bool = True,
    follow_links: bool = False,
    names: str = "path",
    archive: str | None = None,
    parallel: int = 4,
    chunk_size: int | None = None,
    manifest: bool | str | None = None,
    privacy_mode: str | int = "private",
    coordinate_system: str | None = None,
    options: Mapping[str, Any] | None = None,
    on_empty: str = "skip",
    inspect: str = "warn",
    fail_on_errors: bool = False,
    stall_timeout: float | timedelta | None = None,
    deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
    poke_interval: float | timedelta = 60.0,
    timeout: float | timedelta | None = None,
    pool: str | None = None,
    three_sixty_conn_id: str = DEFAULT_CONN_ID,
    aws_conn_id: str | None = "aws_default",
    outlets: Any = None,
) -> Any:
    """Upload everything below a path into one session, make it one project, and wait until it is ready.

    Call it, or map it: ``scan_to_project.expand(path=scans.output)``. Its output is the project's record.
    One task uploads the whole folder, because Airflow cannot map a task inside a mapped task group. If there
    is no file to upload, no session is created.

    :param path: the scan: a folder, a prefix, a glob or a single file; a string, a ``Path`` or an
        ``ObjectStoragePath``.
    :param title: the project's title; by default the last part of the path.
    :param pattern: a glob or a list of globs for the files to upload, see
        :class:`~airflow_360.operators.upload.ListFilesOperator`; None takes all.
    :param exclude: a glob or a list of globs for files to leave out.
    :param recursive: whether to enter subfolders. If not, a warning counts the files in them.
    :param follow_links: whether to follow links that lead out of the folder, see
        :class:`~airflow_360.operators.upload.ListFilesOperator`. By default the task fails and names them.
    :param names: ``"path"`` joins subfolders into the name, so that two folders can contain files with the
        same name; ``"basename"`` takes the last part.
    :param archive: a file name that ends in ``.zip``, to send everything as one archive with its folders, see
        :class:`~airflow_360.operators.upload.UploadFilesOperator`.
    :param parallel: the number of files to upload at a time.
    :param chunk_size: bytes of a chunk; by default it adapts to the speed of the network.
    :param manifest: True, or a folder's path that ends with ``/``, writes a list of the sent files with their
        SHA-256, see :class:`~airflow_360.operators.upload.UploadFilesOperator`.
    :param privacy_mode: see :class:`~airflow_360.operators.project.CreateProjectOperator`.
    :param coordinate_system: for example ``"EPSG:25832"``; ``"auto"`` takes the one that the files state, see
        :class:`~airflow_360.operators.project.CreateProjectOperator`.
    :param options: any other fields of the server's API.
    :param on_empty: ``"skip"`` skips all tasks if there is no file to upload; ``"fail"`` fails.
    :param inspect: ``"warn"``, ``"fail"`` or ``"off"``, see
        :class:`~airflow_360.operators.upload.UploadFilesOperator`.
    :param fail_on_errors: whether a ready project with processing errors is a failure.
    :param stall_timeout: seconds or a timedelta for which the status may stay the same; off by default, see
        :class:`~airflow_360.sensors.project.ProjectReadySensor`.
    :param deferrable: whether to wait in the triggerer; the default is Airflow's ``default_deferrable``.
    :param poke_interval: seconds or a timedelta between two polls.
    :param timeout: seconds or a timedelta after which the wait fails; with None Airflow's default.
    :param pool: the pool in which all tasks of the group take a slot; with None Airflow's default.
    :param three_sixty_conn_id: the connection to the server.
    :param aws_conn_id: the connection for ``s3://`` paths that name none themselves.
    :param outlets: an asset or an alias, or a list of them, whose event names the ready project.
    """
    if coordinate_system == "auto" and inspect == "off":
        raise ValueError('coordinate_system="auto" needs the inspection: set inspect to "warn" or "fail".')
    shared: dict[str, Any] = {"three_sixty_conn_id": three_sixty_conn_id, "deferrable": deferrable}
    if pool is not None:
        shared["pool"] = pool
    files: dict[str, Any] = {
        "path": path,
        "pattern": pattern,
        "exclude": exclude,
        "recursive": recursive,
        "follow_links": follow_links,
        "on_empty": on_empty,
        "aws_conn_id": aws_conn_id,
    }
    # An archive always contains the subfolders.
    session_files = {**files, "recursive": True} if archive is not None else files
    session = CreateUploadSessionOperator(task_id="create_session", **session_files, **shared)
    uploads = UploadFilesOperator(
        task_id="upload",
        upload_id=session.output,
        names=names,
        archive=archive,
        parallel=parallel,
        chunk_size=chunk_size,
        inspect=inspect,
        manifest=manifest,
        **files,
        **shared,
    )
    project = CreateProjectOperator(
        task_id="create_project",
        upload_id=session.output,
        uploads=uploads.output,
        title=title,
        path=path,
        privacy_mode=privacy_mode,
        coordinate_system=coordinate_system,
        options=options,
        **shared,
    )
    ready = ProjectReadySensor(
        task_id="ready",
        project_name=project.output,
        fail_on_errors=fail_on_errors,
        stall_timeout=stall_timeout,
        uploads=uploads.output,
        outlets=outlets,
        poke_interval=poke_interval,
        timeout=conf.getfloat("sensors", "default_timeout") if timeout is None else timeout,
        **shared,
    )
    return ready.output
