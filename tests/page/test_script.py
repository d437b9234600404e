"""The page's display and requests, also if Airflow answers with errors."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_360.operators.upload import UploadFilesOperator
from tests.page.conftest import OPERATORS, TAG, FakeAirflow, Shown

pytestmark = pytest.mark.long

ADDRESS = "https://360.example/projects/town-hall"
PROGRESS = "state-store/360 progress"
REQUEST = "**/api/v2/**"


def progress(received: int, size: int) -> dict[str, Any]:
    """The value that an upload saves in the task state store."""
    percent = 100 * received // size
    more = {"percent": percent, "rate": 10, "seconds_left": 6, "resumed_from": 0}
    return {"value": {"received": received, "size": size, **more}}


def test_an_upload_has_a_bar_and_the_page_polls_again(shown: Shown, airflow: FakeAirflow) -> None:
    """An upload has a bar with its name and progress, and the page polls again by itself."""
    airflow.task("upload", "running", 0, rendered_fields={"filename": "roof.laz", "size": 100})
    airflow.task("upload", None, 1, rendered_map_index="1")
    airflow.known[f"upload/{PROGRESS}"] = progress(43, 100)
    shown.open()
    bar = shown.page.get_by_role("progressbar", name="roof.laz")
    assert bar.get_attribute("aria-valuenow") == "43"
    assert "43 bytes of 100 bytes (43 %)" in shown.row("roof.laz").inner_text()
    airflow.known[f"upload/{PROGRESS}"] = progress(90, 100)
    shown.later(5)
    assert bar.get_attribute("aria-valuenow") == "90"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (403, "You may not see these tasks."),
        (404, "There is no such run, or you may not see it."),
        (503, "Airflow answered 503. Trying again."),
        ("nothing", "Airflow does not answer. Trying again."),
        ("page", "You are signed out. Load this page again to sign in."),
    ],
)
@pytest.mark.parametrize("run", ["night", ""], ids=["a run", "the latest runs"])
def test_a_refusal_is_shown_until_its_cause_is_gone(
    shown: Shown, airflow: FakeAirflow, trouble: int | str, said: str, run: str
) -> None:
    """A refusal by Airflow, or by a proxy, is shown in words, and disappears with its cause."""
    airflow.task("upload", "running")
    airflow.trouble = trouble
    shown.open(run=run)
    assert said in shown.alert.inner_text()
    assert "Loading" not in shown.text()
    airflow.trouble = None
    shown.later(10)
    assert shown.alert.count() == 0
    assert ("upload" if run else "No run that you may see") in shown.text()


def test_a_signed_out_user_is_told_so(shown: Shown, airflow: FakeAirflow) -> None:
    """A signed-out user is told so, the page polls less and less often, and continues after the sign-in."""
    airflow.task("upload", "running", rendered_fields={"filename": "roof.laz"})
    shown.open()
    live = shown.page.get_by_text("Live", exact=True)
    assert live.is_visible()
    airflow.trouble = 401
    before = len(airflow.asked)
    shown.later(60)
    assert "You are signed out" in shown.alert.inner_text()
    assert not live.is_visible()
    assert 1 < len(airflow.asked) - before <= 4
    airflow.trouble = None
    airflow.task("upload", "running", 1, rendered_fields={"filename": "garden.las"})
    shown.later(60)
    assert shown.alert.count() == 0
    assert live.is_visible()
    assert shown.row("garden.las").is_visible()


@pytest.mark.parametrize(("status", "said"), [(500, "Airflow answered 500"), (401, "You are signed out")])
def test_a_part_fails(shown: Shown, airflow: FakeAirflow, status: int, said: str) -> None:
    """If one task cannot be read, the others are shown, and it is requested again, also after the run."""
    airflow.state = "failed"
    airflow.task("upload", "failed", 0, rendered_fields={"filename": "roof.laz"})
    airflow.task("upload_folder", "failed", rendered_fields={"path": "/scans/garden"})
    airflow.known[f"upload_folder/{PROGRESS}"] = status
    shown.open()
    assert said in shown.alert.inner_text()
    assert shown.row("roof.laz").is_visible()
    assert shown.row("garden").is_visible()
    airflow.known[f"upload_folder/{PROGRESS}"] = progress(43, 100)
    shown.later(10)
    assert shown.alert.count() == 0
    assert "Stopped at 43 bytes of 100 bytes" in shown.row("garden").inner_text()


def test_an_answer_that_never_comes(shown: Shown, airflow: FakeAirflow) -> None:
    """A request that Airflow leaves open is given up, and made again later."""
    shown.page.add_init_script(
        """const real = AbortSignal.timeout.bind(AbortSignal);
        window.faster = 100;
        AbortSignal.timeout = (ms) => real(ms / window.faster);"""
    )
    airflow.task("upload", "running", rendered_fields={"filename": "roof.laz"})
    airflow.open.clear()
    shown.begin()
    shown.alert.get_by_text("Airflow does not answer").wait_for()
    shown.settle()
    airflow.open.set()
    shown.page.evaluate("window.faster = 1")  # a busy machine may need longer than the shortened time
    shown.later(10)
    assert shown.row("roof.laz").is_visible()


def test_a_hidden_page_sends_no_requests(shown: Shown, airflow: FakeAirflow) -> None:
    """Behind another tab the page sends no requests, and when it is shown again it polls immediately."""
    airflow.task("upload", "running")
    shown.open()
    shown.hide(True)
    before = airflow.polls()
    shown.later(60)
    assert airflow.polls() == before
    shown.hide(False)
    shown.settle()
    assert airflow.polls() == before + 1


def test_one_look_at_a_time(shown: Shown, airflow: FakeAirflow) -> None:
    """While Airflow is slow to answer, the page sends no further requests, after any action of the user."""
    airflow.task("upload", "running")
    shown.open()
    asked: list[str] = []  # by the script; the browser itself delays a second request for the same URL
    shown.page.on("request", lambda request: asked.append(request.url))
    airflow.open.clear()
    with shown.page.expect_request(REQUEST):
        for _ in range(5):
            shown.hide(True)
            shown.hide(False)
            shown.page.clock.run_for(4000)
    shown.page.wait_for_timeout(300)
    assert len(asked) == 1
    airflow.open.set()
    shown.settle()


def test_a_page_that_is_left_sends_no_requests(shown: Shown, airflow: FakeAirflow) -> None:
    """A page that is left during a request sends no further ones, and raises no error."""
    failed: list[str] = []
    shown.page.on("pageerror", lambda error: failed.append(error.message))
    airflow.task("upload", "running")
    airflow.open.clear()
    with shown.page.expect_request(REQUEST):
        shown.begin()
    shown.page.evaluate("tag => document.querySelector(tag).remove()", TAG)
    with shown.page.expect_response(REQUEST):
        airflow.open.set()
    before = 0
    while before < len(airflow.asked):  # the poll in flight consists of several requests
        before = len(airflow.asked)
        shown.page.wait_for_timeout(300)
    shown.page.clock.run_for(20_000)
    shown.page.wait_for_timeout(100)
    assert len(airflow.asked) == before
    assert not failed


def test_a_page_that_is_put_back_polls_immediately(shown: Shown, airflow: FakeAirflow) -> None:
    """A page that is removed and put back during a request polls immediately."""
    airflow.task("upload", "running", rendered_fields={"filename": "roof.laz"})
    airflow.open.clear()
    shown.begin()
    shown.page.evaluate(
        "tag => { const node = document.querySelector(tag); node.remove(); document.body.append(node); }", TAG
    )
    airflow.open.set()
    shown.row("roof.laz").wait_for()


def test_smaller_pages(shown: Shown, airflow: FakeAirflow) -> None:
    """If Airflow returns fewer task instances per page, the script reads all pages."""
    airflow.largest_page = 40
    for index in range(130):
        airflow.task("upload", "queued", index, rendered_map_index=str(index))
    shown.open()
    assert "1–25 of 130" in shown.text()
    shown.page.get_by_role("button", name="Next page").first.click()
    assert "26–50 of 130" in shown.text()


def test_over_at_once(shown: Shown, airflow: FakeAirflow) -> None:
    """A run of a thousand finished uploads is done after the first poll, without a request for each."""
    airflow.state = "success"
    for index in range(1000):
        fields = {"filename": f"{index}.e57", "size": 1000}
        airflow.task("upload", "success", index, rendered_fields=fields)
    shown.open()
    assert "This run is over" in shown.text()
    assert "All uploaded · 976.6 KiB" in shown.text()
    assert len(airflow.asked) < 20


def test_mapped_scans_are_one_row_per_project(shown: Shown, airflow: FakeAirflow) -> None:
    """Of forty mapped scans each project is one row, together with the task that waits for it."""
    group = "scan_to_project"
    airflow.tasks = {f"{group}.{name}": operator for name, operator in OPERATORS.items()}
    for index in range(40):
        fields = {"title": f"Scan {index:02}"}
        airflow.task(f"{group}.create_project", "success", index, rendered_fields=fields)
        airflow.task(f"{group}.ready", "deferred", index)
    airflow.known[f"{group}.ready/logs/1"] = {"content": [{"event": "Project x: status 42 of 100"}]}
    shown.open()
    rows = shown.row("Scan ")
    assert rows.count() == 25
    assert "1–25 of 40" in shown.text()
    shown.later(5)
    assert all("Processing" in text and "42 of 100" in text for text in rows.all_inner_texts())


def test_a_cleared_project_has_no_old_button(shown: Shown, airflow: FakeAirflow) -> None:
    """A project that is made again has no button to the former one, and not its status."""
    made = airflow.task("create_project", "success", rendered_fields={"title": "Town hall"})
    wait = airflow.task("ready", "deferred")
    airflow.known["create_project/links"] = {"extra_links": {"Open in 360": ADDRESS}}
    airflow.known["ready/logs/1"] = {"content": ["Project town-hall: status 80 of 100"]}
    shown.open()
    row = shown.row("Town hall")
    assert row.get_by_role("link", name="Open in 360").get_attribute("href") == ADDRESS
    assert row.get_by_role("progressbar").get_attribute("aria-valuenow") == "80"
    airflow.known.clear()
    made["state"] = wait["state"] = None
    shown.later(5)
    assert "Is created next" in row.inner_text()
    assert not row.get_by_role("link", name="Open in 360").is_visible()
    made.update(state="success", try_number=2)
    wait.update(state="deferred", try_number=2)
    shown.later(5)
    assert "No number yet" in row.inner_text()


def test_what_a_project_waits_for(shown: Shown, airflow: FakeAirflow) -> None:
    """A project that is not created yet shows the reason why it waits, and updates it."""
    upload = airflow.task("upload", "running")
    airflow.task("create_project", None)
    shown.open()
    row = shown.row("Project")
    assert "Is created when all uploads are complete" in row.inner_text()
    upload["state"] = "success"
    shown.later(5)
    assert "Is created next" in row.inner_text()


def test_a_second_attempt_is_marked(shown: Shown, airflow: FakeAirflow) -> None:
    """A second attempt is marked as such, and its wait for the retry has its own label."""
    upload = airflow.task("upload", "up_for_retry", rendered_fields={"filename": "roof.laz", "size": 100})
    airflow.known[f"upload/{PROGRESS}"] = progress(43, 100)
    shown.open()
    row = shown.row("roof.laz")
    assert "Waiting to retry" in row.inner_text()
    upload.update(state="running", try_number=2)
    shown.later(5)
    assert "attempt 2" in row.inner_text()


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "", None])
def test_the_button_leads_only_to_the_project(shown: Shown, airflow: FakeAirflow, link: str | None) -> None:
    """The button leads to the project's page on the web, and to nothing that any other link names."""
    airflow.task("create_project", "success", rendered_fields={"title": "Town hall"})
    airflow.known["create_project/links"] = {
        "extra_links": {"A dashboard": "https://elsewhere.example/", "Open in 360": link}
    }
    shown.open()
    assert shown.row("Town hall").is_visible()
    assert not shown.page.get_by_role("link", name="Open in 360").is_visible()


