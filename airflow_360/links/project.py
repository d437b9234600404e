"""The button that opens a project's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey

__all__ = ["ProjectLink"]


class ProjectLink(BaseOperatorLink):
    """A link from a task to its project's page; the URL is the XCom ``project_url``."""

    name = "Open in 360"
    key = "project_url"

    @classmethod
    def persist(cls, context: Any, url: str) -> None:
        """Save the URL of a page for the button.

        :param context: the task's context.
        :param url: the URL.
        """
        task = context.get("task")
        if task is None or task.do_xcom_push:
            context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL of the page, or an empty string if there is none yet.

        :param operator: the task.
        :param ti_key: the task instance.
        """
        url = XCom.get_value(key=self.key, ti_key=ti_key)
        return url if isinstance(url, str) else ""
