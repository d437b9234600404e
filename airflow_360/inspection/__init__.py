"""Inspection of files before the upload, from a few kilobytes of their head and tail.

Separate from the upload, because it treats every file as untrusted: each number in it is compared with the
file's size before it is used. The formats' modules do no I/O; they get a
:class:`~airflow_360.inspection.ranges.Ranges`.
"""
