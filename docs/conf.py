"""How Sphinx builds these pages. Nothing is fetched while it does."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped]
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

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
exclude_patterns = ["_build", "howto/object-stores-table.md"]
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
html_static_path = ["_static"]
html_css_files = ["site.css"]

#: Words that people search for, by page and title: Sphinx finds index entries before other words. It ignores
#: numbers, so that the HTTP status in the title of an error code is an entry too.
SEARCH_WORDS = {
    "alerting": {"Slack, PagerDuty and e-mail": "Slack alert"},
    "howto/object-stores": {"S3": "S3 permissions"},
    "howto/progress": {"Watch uploads and projects": "progress"},
    "howto/retry-and-clear": {"The project task": "clear a project"},
    "rate-limits": {"Rate limits and pools": "rate limit"},
    "troubleshooting": {"401 invalid_api_key": "wrong key"},
}


class SearchWords(SphinxTransform):
    """Adds the index entries of :data:`SEARCH_WORDS` to a page."""

    default_priority = 500  # before Sphinx collects the entries of a page

    def apply(self, **kwargs: Any) -> None:  # noqa: ARG002 - the signature of Sphinx
        """Insert each entry at the beginning of its section."""
        words = dict(SEARCH_WORDS.get(self.env.docname, {}))
        for section in list(self.document.findall(nodes.section)):
            title = section[0].astext()
            entries = [words.pop(title)] if title in words else []
            if self.env.docname == "troubleshooting" and (status := re.match(r"[45]\d\d ", title)):
                entries.append(status[0].strip())
            if entries:
                index = [("single", word, section["ids"][0], "main", None) for word in entries]
                section.insert(1, addnodes.index(entries=index))
        for title in words:
            logging.getLogger(__name__).warning("%s has no section %r", self.env.docname, title)


def setup(app: Sphinx) -> None:
    """Register the transform."""
    app.add_transform(SearchWords)
