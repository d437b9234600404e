"""An upload, and a task that only imports the same modules; each returns its peak memory."""

import importlib
import sys
from typing import Any

from airflow.sdk import dag

from airflow_360.operators.upload import UploadFileOperator
from benchmarks.measure import peak_bytes

MODULES = (
    "airflow_360.api.client",
    "airflow_360.api.transport",
    "airflow_360.sources.names",
    "airflow_360.sources.path",
    "airflow_360.upload.engine",
)


class MeasuredUpload(UploadFileOperator):
    def execute(self, context: Any) -> dict[str, Any]:
        super().execute(context)
        return {"peak": peak_bytes(), "modules": len(sys.modules)}


class ImportsOnly(UploadFileOperator):
    def execute(self, context: Any) -> dict[str, Any]:
        del context
        for name in MODULES:
            importlib.import_module(name)
        self.hook.get_conn()
        self.hook.paths.open(self.path)  # for S3: Airflow's hook, and one boto3 client
        return {"peak": peak_bytes(), "modules": len(sys.modules)}


@dag(schedule=None)
def bench_memory() -> None:
    upload_id, path = "{{ dag_run.conf['upload_id'] }}", "{{ dag_run.conf['path'] }}"
    MeasuredUpload(task_id="upload", upload_id=upload_id, path=path)
    ImportsOnly(task_id="imports", upload_id=upload_id, path=path)


bench_memory()
