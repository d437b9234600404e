"""The rules of projects, tested over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_360.emulator import Emulator
from tests.emulator.raw import Clock, Raw

FULL_RECORD = set(
    "id name title status privacy_mode errors size setups_count enabled_setups views created updated "
    "last_usage epsg proj4 coord_unit extensions potree threedgs video360 ifc glb obj pdf kml geotiff "
    "public_project deleted colored_links potree_use_pitch_roll frame_ancestors redirect multiprojects "
    "welcome_overlay cesium_map_offset access_level_for_comments".split()
)


def test_project(raw: Raw, clock: Clock) -> None:
    """A project is queued, then processed, then ready, and has its full record only when it is ready."""
    upload_id = raw.scan()
    answer = raw.call("POST", "/projects", {"upload_id": upload_id})
    assert answer.status == 201
    assert answer.json == {"name": upload_id, "status": 0, "message": "processing_started"}
    for seconds, status in ((0, 0), (1, 1), (41, 42), (57.9, 99)):
        clock.advance(seconds)
        assert raw.call("GET", f"/projects/{upload_id}").json == {"name": upload_id, "status": status}
    clock.advance(0.1)
    record = raw.call("GET", f"/projects/{upload_id}").json
    assert set(record) == FULL_RECORD
    assert (record["status"], record["size"], record["setups_count"], record["potree"]) == (100, 6, 1, True)


def test_options(raw: Raw, clock: Clock) -> None:
    """Every optional field is accepted, and those that the record knows come back in it."""
    fields = {
        "upload_id": raw.scan(),
        "title": "Ny <b>scan</b>",
        "privacy_mode": 0,
        "coordinate_system": "EPSG:25832",
        "blur_faces": True,
    }
    name = raw.call("POST", "/projects", fields).json["name"]
    clock.advance(100)
    record = raw.call("GET", f"/projects/{name}").json
    assert (record["title"], record["privacy_mode"], record["epsg"]) == ("Ny <b>scan</b>", 0, 25832)
    assert record["public_project"]


def test_download_link(raw: Raw) -> None:
    """A project can be made from a link, without a session."""
    answer = raw.call("POST", "/projects", {"download_link": "https://example.com/a.zip"})
    assert answer.status == 201
    assert raw.call("GET", f"/projects/{answer.json['name']}").json["status"] == 0


def test_ready_with_errors(raw: Raw, clock: Clock, emulator: Emulator) -> None:
    """A test can give a ready project errors."""
    name = raw.call("POST", "/projects", {"upload_id": raw.scan()}).json["name"]
    emulator.store.projects[name].errors = 2
    clock.advance(100)
    assert raw.call("GET", f"/projects/{name}").json["errors"] == 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "upload_id_or_download_link_required"),
        ([1], "upload_id_or_download_link_required"),
        ("{", "upload_id_or_download_link_required"),
        (None, "upload_id_or_download_link_required"),
        (
            {"upload_id": "AAAAAAAA", "download_link": "https://x"},
            "provide_either_upload_id_or_download_link",
        ),
        ({"upload_id": 12345678}, "invalid_upload_id"),
    ],
)
def test_bad_requests(raw: Raw, fields: Any, code: str) -> None:
    """A body that names no source, or two, or no proper id is refused."""
    assert raw.call("POST", "/projects", fields).refusal == (400, code)


def test_unknown_session(raw: Raw) -> None:
    """No project is created from a session that never existed."""
    answer = raw.call("POST", "/projects", {"upload_id": "AAAAAAAA"})
    assert answer.refusal == (404, "upload_session_not_found")


def test_files_must_be_complete(raw: Raw) -> None:
    """No project is created from a session that is empty or has an unfinished file."""
    upload_id = raw.session()
    for _ in range(2):
        answer = raw.call("POST", "/projects", {"upload_id": upload_id})
        assert answer.refusal == (400, "project_creation_failed")
        raw.chunk(upload_id, "a.e57", b"x", 0, 2)


def test_name_collision(raw: Raw, emulator: Emulator) -> None:
    """A project whose name is taken gets another one."""
    upload_id = raw.scan()
    emulator.store.take_name(upload_id)
    fields = {"upload_id": upload_id, "title": "Ours"}
    name = raw.call("POST", "/projects", fields).json["name"]
    assert name != upload_id
    assert raw.call("GET", f"/projects/{name}").json == {"name": name, "status": 0}
    stranger = raw.call("GET", f"/projects/{upload_id}").json
    assert (stranger["name"], stranger["status"], stranger["title"]) == (
        upload_id,
        100,
        "A stranger's project",
    )
    assert [project["name"] for project in raw.call("GET", "/projects").json["projects"]] == [name]


def test_hidden_name_collision(raw: Raw, emulator: Emulator) -> None:
    """Another account's project may also be one that cannot be read."""
    upload_id = raw.scan()
    emulator.store.take_name(upload_id, visible=False)
    assert raw.call("POST", "/projects", {"upload_id": upload_id}).json["name"] != upload_id
    assert raw.call("GET", f"/projects/{upload_id}").refusal == (404, "project_not_found")


