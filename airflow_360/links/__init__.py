"""Buttons in Airflow's UI."""
