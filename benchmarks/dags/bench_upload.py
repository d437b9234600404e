"""Mapped uploads of small files, as a DAG's author writes them."""

import json
import os

from airflow.sdk import dag

from airflow_360.operators.upload import UploadFileOperator


@dag(schedule=None)
def bench_upload() -> None:
    upload = UploadFileOperator.partial(task_id="upload", upload_id="{{ dag_run.conf['upload_id'] }}")
    upload.expand(path=json.loads(os.environ["BENCH_PATHS"]))


bench_upload()
