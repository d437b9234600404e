"""The imports of every attempt, done once in the process from which all of them are forked."""

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
