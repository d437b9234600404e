"""What holds for every test: Airflow lives in a folder of its own and reads no developer's settings."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before anything imports Airflow, which reads these at import and writes its configuration file.
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-360-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

from hypothesis import settings  # noqa: E402  (Airflow's folder comes first)

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("360", deadline=None)
settings.load_profile("360")
