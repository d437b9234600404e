"""A nightly increment: new scans, settled scans, and the records of finished scans."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException

from airflow_360.emulator import Emulator
from airflow_360.operators.project import CreateProjectOperator
from airflow_360.operators.upload import ListScansOperator
from airflow_360.runtime import lasting_store, scan_records
from airflow_360.sources import Scan
from airflow_360.task_groups import scan_to_project
from tests.airflow.conftest import StateStore, TaskInstance


class Variables(StateStore):
    """Airflow's variables, as far as they are used."""

    def get(self, key: str, default: Any = None, deserialize_json: bool = False) -> Any:
        assert deserialize_json
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any, description: str = "", serialize_json: bool = False) -> None:
        assert serialize_json
        assert description
        self[key] = json.dumps(value)


class Nights:
    """One DAG over a drop folder, with tasks that the test runs itself.

    :param folder: the drop folder.
    :param stores: the stores that Airflow passes to tasks, or None if it has none.
    :param dag_id: the DAG.
    :param conn_id: the connection of the projects.
    :param more: arguments of the listing task.
    """

    def __init__(
        self,
        folder: Path,
        stores: Any,
        dag_id: str = "nightly",
        conn_id: str = "three_sixty_default",
        **more: Any,
    ) -> None:
        self.folder = folder
        self.stores = stores
        self.made = 0
        with DAG(dag_id, schedule=None) as self.dag:
            self.scans = ListScansOperator(task_id="list", path=str(folder), only_new=True, **more)
            scan_to_project.partial(three_sixty_conn_id=conn_id).expand(path=self.scans.output)
        self.handed_out: dict[str, Any] = {}

    def put(self, scan: str, content: bytes = b"scan") -> None:
        (self.folder / scan / "sub").mkdir(parents=True, exist_ok=True)
        (self.folder / scan / "sub" / "a.e57").write_bytes(content)

    def context(self, run: str) -> Any:
        ti: Any = TaskInstance()
        ti.dag_id, ti.run_id = self.dag.dag_id, run
        ti.xcom_pull = lambda task_ids, key, map_indexes: self.handed_out.get(f"{run} {task_ids} {key}")
        return {"ti": ti, "asset_state_store": self.stores}

    def lists(self, run: str) -> list[str]:
        """Return the names of the scans that a run hands out."""
        given = self.context(run)
        paths = self.scans.execute(given)
        self.handed_out[f"{run} list scans"] = given["ti"].pushed["scans"]
        return [path.rpartition("/")[2] for path in paths]

    def keys(self, run: str) -> list[str]:
        """Return the keys of the scans that a run returned."""
        return list(self.handed_out[f"{run} list scans"].values())

    def looks(self) -> list[Scan]:
        """Return the snapshots of the folders."""
        return list(
            self.scans.hook.paths.snapshot_scans([str(path) for path in sorted(self.folder.iterdir())])
        )

    def make(self, run: str, scan: str) -> str:
        """Create one scan's project, like the task of a run that is mapped to it."""
        self.made += 1  # its own session
        link = f"https://example.com/{scan}.e57?{self.made}"
        maker = CreateProjectOperator(task_id="create", download_link=link, path=str(self.folder / scan))
        maker.listing_task = getattr(self.dag.get_task("scan_to_project.create_project"), "listing_task")  # noqa: B009
        given = self.context(run)
        given["ti"].map_index = self.made  # its own task
        return maker.execute(given)