def test_next_name_collision(raw: Raw, emulator: Emulator) -> None:
    """A name can be taken before there is a session, whose project will collide; only the next one does."""
    taken = emulator.store.take_name()
    names = []
    for _ in range(2):
        upload_id = raw.scan()
        names.append((upload_id, raw.call("POST", "/projects", {"upload_id": upload_id}).json["name"]))
    assert names[0][0] == taken != names[0][1]
    assert names[1][0] == names[1][1] != taken


def test_session_lives_on(raw: Raw, emulator: Emulator) -> None:
    """By default a session outlives its project, and a second POST creates a second project."""
    upload_id = raw.scan()
    names = [raw.call("POST", "/projects", {"upload_id": upload_id}).json["name"] for _ in range(2)]
    assert names[0] == upload_id != names[1]
    listed = raw.call("GET", "/projects").json["projects"]
    assert [project["name"] for project in listed] == names
    complete = {"received": 6, "total": 6, "complete": True}
    assert raw.call("GET", f"/uploads/{upload_id}/scan.e57").json == complete
    assert raw.call("GET", f"/uploads/{upload_id}").json["files"] == [{"name": "scan.e57", **complete}]
    assert raw.whole(upload_id, "scan.e57", b"points").json == complete
    assert raw.chunk(upload_id, "b.e57", b"x", 0, 2).json["received"] == 1
    for _ in range(2):
        assert raw.call("DELETE", f"/uploads/{upload_id}").json == {"deleted": True}
    assert raw.call("GET", f"/uploads/{upload_id}").refusal == (404, "upload_session_not_found")
    assert emulator.store.file_path(upload_id, "scan.e57").read_bytes() == b"points"


def test_session_consumed() -> None:
    """With `session_consumed`, a project consumes its session, and its stored bytes can still be read."""
    with Emulator(session_consumed=True) as emulator, Raw(emulator) as raw:
        upload_id = raw.scan()
        raw.call("POST", "/projects", {"upload_id": upload_id})
        consumed = (404, "upload_session_not_found")
        assert raw.call("GET", f"/uploads/{upload_id}").refusal == consumed
        assert raw.call("GET", f"/uploads/{upload_id}/scan.e57").refusal == consumed
        assert raw.whole(upload_id, "b.e57", b"x").refusal == consumed
        assert raw.chunk(upload_id, "b.e57", b"x", 0, 2).refusal == consumed
        assert raw.call("POST", "/projects", {"upload_id": upload_id}).refusal == consumed
        for _ in range(2):
            assert raw.call("DELETE", f"/uploads/{upload_id}").json == {"deleted": True}
        assert raw.call("GET", f"/projects/{upload_id}").json["name"] == upload_id
        assert list(emulator.store.projects) == [upload_id]
        assert emulator.store.file_path(upload_id, "scan.e57").read_bytes() == b"points"


def test_no_processing_time() -> None:
    """A project without processing time is ready at the first poll."""
    with Emulator(processing_seconds=0) as emulator, Raw(emulator) as raw:
        name = raw.call("POST", "/projects", {"upload_id": raw.scan()}).json["name"]
        assert raw.call("GET", f"/projects/{name}").json["status"] == 100
