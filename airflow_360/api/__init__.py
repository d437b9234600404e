"""The HTTP contract in Python: one method per endpoint, one error per kind of refusal, without Airflow."""
