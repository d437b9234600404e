"""The history of scans that became projects, shared by all runs.

Each scan has its own key, which only the task that creates its project writes: a single list of all scans
would lose entries if forty mapped tasks added to it. Airflow 3.3 and newer save the keys with an asset, older
versions save each key as a Variable. After an upgrade the Variables are still read. Only the task's main
thread may use it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XComArg

from airflow_360.runtime.lasting_store import lasting_stores

if TYPE_CHECKING:
    from airflow_360.sources import Scan

__all__ = ["SCAN_KEYS", "ScanRecord", "listing_task_id", "scan_key"]

#: The XCom of a listing task that contains the key of each path that it returned.
SCAN_KEYS = "scans"


class ScanRecord:
    """The record that a scan became a project.

    :param context: the task's context.
    :param key: the result of :func:`scan_key`; with None nothing is read and nothing is saved.
    """

    def __init__(self, context: Any, key: str | None) -> None:
        self._key = key
        self._run = f"{context['ti'].dag_id} {context['ti'].run_id}" if key else ""
        self._stores = lasting_stores(context, "A scan that became a project") if key else []

    def made_by_another_run(self) -> str | None:
        """Return a clause that names the project of the unchanged scan from another run, or None.

        A project of the same run does not count: if you clear a run, it processes its scans again.
        """
        record = next(filter(None, (store.get(self._key) for store in self._stores)), None)
        if not record or record["run"] == self._run:
            return None
        return f"became project {record['project']} in run {record['run']}"

    def add(self, path: str, project_name: str) -> None:
        """Record that the scan became a project.

        :param path: the scan's folder, for people who read the record.
        :param project_name: the project.
        """
        record = {"path": path, "project": project_name, "run": self._run}
        for store in self._stores[:1]:
            store.set(self._key, record)


def scan_key(three_sixty_conn_id: str, pattern: str | None, scan: Scan) -> str:
    """Return the key of a scan's record: a digest of connection, pattern, folder and content.

    :param three_sixty_conn_id: the connection, which stands for the account.
    :param pattern: the listing task's pattern; two listing tasks may select different files of one folder.
    :param scan: the folder.
    """
    said = "\n".join([three_sixty_conn_id, pattern or "", scan.path, scan.fingerprint])
    return f"airflow_360_scan_{hashlib.sha256(said.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def listing_task_id(path: Any) -> str | None:
    """Return the id of the listing task with ``only_new`` that a path comes from, or None.

    :param path: the value in the DAG file: the output of a listing task, mapped over or not.
    """
    for operator, _ in XComArg.iter_xcom_references(path):
        if getattr(operator, "only_new", False):
            return str(operator.task_id)
    return None
