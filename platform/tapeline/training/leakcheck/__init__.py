"""The leakage gate: shows of a service's stored values that none of them has seen the future, and that it would notice.

>>> from tapeline.training.leakcheck import leakcheck                # doctest: +SKIP
>>> leakcheck(connection, plan).require_clean()                      # doctest: +SKIP
"""

from tapeline.training.leakcheck.gate import leakcheck, steps
from tapeline.training.leakcheck.on_demand import OnDemandView
from tapeline.training.leakcheck.own import OwnFeatures
from tapeline.training.leakcheck.report import Fault, LeakReport, Outcome
from tapeline.training.leakcheck.subject import SampleSizes

__all__ = ["Fault", "LeakReport", "OnDemandView", "Outcome", "OwnFeatures", "SampleSizes", "leakcheck", "steps"]
