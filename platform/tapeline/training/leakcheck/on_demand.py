"""On-demand features: each row's outputs must depend on that row alone, whatever other rows are computed with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tapeline.features.versions import Floats
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import SampleSizes, numbers, same_bits

CHECK = "on-demand rows alone"
_ALONE_MAX = 16


@dataclass(frozen=True)
class OnDemandView:
    """An on-demand view, as whoever knows it computes it.

    Attributes
    ----------
    name
        Of the view.
    outputs
        Its features.
    request
        Columns that come with a request; made up for the check.
    compute
        From a table with the service's features and the request's columns to one with the outputs, row by row.
    """

    name: str
    outputs: tuple[str, ...]
    request: tuple[str, ...]
    compute: Callable[[pa.Table], pa.Table]


def check_on_demand(view: OnDemandView, inputs: pa.Table, sizes: SampleSizes) -> tuple[int, list[Fault]]:
    """Compute all rows together, in another order, the first half, and some alone; every row must come out the same."""
    random = np.random.default_rng([sizes.seed, 4])
    count = inputs.num_rows
    for name in view.request:
        inputs = inputs.append_column(name, pa.array(100.0 * np.exp(random.normal(scale=0.1, size=count))))
    together = _outputs(view, inputs)
    order = random.permutation(count)
    faults: list[Fault] = []
    cases = 0
    parts = [("in another order", order), ("the first half", np.arange(count // 2))]
    parts += [("alone", np.array([row])) for row in random.permutation(count)[:_ALONE_MAX].tolist()]
    seen: set[str] = set()
    for how, rows in parts:
        if len(rows) == 0:
            continue
        found = _outputs(view, inputs.take(pa.array(rows)))
        cases += found.size
        for row, place in np.argwhere(~same_bits(found, together[rows])).tolist():
            name = view.outputs[place]
            if name in seen:
                continue
            seen.add(name)
            faults.append(
                Fault(
                    CHECK,
                    view.name,
                    name,
                    entity=f"row {int(rows[row])}",
                    stored=float(together[rows[row], place]),
                    expected=float(found[row, place]),
                    detail=f"computed {how} it is another value: it reads other rows",
                )
            )
    return cases, faults


def _outputs(view: OnDemandView, inputs: pa.Table) -> Floats:
    table = view.compute(inputs)
    return np.column_stack([numbers(table.column(name))[0] for name in view.outputs])
