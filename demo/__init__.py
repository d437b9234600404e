"""The demo: ``python -m demo`` runs the main job once in a real Airflow and shows the result."""
