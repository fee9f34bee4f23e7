"""Contracts that an online store behind Feast should keep, stated once and asked of this store and of Feast's Redis store.

``world`` holds the repository and the stores; the modules of contracts are ``reading``, ``writing`` and ``lifetime``;
``differences`` is the table of what a store does otherwise, and why. ``tests/feast_ext/test_online_conformance.py`` runs them.
"""
