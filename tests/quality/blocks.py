"""Small blocks of rows to judge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.quality.block import Block, Expectations, numbered

START_US = to_us("2010-01-04T21:00:00+00:00")
LAG_US = 900_000_000
NOW_US = to_us("2020-01-01T00:00:00+00:00")
SPEC = FeatureViewSpec(
    name="small",
    version=3,
    rows=SessionBars(source="us-daily", calendar="XNYS"),
    features=(FeatureRequest.of("SMA", timeperiod=3), FeatureRequest.of("RSI", timeperiod=4)),
    ttl_us=0,
)
EXPECTED = Expectations.of(SPEC, LAG_US)


def block(days: int = 10, names: tuple[str, ...] = ("AAA", "BBB"), **changes: Any) -> Block:
    """Sound rows: NaN in the warm-up (3 and 5 rows), values that are possible, all on time."""
    count = days * len(names)
    entity = np.repeat(np.arange(len(names)), days)
    day = np.tile(np.arange(days), len(names))
    event_us = START_US + day * DAY_US
    values = np.column_stack([50.0 + day, 40.0 + day])
    for place, warm_up in enumerate(EXPECTED.warm_up.tolist()):
        values[day + 1 < warm_up, place] = np.nan
    made = Block(
        view="small",
        version=3,
        origin="backfill",
        expected=EXPECTED,
        names=names,
        entity=entity,
        event_us=event_us,
        sequence=np.zeros(count, np.int64),
        available_us=event_us + LAG_US,
        row_number=day + 1,
        withdrawn=np.zeros(len(names), np.int64),
        known=np.zeros(count, np.bool_),
        retracted=np.zeros(count, np.bool_),
        values=values,
    )
    return replace(made, **changes)


def numbers(made: Block) -> Block:
    """The same with row numbers and repeated keys as its times say."""
    before = np.zeros(len(made.names), np.int64)
    number, known = numbered(made.entity, made.event_us, made.sequence, made.available_us, before)
    return replace(made, row_number=number, known=known)
