"""The logic of creating projects and waiting for them, without Airflow."""
