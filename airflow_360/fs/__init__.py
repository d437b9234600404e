"""File systems that Airflow finds by the scheme of a path."""
