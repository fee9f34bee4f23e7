"""Labels belong to the future: none may stand among the features, and each must end after its entity row."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from tapeline.core.errors import TapelineError
from tapeline.core.timestamps import format_us
from tapeline.datasets.entity_inputs import is_intraday
from tapeline.datasets.inputs import describe_views, price_source
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.ordering import in_time_order
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.slices import LABEL_COLUMNS, Recipe, make_rows
from tapeline.features.versions import Floats
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import numbers

LABELS = "labels"
_CORRELATION_MAX = 0.85
_ROWS_MIN = 30
_UTC = pa.timestamp("us", tz="UTC")


def check_names(plan: RetrievalPlan) -> list[Fault]:
    """Features that are called like an export's label columns."""
    return [
        Fault(LABELS, view.view, name, detail="is called like a label")
        for view in plan.views
        for name in view.output_names
        if name in LABEL_COLUMNS
    ]


def check_labels(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    rows: pa.Table,
    labels: str | None,
    vintage_us: int,
) -> tuple[int, list[Fault], str]:
    """Label entity rows as an export does; returns the number of cases, the faults, and what could not be done."""
    views = describe_views(connection, plan)
    named = check_names(plan)
    if named:
        return len(named), named, ""
    if not any(view.definition for view in views) or plan.entity_columns != ("symbol",):
        return len(plan.output_names), [], "no prices are known: names only"
    intraday = is_intraday(rows, LabelSpec.parse(labels)) if labels else False
    source = price_source(connection, views, None, intraday=intraday)
    assert source is not None
    spec = LabelSpec.parse(labels or ("forward_return:5d" if source.kind == "bars" else "forward_return:1h"))
    try:
        table, _ = make_rows(
            connection, Recipe(plan, vintage_us, spec, source), in_time_order(rows, plan.entity_columns)
        )
    except TapelineError as error:
        return len(plan.output_names), [], f"labels cannot be made: {error.what}"
    faults = _ends(table) + _carriers(plan, table)
    return table.num_rows * (1 + len(plan.output_names)), faults, f"{spec}, {table.num_rows} rows"


def _ends(table: pa.Table) -> list[Fault]:
    event = table.column("event_timestamp").cast(pa.int64()).to_numpy()
    end = table.column(LABEL_COLUMNS[2]).cast(_UTC).cast(pa.int64()).to_numpy()
    return [
        Fault(
            LABELS,
            "labels",
            entity=str(table.column("symbol")[row]),
            moment=format_us(int(event[row])),
            detail=f"ends at {format_us(int(end[row]))}, not after its entity row",
        )
        for row in np.flatnonzero(end <= event).tolist()
    ]


def _carriers(plan: RetrievalPlan, table: pa.Table) -> list[Fault]:
    """Features that are the outcome, or as good as that."""
    faults = []
    returns, _ = numbers(table.column(LABEL_COLUMNS[1]))
    for view in plan.views:
        for name in view.output_names:
            values, _ = numbers(table.column(name))
            both = np.isfinite(values) & np.isfinite(returns)
            if both.sum() < _ROWS_MIN:
                continue
            found = abs(_rank_correlation(values[both], returns[both]))
            if found > _CORRELATION_MAX:
                detail = f"its rank correlation with the outcome is {found:.3f}"
                faults.append(Fault(LABELS, f"{view.view}@{view.version}", name, detail=detail))
    return faults


def _rank_correlation(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks, ties in the middle."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2.0
