"""The work of a running task besides moving bytes: saved state, records, manifests, lineage, results."""
