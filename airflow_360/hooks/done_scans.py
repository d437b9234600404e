"""Which scans became projects, remembered from run to run where Airflow can keep it.

One key per scan, written by the task that made the project and by nobody else: a list of all that is done
would lose entries when forty mapped tasks add to it. Airflow 3.3 keeps keys with an asset, older ones as a
Variable each, which are read on after an upgrade. Only the task's main thread may use it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XComArg

from airflow_360.hooks.lasting_store import lasting_stores

if TYPE_CHECKING:
    from airflow_360.sources import Scan

__all__ = ["SCANS", "DoneScan", "key_of", "lister_of"]

#: The XCom of a lister that holds the key of each path that it handed out.
SCANS = "scans"


class DoneScan:
    """Ask and say whether a scan became a project.

    :param context: the task's context.
    :param key: what :func:`key_of` returned; with None nothing is known and nothing is kept.
    """

    def __init__(self, context: Any, key: str | None) -> None:
        self._key = key
        self._run = f"{context['ti'].dag_id} {context['ti'].run_id}" if key else ""
        self._stores = lasting_stores(context, "A scan that became a project") if key else []

    def made_by_another_run(self) -> str | None:
        """Return which project another run made of the scan as it is, as the end of a sentence, or None.

        What the own run made does not count: who clears a run wants it done again.
        """
        record = next(filter(None, (store.get(self._key) for store in self._stores)), None)
        if not record or record["run"] == self._run:
            return None
        return f"became project {record['project']} in run {record['run']}"

    def add(self, path: str, project_name: str) -> None:
        """Keep that the scan became a project.

        :param path: the scan's folder, for people who look at the record.
        :param project_name: the project.
        """
        record = {"path": path, "project": project_name, "run": self._run}
        for store in self._stores[:1]:
            store.set(self._key, record)


def key_of(three_sixty_conn_id: str, pattern: str | None, scan: Scan) -> str:
    """Return what a scan is remembered by: where its project goes, and the folder with what is in it.

    :param three_sixty_conn_id: the connection, and so the account.
    :param pattern: the lister's pattern; two listers of one folder are about different files.
    :param scan: the folder.
    """
    said = "\n".join([three_sixty_conn_id, pattern or "", scan.path, scan.fingerprint])
    return f"airflow_360_scan_{hashlib.sha256(said.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def lister_of(path: Any) -> str | None:
    """Return the id of the task that hands out a path and wants to know what becomes of it, or None.

    :param path: what a DAG's author passed: the output of a lister, mapped over or not.
    """
    for operator, _ in XComArg.iter_xcom_references(path):
        if getattr(operator, "only_new", False):
            return str(operator.task_id)
    return None