@pytest.mark.parametrize(
    ("chosen", "time"),
    [('"Asia/Tokyo"', "19:00"), ('"Nowhere/Land"', "10:00"), ("x", "10:00"), (None, "10:00")],
    ids=["chosen", "unknown", "not JSON", "none"],
)
def test_time_zone(shown: Shown, airflow: FakeAirflow, chosen: str | None, time: str) -> None:
    """Times are in the zone chosen in Airflow, or in the browser's zone if Airflow's is unknown to it."""
    airflow.task("ready", "deferred")
    if chosen:
        shown.page.add_init_script(f"localStorage.setItem('timezone', '{chosen}')")
    shown.open()
    assert f"since 2 Jan 2026, {time}" in shown.text()


def test_without_a_task_state_store(shown: Shown, airflow: FakeAirflow) -> None:
    """Before Airflow 3.3 states are shown, the status of a wait from its log, and why there is no more."""
    airflow.version = "3.2.2"
    airflow.task("upload", "running", rendered_fields={"filename": "roof.laz", "size": 100})
    airflow.task("ready", "up_for_reschedule")
    airflow.task("create_project", "success")  # whose fields such an Airflow leaves out of lists
    airflow.known["create_project"] = {"rendered_fields": {"title": "Town hall"}}
    airflow.known["ready/logs/1"] = {"content": [{"event": "Project town-hall: status 42 of 100"}]}
    shown.open()
    assert "Airflow 3.2.2 keeps no numbers of running uploads" in shown.text()
    assert "Town hall" in shown.text()
    assert "0 of 1 upload done" in shown.text()
    row = shown.row("roof.laz").inner_text()
    assert "Uploading" in row
    assert "since 2 Jan 2026, 10:00" in row
    assert "Starting" not in row
    assert "42 of 100" in shown.text()
    assert not any(PROGRESS in path for path in airflow.asked)


