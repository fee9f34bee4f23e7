"""Steps over ticks: trades and book updates of one symbol.

A tick carries some columns and not others, so NaN means "not now" here. Steps that compute from an event keep to the rule
of all primitives: an input that is NaN leaves the state alone and gives NaN. Steps that keep what is current, in
:mod:`~tapeline.kernels.microstructure.current`, are the exception, and say so.
"""
