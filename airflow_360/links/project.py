"""The button that opens a project's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey

__all__ = ["ProjectLink"]


class ProjectLink(BaseOperatorLink):
    """Link a task to its project's page, whose address lies beside the result as XCom ``project_url``."""

    name = "Open in 360"
    key = "project_url"

    @classmethod
    def persist(cls, context: Any, url: str) -> None:
        """Keep a page's address for the button.

        :param context: the task's context.
        :param url: the address.
        """
        task = context.get("task")
        if task is None or task.do_xcom_push:
            context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address, empty while there is none.

        :param operator: the task.
        :param ti_key: the task instance.
        """
        url = XCom.get_value(key=self.key, ti_key=ti_key)
        return url if isinstance(url, str) else ""
