from __future__ import annotations

import psycopg
import pytest
from tapeline.training.leakcheck import SampleSizes, leakcheck

from tests.training import leakcheck_market as market

SIZES = SampleSizes(entities=2, moments=40, futures=6, units=300)


def test_clean(connection):
    market.daily(connection)
    market.trades(connection)
    specs = (market.DAILY, market.WEEKLY, market.MINUTES, market.DOLLARS, market.TICKS)
    market.fill(connection, *specs)
    for spec in specs:
        report = leakcheck(connection, market.plan_of(spec), sizes=SIZES)
        print(spec.name, report.seconds)
        for o in report.outcomes: print(o)
        for f in report.faults[:8]: print("  ", f)
