"""The findings of a whole scan."""

from __future__ import annotations

import pytest

from airflow_360.inspection.findings import MAX_KEPT_FILES, NO_CODE, Findings
from airflow_360.inspection.photos import PhotoSet
from airflow_360.inspection.results import CoordinateSystem, Inspection


def scan(code: str | None = None, error: str = "", warning: str = "") -> Inspection:
    result = Inspection(format="LAS")
    if code is not None:
        result.coordinate_system = CoordinateSystem(code)
    if error:
        result.error("truncated", error)
    if warning:
        result.warn("counts", warning)
    return result


def test_counts_and_systems() -> None:
    """Each file counts once, as damaged or as doubtful, and each system has the first file that states it."""
    found = Findings()
    found.add("a", scan("EPSG:25832"))
    found.add("b", scan("EPSG:25832", error="it is cut", warning="it is odd"))
    found.add("b", scan("EPSG:31467", error="again"))
    found.add("c", scan("", warning="it is odd"))
    assert found.damaged == {"b": "it is cut; it is odd"}
    assert found.doubtful == {"c": "it is odd"}
    assert found.systems == {"EPSG:25832": "a", NO_CODE: "c"}
    assert found.result == {
        "coordinate_system": f"EPSG:25832, {NO_CODE}",
        "damaged": 1,
        "doubtful": 1,
    }
    assert str(found) == (
        f"3 files inspected: 1 damaged, 1 doubtful; coordinate system EPSG:25832, {NO_CODE}"
    )


def test_nothing_to_say() -> None:
    """A scan without problems and without a coordinate system adds nothing to a result."""
    found = Findings()
    found.add("a", scan())
    assert found.result == {}
    assert str(found) == "1 file inspected: no problems"


def test_many_damaged_files_are_counted_and_not_kept() -> None:
    """Of very many damaged files all are counted, and only the first ones are kept."""
    found = Findings()
    for number in range(MAX_KEPT_FILES + 5):
        found.add(str(number), scan(error="it is cut"))
    assert found.result == {"damaged": MAX_KEPT_FILES + 5}
    assert len(found.damaged) == MAX_KEPT_FILES


def photos(*positions: tuple[float, float] | None, pixels: tuple[int, int] = (4000, 3000)) -> PhotoSet:
    found = PhotoSet()
    for number, position in enumerate(positions):
        found.add(f"{number}.jpg", Inspection(format="JPEG", position=position, pixels=pixels))
    return found


def flight(count: int) -> list[tuple[float, float]]:
    """Return positions along a line of some hundred metres."""
    return [(55.7 + number * 1e-4, 13.2) for number in range(count)]


class TestPhotoSets:
    def test_a_survey(self) -> None:
        """A survey of 20 photos at 20 places has no warnings."""
        assert photos(*flight(20)).warnings == []

    def test_few_photos(self) -> None:
        """Fewer than 20 photos get a warning with their number."""
        (text,) = photos(*flight(19)).warnings
        assert "19 photos" in text

    def test_some_without_a_position(self) -> None:
        """Photos without GPS among others with it get a warning that names the first one."""
        (text,) = photos(*flight(20), None).warnings
        assert "1 of 21" in text
        assert "20.jpg" in text

    def test_none_has_a_position(self) -> None:
        """Photos that all have no GPS are normal: many cameras have none."""
        assert photos(*[None] * 20).warnings == []

    def test_one_place(self) -> None:
        """Many photos at one place get a warning."""
        (text,) = photos(*[(55.7, 13.2)] * 20).warnings
        assert "same place" in text

    def test_swapped(self) -> None:
        """A photo that is near the others only with latitude and longitude swapped gets a warning."""
        (text,) = photos(*flight(20), (13.2, 55.7)).warnings
        assert "swapped" in text
        assert "20.jpg" in text

    @pytest.mark.parametrize("other", ["LAS", ""])
    def test_a_scan_with_other_files_is_no_survey(self, other: str) -> None:
        """Some photos beside other files get no warning."""
        found = photos(None, (1.0, 2.0))
        found.add("a", Inspection(format=other))
        assert found.warnings == []

    def test_panoramas_are_no_survey(self) -> None:
        """Photos of 360° get no warning."""
        assert photos((55.7, 13.2), pixels=(8192, 4096)).warnings == []
