"""The differences between versions of Airflow; the only module that asks which version this is."""

from __future__ import annotations

import airflow

__all__ = ["AIRFLOW_VERSION", "AirflowRescheduleException", "TaskDeferralTimeout"]

#: Major and minor version, such as ``(3, 3)``.
AIRFLOW_VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])

try:
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferralTimeout
except ImportError:  # before Airflow 3.2
    import airflow.exceptions as _exceptions
    from airflow.exceptions import AirflowRescheduleException

    # Airflow 2 raises one exception for timeouts and for failures.
    TaskDeferralTimeout = getattr(  # type: ignore[misc,unused-ignore]
        _exceptions, "TaskDeferralTimeout", _exceptions.TaskDeferralError
    )
