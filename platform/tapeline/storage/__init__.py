"""Where things are kept: PostgreSQL with or without TimescaleDB, the Redis codec, Arrow in and out, schema and servers.

Encoding is pure; input and output are thin and stand apart from it. Nothing here knows what a feature means.
"""
