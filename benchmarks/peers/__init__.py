"""Peers that need an environment of their own, made on demand under ``benchmarks/.peers``."""
