"""Lineage: the sources of the uploaded bytes and their targets.

It is reported to the readers of Airflow's hook-level lineage and to OpenLineage. Without either, nothing is
imported: getting Airflow's collector alone costs half a second of CPU time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

__all__ = ["MAX_LISTED_SOURCES", "Lineage", "collapsed", "dataset_of", "uri_of"]

log = logging.getLogger(__name__)

MAX_LISTED_SOURCES = 20  # of one bucket, or of the disk, listed individually; Airflow keeps 100 in total


class Lineage:
    """The sources and targets of one hook.

    :param hook: the hook, which readers get as the context.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.inputs: list[str] = []
        self.outputs: list[str] = []

        self.sha256: dict[str, str] = {}

    def moved(
        self, sources: Iterable[str], *targets: str, sha256: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Record bytes that have arrived at their target.

        :param sources: the paths or URLs of the sources; many become the folder that contains them.
        :param targets: the paths or URLs of the targets.
        :param sha256: the SHA-256 of sources and targets, if known.
        """
        inputs, outputs = collapsed(map(uri_of, sources)), [uri_of(target) for target in targets]
        self.inputs += inputs
        self.outputs += outputs
        self.sha256 |= {uri_of(path): digest for path, digest in sha256.items()}
        if _has_readers():
            self._report(inputs, outputs)

    def facets(self) -> Any:
        """Return the lineage as OpenLineage's ``OperatorLineage``; None if OpenLineage is not installed."""
        try:
            from airflow_360.runtime.openlineage import facets_of  # OpenLineage is optional
        except ImportError:
            return None
        inputs, outputs = ([(uri, *dataset_of(uri)) for uri in uris] for uris in (self.inputs, self.outputs))
        return facets_of(inputs, outputs, self.sha256)

    def _report(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        collector = get_hook_lineage_collector()
        try:
            for add, uris in ((collector.add_input_asset, inputs), (collector.add_output_asset, outputs)):
                for uri in uris:
                    digest = self.sha256.get(uri)
                    add(context=self._hook, uri=uri, asset_extra={"sha256": digest} if digest else None)
        except (TypeError, ValueError) as error:  # a URI that Airflow does not accept as an asset
            log.warning("Lineage is incomplete: %s", error)


def uri_of(path: str) -> str:
    """Return the URI of a path, without connection, password or signature.

    :param path: local, or any ``scheme://``.
    """
    scheme, remote, rest = path.partition("://")
    if not remote:
        return Path(path).expanduser().absolute().as_uri()
    authority, slash, key = rest.partition("/")
    if scheme in ("http", "https"):
        key = key.partition("?")[0]  # a presigned URL is a secret
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}"


def collapsed(uris: Iterable[str]) -> list[str]:
    """Return the URIs; if there are many of one bucket or disk, return their common folder instead.

    :param uris: the URIs.
    """
    places: dict[str, list[str]] = {}
    for uri in dict.fromkeys(uris):
        places.setdefault(dataset_of(uri)[0], []).append(uri)
    return [
        uri
        for there in places.values()
        for uri in (there if len(there) <= MAX_LISTED_SOURCES else [_folder(there)])
    ]


def dataset_of(uri: str) -> tuple[str, str]:
    """Return the namespace and the name by which OpenLineage identifies a URI.

    :param uri: the URI.
    """
    scheme, _, rest = uri.partition("://")
    authority, _, name = rest.partition("/")
    return ("file", f"/{unquote(name)}") if scheme == "file" else (f"{scheme}://{authority}", name or "/")


def _folder(uris: list[str]) -> str:
    """Return the folder that contains all URIs; the functions for paths would merge double slashes."""
    return os.path.commonprefix(uris).rpartition("/")[0] + "/"  # noqa: RUF071 (cut at a slash)


def _has_readers() -> bool:
    """Return whether a plugin reads lineage; a task's process has already loaded its plugins."""
    try:
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins
    except ImportError:  # before 3.2
        import airflow.plugins_manager

        older: Any = airflow.plugins_manager
        older.initialize_hook_lineage_readers_plugins()
        return bool(older.hook_lineage_reader_classes)
    return bool(get_hook_lineage_readers_plugins())
