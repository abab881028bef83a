"""Throughput of the worker beside the servers a user would pick instead. Run `python -m benchmarks`."""
