"""Feast's own universal tests of offline and online stores, run against these: ``python -m tests.universal``, and in ``make soak``.

They are not part of Feast's packages, so their source has to be had first: see `source`. They run in an environment of
their own, since they import what this project does not need, over a database of their own. `explained` has a reason for
each test that is skipped or fails; one without a reason is a failure here.
"""
