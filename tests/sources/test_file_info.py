"""The metadata of a file, in the forms of the libraries of the stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_360.sources.file_info import modified_of, plain_etag, version_of

NOON = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
SECONDS = NOON.timestamp()


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({"mtime": SECONDS}, SECONDS),  # local, SMB
        ({"mtime": int(SECONDS)}, SECONDS),
        ({"mtime": NOON}, SECONDS),  # sshfs, gcsfs
        ({"mtime": NOON.astimezone(timezone(timedelta(hours=2)))}, SECONDS),
        ({"mtime": NOON.replace(tzinfo=None)}, SECONDS),  # a time without a zone is UTC
        ({"mtime": NOON + timedelta(microseconds=1)}, SECONDS + 1e-6),
        ({"last_modified": NOON}, SECONDS),  # adlfs
        ({"LastModified": NOON}, SECONDS),  # s3fs
        ({"updated": "2026-11-26T12:00:00.000Z"}, SECONDS),
        ({"updated": "2026-11-26T14:00:00+02:00"}, SECONDS),
        ({"modified": NOON}, SECONDS),  # webdav4
        ({"modified": "Thu, 26 Nov 2026 12:00:00 GMT"}, SECONDS),
        ({"modify": "20261126120000"}, SECONDS),  # FTP
        ({"modify": "20261126120000.123"}, SECONDS),
        ({"modify": "Nov 26 12:00"}, None),  # FTP without MLSD: no year
        ({"mtime": None, "updated": "2026-11-26T12:00:00Z"}, SECONDS),
        ({"mtime": 0, "last_modified": NOON}, SECONDS),  # Airflow's stat returns 0 for a missing time
        ({"mtime": 0}, None),
        ({"mtime": "no time at all"}, None),
        ({"mtime": True}, None),
        ({"mtime": ["2026"]}, None),
        ({"created": NOON}, None),  # the creation time does not depend on the bytes
        ({}, None),
    ],
)
def test_modification_time(info: dict[str, Any], seconds: float | None) -> None:
    """The modification time is read from every name and form; an unreadable one counts as missing."""
    assert modified_of(info) == seconds


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"etag": '"0x8DE"'}, "0x8DE"),
        ({"etag": "0x8DE"}, "0x8DE"),
        ({"ETag": '"abc-3"'}, "abc-3"),
        ({"e_tag": "abc"}, "abc"),
        ({"ETag": 'W/"abc"'}, 'W/"abc"'),
        ({"generation": "17", "etag": "CL1="}, "17"),
        ({"generation": 17}, "17"),
        ({"generation": None, "etag": "CL1="}, "CL1="),
        ({"etag": None}, None),
        ({"etag": ""}, None),
        ({}, None),
    ],
)
def test_a_generation_is_preferred_to_an_etag(info: dict[str, Any], version: str | None) -> None:
    """A generation identifies a version better than an ETag, which changes with metadata too."""
    assert version_of(info) == version


@pytest.mark.parametrize(("etag", "plain"), [('"a"', "a"), ("a", "a"), ('W/"a"', 'W/"a"')])
def test_an_etag_has_no_quotes(etag: str, plain: str) -> None:
    """An ETag is kept without quotes, except if it is weak."""
    assert plain_etag(etag) == plain
