"""Stands in for the AWS library, of which Feast's module of online tests imports one exception for its test of DynamoDB.

The library itself cannot be installed beside ours: it wants another major version of python-dateutil.
"""
