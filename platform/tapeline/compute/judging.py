"""What a back-fill is about to write, as blocks for the quality gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapeline.compute.computed import NewRows
from tapeline.compute.replay import EntityHistory
from tapeline.compute.rows import RowRunner
from tapeline.features.versions import Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.block import Block, Expectations, numbered


def block_of(
    spec: FeatureViewSpec,
    runner: RowRunner,
    symbols: Sequence[str],
    histories: Sequence[EntityHistory],
    entity: Integers,
    rows: NewRows,
) -> Block:
    """The block of the rows that a batch of entities adds.

    Parameters
    ----------
    spec, runner
        The view.
    symbols, histories
        The entities.
    entity
        int64: of each row, its place among them.
    rows
        The rows, of all entities one after another.
    """
    bases = [0 if one.base is None else runner.plan.position(one.base.state.plan).rows_seen for one in histories]
    stored = [one.stored for one in histories]
    old_entity = np.repeat(np.arange(len(stored)), [0 if one is None else len(one.event_us) for one in stored])
    there = [one for one in stored if one is not None]
    number, known = numbered(
        np.concatenate([old_entity, entity]),
        np.concatenate([*(one.event_us for one in there), rows.event_us]),
        np.concatenate([*(one.sequence for one in there), rows.sequence]),
        np.concatenate([*(one.available_us for one in there), rows.available_us]),
        np.array(bases, dtype=np.int64),
    )
    values = rows.outputs
    if rows.missing.any():
        values = np.where(rows.missing[:, None], np.nan, values)
    return Block(
        view=spec.name,
        version=spec.version,
        origin="backfill",
        expected=Expectations.of(spec, runner.lag_us),
        names=tuple(symbols),
        entity=entity,
        event_us=rows.event_us,
        sequence=rows.sequence,
        available_us=rows.available_us,
        row_number=number[len(old_entity) :],
        # A withdrawn row has a key, and did not warm anything up.
        withdrawn=np.array([int(np.count_nonzero(~one.versions.live)) for one in histories], dtype=np.int64),
        known=known[len(old_entity) :],
        retracted=rows.missing,
        values=values,
    )