def test_nothing_uploaded(shown: Shown, airflow: FakeAirflow) -> None:
    """A night without files is not called uploaded."""
    airflow.state = "success"
    airflow.task("upload", "skipped")
    airflow.task("create_project", "skipped")
    shown.open()
    assert "Nothing was uploaded" in shown.text()
    assert "Skipped" in shown.row("upload").inner_text()
    assert "This run is over" in shown.text()


def test_a_task_that_could_not_start_names_the_reason(shown: Shown, airflow: FakeAirflow) -> None:
    """A task that could not start shows that an earlier task failed."""
    airflow.state = "failed"
    airflow.task("upload", "upstream_failed")
    airflow.task("create_project", "upstream_failed")
    shown.open()
    assert "Not begun: a task before it failed" in shown.row("upload").inner_text()
    assert "Not created: a task before it failed" in shown.row("Project").inner_text()


def test_folders(shown: Shown, airflow: FakeAirflow) -> None:
    """Shards are told apart by their labels, and an archive is called by its name."""
    for shard in range(2):
        label = f"/scans/hall, shard {shard} of 2"
        airflow.task("upload_folder", "success", shard, rendered_map_index=label)
    airflow.tasks = {**OPERATORS, "zip": UploadFilesOperator}
    airflow.task("zip", "success", rendered_fields={"path": "/scans/tower", "archive": "tower.zip"})
    airflow.known["upload_folder/xcomEntries/return_value"] = {"value": '{"files": 3, "bytes": 2048}'}
    airflow.known["zip/xcomEntries/return_value"] = {"value": {"files": 1, "bytes": 1024}}
    shown.open()
    assert "3 files · 2.0 KiB" in shown.row("shard 0 of 2").inner_text()
    assert shown.row("shard 1 of 2").is_visible()
    assert "1 file · 1.0 KiB" in shown.row("tower.zip").inner_text()
    assert "All uploaded · 5.0 KiB" in shown.text()


