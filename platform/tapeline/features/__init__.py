"""Features: requests, and the plans that compute them.

A :class:`FeatureRequest` names an indicator with its parameters; a :class:`FeaturePlan` fuses many requests into one
compiled function. :mod:`tapeline.features.leakage` tests any plan for look-ahead.
"""

from __future__ import annotations

from tapeline.features.plan import FeaturePlan
from tapeline.features.request import FeatureRequest
from tapeline.features.state import StatePosition

__all__ = ["FeaturePlan", "FeatureRequest", "StatePosition"]
