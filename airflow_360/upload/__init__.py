"""The resumable upload engine: from sources to the API, without Airflow."""
