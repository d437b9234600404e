"""Mapped tasks that do nothing, in a file that imports nothing of this package."""

import json
import os
from typing import Any

from airflow.sdk import BaseOperator, dag


class NothingOperator(BaseOperator):
    template_fields = ("path",)

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def execute(self, context: Any) -> None:
        del context


@dag(schedule=None)
def bench_nothing() -> None:
    NothingOperator.partial(task_id="nothing").expand(path=json.loads(os.environ["BENCH_PATHS"]))


bench_nothing()