@pytest.fixture(params=["asset", "variables"])
def stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both places that Airflow may remember in; the real ones are in tests/system/test_only_new.py."""
    monkeypatch.setattr(lasting_store, "Variable", Variables())
    if request.param == "asset":
        if not lasting_store.lasting_inlets():
            pytest.skip("the state of assets came with Airflow 3.3")
        return {lasting_store.lasting_inlets()[0]: StateStore()}
    monkeypatch.setattr(lasting_store, "lasting_inlets", list)
    return None


@pytest.fixture
def nights(tmp_path: Path, stores: Any, emulator: Emulator) -> Nights:
    return Nights(tmp_path, stores)


def test_each_scan_once(nights: Nights) -> None:
    """A scan with a project of one run is not returned to a later run; a scan without one is."""
    nights.put("bridge")
    nights.put("tunnel")
    assert nights.lists("monday") == ["bridge", "tunnel"]
    nights.make("monday", "bridge")
    assert nights.lists("tuesday") == ["tunnel"]
    nights.make("tuesday", "tunnel")
    with pytest.raises(AirflowSkipException, match="No new scans in"):
        nights.lists("wednesday")


def test_siblings_do_not_undo_each_other(nights: Nights) -> None:
    """Records that mapped tasks write at the same time are all saved, because each has its own key."""
    for number in range(5):
        nights.put(str(number))
    nights.lists("monday")
    begun = [scan_records.ScanRecord(nights.context("monday"), key) for key in nights.keys("monday")]
    assert [scan.made_by_another_run() for scan in begun] == [None] * 5
    for scan in reversed(begun):
        scan.add("/scans", "project")
    with pytest.raises(AirflowSkipException):
        nights.lists("tuesday")


def test_cleared_run(nights: Nights, emulator: Emulator) -> None:
    """A cleared run returns its own scans again and those that are new, not those of a later run."""
    nights.put("bridge")
    nights.put("tunnel")
    nights.lists("monday")
    nights.make("monday", "bridge")
    nights.lists("tuesday")
    nights.make("tuesday", "tunnel")
    nights.put("weir")
    assert nights.lists("monday") == ["bridge", "weir"]
    nights.make("monday", "bridge")
    assert nights.lists("monday") == ["bridge", "weir"]
    assert len(emulator.store.projects) == 3


def test_task_cleared_late(nights: Nights, emulator: Emulator) -> None:
    """A failed project task creates no second project if it is cleared after a later run's success."""
    nights.put("bridge")
    nights.lists("monday")
    emulator.faults.add({"on": "POST /projects", "do": "status", "status": 402})
    with pytest.raises(AirflowFailException):
        nights.make("monday", "bridge")
    nights.lists("tuesday")
    nights.make("tuesday", "bridge")
    with pytest.raises(AirflowSkipException, match="in run nightly tuesday"):
        nights.make("monday", "bridge")
    assert len(emulator.store.projects) == 1


def test_backfill(nights: Nights, emulator: Emulator) -> None:
    """A backfill of earlier dates processes each open scan once, though all its dates list it."""
    nights.put("bridge")
    nights.lists("scheduled__2026-06-03")
    nights.make("scheduled__2026-06-03", "bridge")
    nights.put("tunnel")
    dates = ["backfill__2026-06-01", "backfill__2026-06-02"]
    assert [nights.lists(date) for date in dates] == [["tunnel"], ["tunnel"]]
    nights.make(dates[1], "tunnel")
    with pytest.raises(AirflowSkipException, match=f"in run nightly {dates[1]}"):
        nights.make(dates[0], "tunnel")
    assert len(emulator.store.projects) == 2


def test_backfill_of_dated_folders(tmp_path: Path, stores: Any, emulator: Emulator) -> None:
    """With a folder for each date, a backfill processes the date that never ran, and not the other one."""
    for date in ("2026-06-01", "2026-06-02"):
        Nights(tmp_path / date, stores).put("bridge")
    nights = Nights(tmp_path / "2026-06-02", stores)
    nights.lists("scheduled__2026-06-02")
    nights.make("scheduled__2026-06-02", "bridge")
    with pytest.raises(AirflowSkipException):
        nights.lists("backfill__2026-06-02")
    assert Nights(tmp_path / "2026-06-01", stores).lists("backfill__2026-06-01") == ["bridge"]


