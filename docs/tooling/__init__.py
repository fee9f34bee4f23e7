"""Writes what the documentation and the type stub say of the features, from their specifications: ``python -m docs.tooling``."""
