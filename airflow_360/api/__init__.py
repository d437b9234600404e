"""The HTTP contract in Python: one method per endpoint, one error per refusal, and never Airflow."""
