"""What all operators of this package share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_360.hooks.three_sixty import DEFAULT_CONN_ID, UsesThreeSixty

__all__ = ["ThreeSixtyOperator", "reschedule"]


class ThreeSixtyOperator(UsesThreeSixty, BaseOperator):
    """Hold what every operator takes.

    :param three_sixty_conn_id: the connection to the server (templated).
    :param deferrable: whether a wait defers to the triggerer; otherwise it reschedules the task. The default
        is Airflow's ``[operators] default_deferrable``. Neither holds a worker slot.
    """

    def __init__(
        self,
        *,
        three_sixty_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.three_sixty_conn_id = three_sixty_conn_id
        self.deferrable = deferrable


def reschedule(seconds: float) -> NoReturn:
    """Give the worker slot back and run the task again later, without spending a retry.

    :param seconds: how much later.
    """
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException

    raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=seconds))
