"""The errors: each survives pickling with its data, and tells whether a retry can help."""

from __future__ import annotations

import inspect
import pickle

import pytest

from airflow_360 import exceptions
from airflow_360.exceptions import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    FileRejectedError,
    InspectionError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    OffsetMismatchError,
    ProjectError,
    ProjectStatusError,
    QuotaError,
    RateLimitedError,
    ServerError,
    SourceChangedError,
    SourceError,
    ThreeSixtyError,
    UnexpectedReplyError,
    UploadError,
    UploadSessionNotFoundError,
    UploadStalledError,
)

ERRORS: list[tuple[ThreeSixtyError, bool]] = [
    (ThreeSixtyError("a setting"), False),
    (ApiError("418", status=418, code="teapot", detail={"a": [1]}), False),
    (InspectionError("damaged", files=["a.laz"]), False),
    (AuthenticationError("401", status=401, code="invalid_api_key"), False),
    (QuotaError("402", status=402, code="storage_quota_exceeded"), False),
    (InvalidRequestError("400", status=400, code="invalid_filename"), False),
    (NotFoundError("404", status=404, code="file_not_found"), False),
    (UploadSessionNotFoundError("404", status=404, code="upload_session_not_found"), False),
    (FileRejectedError("413", status=413, code="file_too_large", detail={"limit": 5}), False),
    (FileRejectedError("415", status=415, detail={"extension": "exe", "allowed": ["e57"]}), False),
    (OffsetMismatchError("409", received=7, code="non_contiguous_chunk"), False),
    (RateLimitedError("429", retry_after=3.5, code="rate_limited"), True),
    (ServerError("503", status=503), True),
    (ServerError("503", status=503, retry_after=30.0), True),
    (UnexpectedReplyError("404", status=404), True),
    (ConfigurationError("certificate"), False),
    (NoReplyError("silence"), True),
    (NoReplyError("broken", sent=False, idle=True), True),
    (NoReplyError("too late", timed_out=True), True),
    (SourceError("no permission", path="/a"), False),
    (SourceError("timed out", path="s3://b/a", retryable=True), True),
    (ProjectError("a stranger's"), False),
    (ProjectStatusError("101", status=101), False),
    (UploadError("refused", filename="a.e57", received=1, total=2), False),
    (SourceChangedError("shrank", filename="a.e57", received=1, total=2), False),
    (UploadStalledError("stuck", filename="a.e57", received=1, total=2), True),
]
IDS = [f"{type(error).__name__} {error}" for error, _ in ERRORS]


@pytest.mark.parametrize(("error", "retryable"), ERRORS, ids=IDS)
def test_an_error_survives_pickling(error: ThreeSixtyError, retryable: bool) -> None:
    """An error comes out of a pickle with its class, its message and everything that it carries."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy), copy.retryable) == (str(error), vars(error), retryable)


def test_every_error_is_in_the_table() -> None:
    """The table above knows every class of the tree."""
    classes = {
        kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, Exception)
    }
    assert {type(error) for error, _ in ERRORS} == classes


def test_what_a_rejection_carries() -> None:
    """A rejection has limit, extension and allowed extensions from the server's reply, without dots."""
    large = FileRejectedError(detail={"limit": 5})
    foreign = FileRejectedError(detail={"extension": "exe", "allowed": [".E57", "las"]})
    assert (large.limit, large.extension, large.allowed) == (5, None, [])
    assert (foreign.limit, foreign.extension, foreign.allowed) == (None, "exe", ["e57", "las"])


def test_a_rejection_says_no_more_than_a_line() -> None:
    """Extensions that a server invents are truncated and cleaned before they get into a message."""
    error = FileRejectedError(detail={"extension": "e\n57" + 99 * "x", "allowed": 999 * ["\x1b[31mlas"]})
    assert (len(error.extension or ""), len(error.allowed), set(error.allowed)) == (19, 200, {"[31mlas"})
    assert (error.extension or "").isprintable()


@pytest.mark.parametrize("odd", [None, "5 GB", {"a": 1}, 1.5], ids=str)
def test_odd_rejections(odd: object) -> None:
    """Fields of a rejection that violate the contract count as missing."""
    error = FileRejectedError(detail={"limit": odd, "extension": 7, "allowed": odd})
    assert (error.limit, error.extension, error.allowed) == (None, None, [])
