"""Lineage: from source column through kernel and view to data set, model and served prediction, and back."""
