"""A page in Airflow's UI: the eighth part of the house beside the kinds of Airflow."""
