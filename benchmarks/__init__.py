"""Benchmarks: one file a question, each with its peer in the same run. ``python -m benchmarks [NAME…]``."""