@pytest.mark.skipif(not lasting_store.lasting_inlets(), reason="the state of assets came with Airflow 3.3")
def test_after_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """Scans that an older Airflow recorded as variables are done after an upgrade, too."""
    monkeypatch.setattr(lasting_store, "Variable", Variables())
    with monkeypatch.context() as older:
        older.setattr(lasting_store, "lasting_inlets", list)
        nights = Nights(tmp_path, None)
        nights.put("bridge")
        nights.lists("monday")
        nights.make("monday", "bridge")
    nights.stores = {lasting_store.lasting_inlets()[0]: StateStore()}
    nights.put("tunnel")
    assert nights.lists("tuesday") == ["tunnel"]


def test_two_dags(nights: Nights, tmp_path: Path, emulator: Emulator) -> None:
    """Two DAGs over one folder share the records, also if runs with the same name listed a scan in both."""
    weekly = Nights(tmp_path, nights.stores, dag_id="weekly")
    for scan in ("bridge", "tunnel"):
        nights.put(scan)
    assert nights.lists("monday") == weekly.lists("monday") == ["bridge", "tunnel"]
    nights.make("monday", "bridge")
    with pytest.raises(AirflowSkipException, match="in run nightly monday"):
        weekly.make("monday", "bridge")
    weekly.make("monday", "tunnel")
    for dag in (nights, weekly):
        with pytest.raises(AirflowSkipException):
            dag.lists("tuesday")
    assert len(emulator.store.projects) == 2


def test_renamed_scan(nights: Nights) -> None:
    """A folder that is renamed is another scan; under its old name it is done."""
    nights.put("bridge")
    nights.lists("monday")
    nights.make("monday", "bridge")
    (nights.folder / "bridge").rename(nights.folder / "old bridge")
    assert nights.lists("tuesday") == ["old bridge"]
    (nights.folder / "old bridge").rename(nights.folder / "bridge")
    with pytest.raises(AirflowSkipException):
        nights.lists("wednesday")


def test_changed_scan(nights: Nights) -> None:
    """A scan whose content changed since is new; once it is a project too, neither content is."""
    nights.put("bridge")
    nights.lists("monday")
    nights.make("monday", "bridge")
    nights.put("bridge", b"more of it")
    assert nights.lists("tuesday") == ["bridge"]
    nights.make("tuesday", "bridge")
    with pytest.raises(AirflowSkipException):
        nights.lists("wednesday")


def test_made_meanwhile(nights: Nights, emulator: Emulator) -> None:
    """If two runs list the same scan, the second one creates no project of it, and logs the reason."""
    nights.put("bridge")
    nights.lists("monday")
    nights.lists("tuesday")
    name = nights.make("monday", "bridge")
    with pytest.raises(AirflowSkipException, match=f"became project {name} in run nightly monday"):
        nights.make("tuesday", "bridge")
    assert len(emulator.store.projects) == 1


def test_nothing_is_recorded_without_a_project(nights: Nights, emulator: Emulator) -> None:
    """A scan whose project was refused stays new."""
    nights.put("bridge")
    nights.lists("monday")
    emulator.faults.add({"on": "POST /projects", "do": "status", "status": 402})
    with pytest.raises(AirflowFailException):
        nights.make("monday", "bridge")
    assert nights.lists("tuesday") == ["bridge"]


def test_unknown_path(nights: Nights, capfd: pytest.CaptureFixture[str]) -> None:
    """A project task whose path was not listed creates its project, records nothing, and logs this."""
    nights.put("bridge")
    nights.make("monday", "bridge")
    assert "it is not recorded as done" in capfd.readouterr().out
    assert nights.lists("tuesday") == ["bridge"]


