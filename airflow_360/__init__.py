"""Airflow provider for 360-for-you: resumable uploads of scans, and projects created from them.

Nothing is imported here, so that a DAG file loads only the modules that it uses.
"""

__version__ = "0.1.0"
