"""An auth manager whose users see some DAGs and not others."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

__all__ = ["MAY_SEE", "PerDagAuthManager"]

MAY_SEE = {"ann": {"wide_upload"}, "bob": {"a_dag_that_never_ran"}}


class PerDagAuthManager(SimpleAuthManager):
    """Airflow's own, with a list of DAGs for each user."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **more: Any) -> bool:
        named = getattr(details, "id", None)
        seen = named is None or named in MAY_SEE[user.username]
        return seen and super().is_authorized_dag(user=user, details=details, **more)
