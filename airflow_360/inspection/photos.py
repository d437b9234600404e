"""Rules for a set of photos as a whole, which no single photo can break.

Separate from the formats: services that compute a model from photos state these rules, and a set that breaks
one of them is only doubtful.
"""

from __future__ import annotations

from airflow_360.inspection.results import Inspection
from airflow_360.sources.names import printable
from airflow_360.texts import count_text

__all__ = ["PHOTO_EXTENSIONS", "PhotoSet"]

PHOTO_EXTENSIONS = frozenset(("jpeg", "jpg", "png"))
PHOTO_FORMATS = frozenset(("JPEG", "PNG"))
MIN_SURVEY_PHOTOS = 20
SAME_PLACE_DEGREES = 1e-5  # about one metre
FAR_DEGREES = 2.0  # no survey is that large
PANORAMA_RATIO = 2  # width to height of a 360° photo


class PhotoSet:
    """The photos of a scan, with their positions."""

    def __init__(self) -> None:
        self._others = 0
        self._panoramas = 0
        self._without: list[str] = []
        self._positions: dict[str, tuple[float, float]] = {}

    def add(self, path: str, result: Inspection) -> None:
        """Add a file of the scan.

        :param path: its path.
        :param result: the result of its inspection.
        """
        if result.format not in PHOTO_FORMATS:
            self._others += 1
            return
        if result.pixels:
            width, height = result.pixels
            self._panoramas += width == PANORAMA_RATIO * height
        if result.position:
            self._positions[path] = result.position
        else:
            self._without.append(path)

    @property
    def count(self) -> int:
        """Return the number of photos."""
        return len(self._positions) + len(self._without)

    @property
    def warnings(self) -> list[str]:
        """Return what is unusual for a survey; nothing if the scan has other files, or 360° photos."""
        photos = self.count
        if not photos or self._others or self._panoramas == photos:
            return []
        return [
            *self._too_few(photos),
            *self._some_without(photos),
            *self._one_place(),
            *self._swapped(),
        ]

    def _too_few(self, photos: int) -> list[str]:
        if photos >= MIN_SURVEY_PHOTOS:
            return []
        return [f"{count_text(photos, 'photo')}: a survey usually needs at least {MIN_SURVEY_PHOTOS}"]

    def _some_without(self, photos: int) -> list[str]:
        if not self._positions or not self._without:
            return []
        return [
            f"photos without a GPS position: {len(self._without):,} of {photos:,}, for example "
            f"{printable(self._without[0])}"
        ]

    def _one_place(self) -> list[str]:
        if len(self._positions) < MIN_SURVEY_PHOTOS or self._extent() > SAME_PLACE_DEGREES:
            return []
        return [f"all {len(self._positions):,} photos with a GPS position were taken at the same place"]

    def _extent(self) -> float:
        axes: list[tuple[float, ...]] = list(zip(*self._positions.values(), strict=True))
        return max(max(values) - min(values) for values in axes)

    def _swapped(self) -> list[str]:
        """Return a warning if some photos are near the others only if latitude and longitude are swapped."""
        if not self._positions:
            return []
        latitude, longitude = (_median(values) for values in zip(*self._positions.values(), strict=True))

        def far(first: float, second: float) -> bool:
            return max(abs(first - latitude), abs(second - longitude)) > FAR_DEGREES

        swapped = [path for path, (x, y) in self._positions.items() if far(x, y) and not far(y, x)]
        if not swapped:
            return []
        return [
            f"photos with latitude and longitude swapped: {len(swapped):,}, for example "
            f"{printable(swapped[0])}"
        ]


def _median(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) // 2]
