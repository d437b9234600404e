"""Which scans became projects, remembered from run to run where Airflow can keep it.

One key per scan, written by the task that made the project and by nobody else: a list of all that is done
would lose entries when forty mapped tasks add to it. Airflow 3.3 keeps keys with an asset, older ones as a
Variable each, which are read on after an upgrade. Only the task's main thread may use it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable, XComArg

if TYPE_CHECKING:
    from airflow_360.sources import Scan

__all__ = ["SCANS", "DoneScan", "key_of", "lister_of", "memory"]

#: The asset whose state holds the keys. Nothing updates it, so that no DAG is scheduled by it.
ASSET = "airflow_360_scans"
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
        self._stores = _stores(context) if key else []

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


class _Variables:
    """What the state of an asset is from 3.3 on, made of Airflow's variables."""

    def get(self, key: str) -> Any:
        return Variable.get(key, None, True)  # by position: the default's name differs between versions

    def set(self, key: str, value: Any) -> None:
        Variable.set(key, value, description=f"Became a project: {value['path']}", serialize_json=True)


def _stores(context: Any) -> list[Any]:
    """Return what is asked, and of which the first one keeps."""
    return [*(context["asset_state_store"][asset] for asset in memory()), _Variables()]


def memory() -> list[Any]:
    """Return the asset that a task must have among its inlets to remember; none on Airflow before 3.3."""
    from airflow import __version__

    if tuple(int(part) for part in __version__.split(".")[:2]) < (3, 3):
        return []
    from airflow.sdk import Asset

    return [Asset(ASSET)]


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
