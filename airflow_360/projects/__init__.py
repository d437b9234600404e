"""Creating projects and waiting for them: the decisions, without Airflow."""
