"""Lineage as facets of OpenLineage. Separate because OpenLineage is optional: the import fails without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.common.compat.openlineage.facet import Dataset
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.facet_v2 import dataset_version_dataset as version

__all__ = ["facets_of"]


def facets_of(
    inputs: Iterable[tuple[str, str, str]], outputs: Iterable[tuple[str, str, str]], sha256: Mapping[str, str]
) -> Any:
    """Return the lineage of a task.

    :param inputs: URI, namespace and name of each source.
    :param outputs: the same of each target.
    :param sha256: the SHA-256 by URI, if known.
    """

    def dataset(uri: str, namespace: str, name: str) -> Dataset:
        digest = sha256.get(uri)
        facets: Any = {"version": version.DatasetVersionDatasetFacet(f"sha256:{digest}")} if digest else {}
        return Dataset(namespace, name, facets=facets)

    sources, targets = ([dataset(*one) for one in dict.fromkeys(every)] for every in (inputs, outputs))
    return OperatorLineage(inputs=sources, outputs=targets)
