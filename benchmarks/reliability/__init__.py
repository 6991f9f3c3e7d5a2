"""Whether anything is lost or broken: faults, restorations, hostile files, long runs.

`python -m benchmarks.reliability report` prints what was measured; the other commands measure it.
"""
