"""Benchmarks: each a command, `python -m benchmarks.NAME`, that writes what it measured under `results/`."""
