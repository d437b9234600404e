"""Benchmarks: the package and its alternatives, measured in one run on one machine.

``python -m benchmarks`` runs all of them, ``python -m benchmarks one-file`` one. Each measured program is a
separate process; the servers are processes on loopback that discard the bytes. These are not tests: the
figures depend on the machine, so compare only the ratios of medians of interleaved runs.
"""