def test_another_dag(shown: Shown, airflow: FakeAirflow) -> None:
    """A run without a task of ours shows this, and its task instances are not requested."""
    airflow.tasks = {}
    airflow.state = "success"
    shown.open()
    assert "No task of this DAG uploads anything to 360." in shown.text()
    assert not any("taskInstances" in path for path in airflow.asked)


def test_the_latest_runs(shown: Shown, airflow: FakeAirflow) -> None:
    """Runs are counted a few at a time, finished ones once; DAGs are searched once a minute."""
    for index in range(20):
        airflow.runs.append(
            {
                "dag_id": "scan",
                "dag_run_id": f"night-{index}",
                "state": "failed",
                "run_after": "2026-01-02T10:00:00Z",
                "start_date": None,
                "end_date": "2026-01-02T11:00:00Z",
            }
        )
    for index in range(4):
        airflow.task("upload", "success" if index else "failed", index)
    shown.open(run="")
    assert shown.page.get_by_text("3 of 4 uploads done").count() == 10
    shown.later(50)
    assert shown.page.get_by_text("3 of 4 uploads done").count() == 20
    assert len([path for path in airflow.asked if path.endswith("/taskInstances")]) == 1 + 2 * 20
    assert airflow.asked.count("dags/~/dagRuns/list") > 8


