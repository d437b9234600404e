"""Hook and task state: connections, paths, uploads, and the values that tasks save."""
