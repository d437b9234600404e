"""What a file states about itself, read from a few kilobytes of its head and tail before it is sent.

Separate from the upload, because it believes nothing: every number in a file is compared with the file's size
before it is used. The formats' modules do no I/O; they get a :class:`~airflow_360.inspection.ranges.Ranges`.
"""
