"""The measurements: the package beside what a user would take instead, in one run on one machine.

``python -m benchmarks`` runs them all, ``python -m benchmarks one-file`` one of them. Every measured thing is
a process of its own; servers are processes on loopback that throw bytes away. Nothing here is a test: figures
depend on the machine, so that what counts are the ratios of medians of interleaved runs.
"""
