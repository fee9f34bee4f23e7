"""Stands in for Google's BigQuery client, which a helper of Feast's online tests imports beside what they need.

The client itself cannot be installed beside ours: it wants another major version of python-dateutil.
"""