def test_the_damaged_files_of_a_listing_are_shown_once(shown: Shown, airflow: FakeAirflow) -> None:
    """Damaged files that a listing found are shown once, also if an upload found them too."""
    airflow.state = "failed"
    airflow.task("list_files", "failed")
    airflow.task("upload", "success", 0, rendered_fields={"path": "s3://b/a.laz", "size": 10})
    found = {
        "damaged": 1,
        "doubtful": 1,
        "files": ["s3://b/a.laz: it is cut", "s3://b/<i>b</i>.zip: it is odd"],
    }
    airflow.known["list_files/xcomEntries/inspection"] = {"value": found}
    airflow.known["upload/xcomEntries/return_value"] = {"value": {"size": 10, "damaged": 1}}
    shown.open()
    text = shown.text()
    assert "1 file damaged · 1 file doubtful" in text
    assert text.count("s3://b/a.laz: it is cut") == 1
    assert "<i>b</i>.zip: it is odd" in text


def test_a_damaged_photo_is_shown_after_its_upload(shown: Shown, airflow: FakeAirflow) -> None:
    """What only an upload could find is shown when it is done, of one file and of a folder."""
    size = {"size": 100}
    airflow.task("upload", "running", 0, rendered_fields={"filename": "a.jpg", **size})
    airflow.task("upload_folder", "running", rendered_fields={"path": "/scans/garden"})
    airflow.known[f"upload_folder/{PROGRESS}"] = progress(43, 100)
    shown.open()
    assert "Inspection" not in shown.text()
    airflow.instances.clear()
    airflow.task("upload", "success", 0, rendered_fields={"filename": "a.jpg", **size})
    airflow.task("upload_folder", "success", rendered_fields={"path": "/scans/garden"})
    airflow.known["upload/xcomEntries/return_value"] = {"value": {**size, "damaged": 1}}
    summary = {"files": 3, "bytes": 100, "damaged": 2}
    airflow.known["upload_folder/xcomEntries/return_value"] = {"value": summary}
    found = {"damaged": 2, "doubtful": 0, "files": ["b.jpg: it is cut", "c.jpg: it is empty"]}
    airflow.known["upload_folder/xcomEntries/inspection"] = {"value": found}
    shown.later(10)
    text = shown.text()
    assert "3 files damaged" in text
    assert "a.jpg: see the log of its task" in text
    assert "c.jpg: it is empty" in text
