"""Tapeline: point-in-time-correct features for market data, from the tape to a served prediction."""

__version__ = "0.1.0"
