"""Mapped tasks that send a file with requests and know nothing else: the least that an upload can cost."""

import json
import os
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, dag

from benchmarks.peers import KEY


class RequestsOperator(BaseOperator):
    template_fields = ("url", "path")

    def __init__(self, *, url: str, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url
        self.path = path

    def execute(self, context: Any) -> None:
        del context
        import requests

        file = Path(self.path)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/octet-stream"}
        reply = requests.put(f"{self.url}/{file.name}", file.read_bytes(), headers=headers, timeout=60)
        reply.raise_for_status()


@dag(schedule=None)
def bench_requests() -> None:
    url = f"{os.environ['BENCH_SERVER']}/api/v1/uploads/{{{{ dag_run.conf['upload_id'] }}}}"
    RequestsOperator.partial(task_id="send", url=url).expand(path=json.loads(os.environ["BENCH_PATHS"]))


bench_requests()
