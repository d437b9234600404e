"""What each attempt needs, imported once in the process that all of them are forked from."""

from __future__ import annotations

import contextlib
import importlib

from airflow.sdk.io import has_fs

import airflow_360.operators.upload  # noqa: F401
import tests.stores.attempts  # noqa: F401

for name in ("adlfs", "gcsfs", "sshfs", "fsspec.implementations.smb", "boto3"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

has_fs("file")  # which asks all providers for their file systems
