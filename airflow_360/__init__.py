"""Airflow provider for 360-for-you: resumable uploads of scans, and the projects made of them.

Nothing is imported here, so that a DAG file pays only for what it names.
"""

__version__ = "0.1.0"
