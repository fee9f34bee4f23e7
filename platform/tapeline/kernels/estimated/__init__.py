"""Estimators that are fitted again from time to time, as steps of a plan: between two fits they give the last one's result.

A fit reads a window of past observations kept in the state, computes in scratch slots behind them, allocates nothing and
takes its starting points from the window alone, so that equal windows give equal results, bit for bit. The step's last
result is the age of the fit: the rows since the one in which it was made.
"""
