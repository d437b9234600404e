"""How Sphinx builds these pages. Nothing is fetched while it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
# Importing Airflow writes a configuration file: not into anybody's home.
os.environ["AIRFLOW_HOME"] = str(HERE / "_build" / "airflow")

from airflow_360 import __version__  # noqa: E402  (the path above comes first)

project = "airflow-provider-360"
author = "the airflow-provider-360 developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"

html_theme = "furo"
html_title = "360 for you in Apache Airflow"
html_show_sphinx = False
html_extra_path = ["llms.txt"]