def test_more_than_airflow_maps(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more new scans than Airflow maps the first are handed out, and the rest on a later night."""
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    for name in ("a", "b", "c"):
        nights.put(name)
    assert nights.lists("monday") == ["a", "b"]
    for name in ("a", "b"):
        nights.make("monday", name)
    assert nights.lists("tuesday") == ["c"]


def test_another_account_or_pattern(nights: Nights, tmp_path: Path) -> None:
    """The scans of one connection are new for another, and those of one pattern are new for another."""
    nights.put("bridge")
    nights.lists("monday")
    nights.make("monday", "bridge")
    for more in ({"three_sixty_conn_id": "other"}, {"pattern": "*.e57"}):
        conn_id = more.get("three_sixty_conn_id", "three_sixty_default")
        assert Nights(tmp_path, nights.stores, conn_id=conn_id, **more).lists("tuesday") == ["bridge"]


def test_nobody_records(tmp_path: Path) -> None:
    """A DAG without a task that records scans fails before a byte is sent, with the next step."""
    with DAG("forgetful", schedule=None):
        scans = ListScansOperator(task_id="list", path=str(tmp_path), only_new=True)
        scan_to_project(path="/elsewhere")
    with pytest.raises(AirflowFailException, match=r"scan_to_project\.expand\(path=list\.output\)"):
        scans.execute({})


def test_two_connections(tmp_path: Path) -> None:
    """A lister that remembers for another connection than the projects' is an error that names both tasks."""
    nights = Nights(tmp_path, None, three_sixty_conn_id="other")
    with pytest.raises(AirflowFailException, match="give list the three_sixty_conn_id='three_sixty_default'"):
        nights.scans.execute({})


def test_who_is_told_of_the_memory(tmp_path: Path) -> None:
    """Tasks that save something have the asset that keeps it, as an inlet, which schedules nothing."""
    nights = Nights(tmp_path, None)
    holders = {task.task_id for task in nights.dag.tasks if task.inlets or task.outlets}
    sessions = {"scan_to_project.create_session", "scan_to_project.create_project"}
    assert holders == ({"list", *sessions} if lasting_store.lasting_inlets() else set())
    with DAG("plain", schedule=None) as plain:
        scan_to_project.expand(path=ListScansOperator(task_id="list", path=str(tmp_path)).output)
    holders = {task.task_id for task in plain.tasks if task.inlets or task.outlets}
    assert holders == (sessions if lasting_store.lasting_inlets() else set())


def dated(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() + seconds, time.time() + seconds))


def test_settle_seconds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder with any file younger than the time to settle is left out, and the log names it."""
    for scan, ages in {"old": (-700, -5000), "young": (-5000, -60), "ahead": (90000,), "soon": (50,)}.items():
        (tmp_path / scan).mkdir()
        for number, age in enumerate(ages):
            (tmp_path / scan / f"{number}.e57").write_bytes(b"x")
            dated(tmp_path / scan / f"{number}.e57", age)
    operator = ListScansOperator(task_id="list", path=str(tmp_path), settle_seconds=600)
    given: Any = {"ti": TaskInstance()}
    # If a camera's clock is wrong, its scans must not be delayed for ever.
    assert operator.execute(given) == [str(tmp_path / "ahead"), str(tmp_path / "old")]
    assert (
        f"{tmp_path / 'young'} is skipped in this run: a file in it was written 60 s ago."
        in capfd.readouterr().out
    )
    operator.settle_seconds = 0
    assert len(operator.execute(given)) == 4


def test_settle_seconds_of_hidden_files(tmp_path: Path) -> None:
    """System and hidden files that were just written delay no scan, and make no scan new."""
    nights = Nights(tmp_path, None, settle_seconds=600)
    nights.put("bridge")
    dated(tmp_path / "bridge/sub/a.e57", -700)
    (before,) = nights.looks()
    (tmp_path / "bridge/.DS_Store").write_bytes(b"x")
    (after,) = nights.looks()
    assert after.fingerprint == before.fingerprint
    assert after.age == pytest.approx(700, abs=5)
