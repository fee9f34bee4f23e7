"""Stubs that `python proto/generate.py` writes; never edited by hand."""
