"""Progress for people: sizes, times, and a line now and then."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_360.texts import duration_text, size_text
from airflow_360.upload.progress import ProgressLog, ProgressRecord
from tests.fakes import Steps

MIB = 1 << 20


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB, "1.0 MiB"),
        (1.25 * MIB, "1.2 MiB"),
        (12.3 * MIB, "12.3 MiB"),
        (1 << 30, "1.0 GiB"),
        (4 << 30, "4.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (5000 << 40, "5,000.0 TiB"),
        (1, "1 byte"),
        (MIB - 1, "1.0 MiB"),
    ],
)
def test_size_text(count: float, text: str) -> None:
    """A number of bytes is read in the unit that suits it."""
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (1, "1 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (150, "2 min"),
        (600, "10 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h 00 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    """A number of seconds is read in the unit that suits it."""
    assert duration_text(seconds) == text


def test_a_line_has_bytes_share_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    """A line contains the bytes sent, the total, the share, the rate and the remaining time."""
    with caplog.at_level(logging.INFO):
        log = ProgressLog("scan.e57", 100 * MIB, clock=Steps(0, 5))
        for received in (0, 10 * MIB, 20 * MIB):
            log.update(received)
    assert caplog.messages == [
        "scan.e57: 10.0 MiB of 100.0 MiB (10 %), 2.0 MiB/s, 45 s left",
        "scan.e57: 20.0 MiB of 100.0 MiB (20 %), 2.0 MiB/s, 40 s left",
    ]


def test_a_line_comes_only_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """For any number of updates of the server's number, a line comes only every few seconds."""
    with caplog.at_level(logging.INFO):
        log = ProgressLog("scan.e57", 1000, every=5, clock=Steps(1))
        for received in range(100):
            log.update(received)
    assert len(caplog.messages) == 19


def test_bytes_from_before_do_not_count_for_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that the server had before do not count towards the rate."""
    with caplog.at_level(logging.INFO):
        log = ProgressLog("scan.e57", 100 * MIB, clock=Steps(0, 10))
        log.update(80 * MIB)
        log.update(90 * MIB)
    assert caplog.messages == ["scan.e57: 90.0 MiB of 100.0 MiB (90 %), 1.0 MiB/s, 10 s left"]


def test_without_progress_no_time_left_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """If no bytes move, or bytes were lost, the remaining time is not shown."""
    with caplog.at_level(logging.INFO):
        log = ProgressLog("scan.e57", 100 * MIB, clock=Steps(0, 10))
        for received in (50 * MIB, 50 * MIB, 40 * MIB):
            log.update(received)
    assert len(caplog.messages) == 2
    assert not any("left" in message for message in caplog.messages)
    assert "50.0 MiB of 100.0 MiB (50 %), 0 bytes/s" in caplog.messages[0]


def test_the_last_byte_makes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """The last byte, and an empty file, make no line: the caller logs the completion."""
    with caplog.at_level(logging.INFO):
        for size in (0, 10):
            log = ProgressLog("scan.e57", size, clock=Steps(60))
            log.update(size)
            log.update(size)
    assert caplog.messages == []


def test_a_line_has_the_number_of_complete_files(caplog: pytest.LogCaptureFixture) -> None:
    """The number of complete files is between the name and the numbers."""
    with caplog.at_level(logging.INFO):
        log = ProgressLog("session Bx0xyTjt", 4 * MIB, files=2000, clock=Steps(10))
        log.update(0, 0)
        log.update(MIB, 37)
    (message,) = caplog.messages
    assert message.startswith("session Bx0xyTjt: 37 of 2,000 files, 1.0 MiB of 4.0 MiB (25 %)")


def test_the_callback_gets_the_numbers_of_each_line(caplog: pytest.LogCaptureFixture) -> None:
    """The callback gets the numbers of each line, its text, and at the end the final numbers."""
    kept: list[ProgressRecord] = []
    with caplog.at_level(logging.INFO):
        log = ProgressLog("session Bx0xyTjt", 100, files=3, keep=kept.append, clock=Steps(0, 10))
        log.begin(20)
        for received, files in ((30, 1), (60, 1), (100, 3)):
            log.update(received, files)
    assert [f"session Bx0xyTjt: {numbers['progress']}" for numbers in kept[:2]] == caplog.messages
    assert kept[1] == {
        "progress": caplog.messages[1].partition(": ")[2],
        "received": 60,
        "size": 100,
        "percent": 60,
        "rate": 2,
        "seconds_left": 20,
        "resumed_from": 20,
        "files_done": 1,
        "files": 3,
    }
    assert (kept[-1]["percent"], kept[-1]["seconds_left"], kept[-1]["files_done"]) == (100, 0, 3)
    json.dumps(kept, allow_nan=False)


def test_nothing_to_keep() -> None:
    """An upload that is over before its first line costs no write."""
    kept: list[ProgressRecord] = []
    for size in (0, 100):
        log = ProgressLog("scan.e57", size, keep=kept.append, clock=Steps(1))
        log.begin(0)
        log.update(size)
        log.update(size)
    assert kept == []


def test_session_would_expire(caplog: pytest.LogCaptureFixture) -> None:
    """An upload that cannot end before its session does is warned of once, with the arithmetic."""
    with caplog.at_level(logging.WARNING):
        log = ProgressLog("scan.e57", 1024**4, clock=Steps(10))
        for mebibytes in range(5):
            log.update(mebibytes * MIB)
    (message,) = caplog.messages
    assert (
        "at 102.4 KiB/s the remaining 1,024.0 GiB take" in message or "the remaining 1.0 TiB take" in message
    )
    assert "discards a session after 72 h 00 min" in message
