"""Contracts that every offline store behind Feast should keep, stated once and asked of four stores alike.

``world`` holds the data, the repository and the stores; ``contract`` what a contract is; the modules of contracts are
``joining``, ``shapes``, ``typing``, ``pulling`` and ``writing``; ``differences`` is the table of what a store does otherwise, and
why. ``tests/feast_ext/test_conformance.py`` runs them.
"""
