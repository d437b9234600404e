"""The resumable engine: sources on one side, the API on the other, and never Airflow."""
