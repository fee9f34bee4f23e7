"""Changes everything after a moment, in raw rows and in stored values, and shuffles the entity rows: nothing may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from psycopg import sql

from tapeline.compute.history import Versions
from tapeline.compute.reading import BEGINNING_US
from tapeline.compute.replay import EntityHistory as ReplayHistory
from tapeline.compute.replay import replay
from tapeline.core.timestamps import format_us, from_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import Method
from tapeline.features.versions import ActionVersions, Floats, naming
from tapeline.storage.copy_reader import describe
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import NO_ROW_US, EntityHistory, Sampled, SampleSizes, Subject, same_bits

OTHER_RAW = "other raw future"
OTHER_STORED = "other stored future"
SHUFFLED = "shuffled entity rows"
POISON = 2.0**1000
"""Stands where a value of the future stood: no feature has it."""
_SPACING = 1_024
_CUTS = 4
_AFTER = "with other raw rows after that moment"
_FLOAT_OIDS = frozenset({700, 701})


def check_other_raw(
    subject: Subject, sample: Sampled, sizes: SampleSizes, advance: Callable[[int], object] = lambda _: None
) -> tuple[int, list[Fault]]:
    """Back-fill in memory over histories whose rows after t are shuffled, scaled and retracted; the value at t must stay.

    Returns
    -------
    tuple
        Number of values compared, and the faults.
    """
    faults: list[Fault] = []
    cases = 0
    random = np.random.default_rng([sizes.seed, 1])
    for entity in subject.entities:
        # Where the store gives no row it is too old, or there is none: the truncated history says which.
        rows = [row for row, name in enumerate(sample.entities) if name == entity and sample.event_us[row] != NO_ROW_US]
        for row in random.permutation(rows)[: sizes.futures].tolist():
            found = _value_with_other_future(subject, entity, int(sample.moments_us[row]), random)
            advance(1)
            cases += len(subject.places)
            mine = sample.values[row]
            expected = np.full(len(mine), np.nan) if found is None else found
            faults += [
                subject.fault(OTHER_RAW, sample, row, place, float(mine[place]), float(expected[place]), _AFTER)
                for place in np.flatnonzero(~same_bits(mine, expected)).tolist()
            ]
    return cases, faults


def _value_with_other_future(
    subject: Subject, entity: str, moment_us: int, random: np.random.Generator
) -> Floats | None:
    history = subject.histories[entity]
    other = ReplayHistory(
        _other_versions(history.versions, moment_us, random),
        _other_actions(history, moment_us),
        BEGINNING_US,
        None,
        None,
    )
    with naming(entity):
        rows = replay(other, subject.runner, _SPACING).rows
    visible = np.flatnonzero((rows.event_us <= moment_us) & (rows.available_us <= moment_us))
    if len(visible) == 0:
        return None
    order = np.lexsort((visible, rows.available_us[visible], rows.sequence[visible], rows.event_us[visible]))
    row = int(visible[order[-1]])
    return None if rows.missing[row] else rows.outputs[row][subject.places]


def _other_versions(versions: Versions, moment_us: int, random: np.random.Generator) -> Versions:
    """The same keys and times; what became available later says something else."""
    future = np.flatnonzero(versions.available_us > moment_us)
    values, live = versions.values.copy(), versions.live.copy()
    content = slice(1, None) if values.shape[1] > 2 else slice(None)  # a bar's start stays
    values[future, content] = values[random.permutation(future), content]
    values[future, content] *= random.uniform(0.5, 2.0, size=(len(future), 1))
    live[future] &= random.random(len(future)) > 0.1
    if values.shape[1] == 2:  # a trade without a usable price or size is none
        live &= np.isfinite(values).all(axis=1) & (values[:, 0] > 0) & (values[:, 1] >= 0)
    return replace(versions, values=values, live=live)


def _other_actions(history: EntityHistory, moment_us: int) -> ActionVersions:
    actions = history.actions
    return replace(actions, ratio=np.where(actions.available_us > moment_us, actions.ratio * 3.0, actions.ratio))


def check_other_stored(subject: Subject, sample: Sampled) -> tuple[int, list[Fault]]:
    """Join against the view's table with every value that was not yet available replaced; none may come out."""
    numeric = _float_features(subject)
    if not numeric or len(sample) == 0:
        return 0, []
    narrow = subject.with_features(numeric)
    names = np.array([subject.selection.features.index(name) for name in numeric], dtype=np.intp)
    faults: list[Fault] = []
    cases = 0
    for cut_us in np.unique(np.quantile(sample.moments_us, np.linspace(0.25, 1.0, _CUTS)).astype(np.int64)).tolist():
        rows = np.flatnonzero(sample.moments_us <= cut_us)
        selection = _poisoned(narrow, cut_us)
        found = narrow.join([sample.entities[row] for row in rows], sample.moments_us[rows], selection=selection)
        before = sample.values[np.ix_(rows, names)]
        cases += before.size
        for row, place in np.argwhere(~same_bits(found.values, before)).tolist():
            faults.append(
                narrow.fault(
                    OTHER_STORED,
                    found,
                    row,
                    place,
                    float(before[row, place]),
                    None,
                    f"taken from the row of {format_us(int(sample.event_us[rows[row]]))}, which was not available",
                )
            )
    return cases, faults


def _float_features(subject: Subject) -> list[str]:
    with subject.connection.transaction():
        columns = describe(subject.connection, subject.everything)
    floats = {column.name for column in columns if column.oid in _FLOAT_OIDS}
    return [name for name in subject.selection.features if name in floats]


def available_expression(subject: Subject) -> sql.Composable:
    """When a stored row may be used: the view's own column, or the table's, should the view not name it."""
    selection = subject.selection
    with subject.connection.transaction():
        columns = describe(subject.connection, subject.everything)
    names = {column.name for column in columns}
    parts = [selection.event_column]
    for name in (selection.available_column, "available_timestamp"):
        if name is not None and name in names and name not in parts:
            parts.append(name)
    return sql.SQL("greatest({})").format(sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(n)) for n in parts))


def _poisoned(subject: Subject, cut_us: int) -> ViewSelection:
    """The selection over a query that replaces what was not available by a moment."""
    selection = subject.selection
    optional = (selection.available_column, selection.created_column, selection.sequence_column)
    kept = dict.fromkeys((*selection.join_keys, selection.event_column, *filter(None, optional)))
    visible = sql.SQL("{} <= {}").format(available_expression(subject), sql.Literal(from_us(cut_us)))
    columns: list[sql.Composable] = [sql.SQL("s.{}").format(sql.Identifier(name)) for name in kept]
    columns += [
        sql.SQL("CASE WHEN {} THEN s.{} ELSE {} END AS {}").format(
            visible,
            sql.Identifier(name),
            sql.SQL(f"float8 '{POISON!r}'"),
            sql.Identifier(name),
        )
        for name in selection.features
    ]
    query = sql.SQL("(SELECT {} FROM {} AS s)").format(sql.SQL(", ").join(columns), subject.table)
    return replace(selection, table=query.as_string(subject.connection))


def check_shuffled(subject: Subject, sample: Sampled, sizes: SampleSizes) -> tuple[int, list[Fault]]:
    """Join the same rows in another order, among rows of the same entities at other times, by each method."""
    random = np.random.default_rng([sizes.seed, 2])
    count = len(sample)
    shift = random.integers(1, 10**9, size=count) * random.choice([-1, 1], size=count)
    entities = sample.entities * 2
    moments = np.concatenate([sample.moments_us, sample.moments_us + shift])
    order = random.permutation(2 * count)
    place_of = np.argsort(order)[:count]
    faults: list[Fault] = []
    methods: tuple[Method, ...] = ("lookup", "merge")
    for method in methods:
        found = subject.join([entities[i] for i in order], moments[order], method=method)
        values, missing = found.values[place_of], found.missing[place_of]
        wrong = ~same_bits(values, sample.values) | (missing != sample.missing)
        for row, place in np.argwhere(wrong).tolist():
            faults.append(
                subject.fault(
                    SHUFFLED,
                    sample,
                    row,
                    place,
                    float(sample.values[row, place]),
                    float(values[row, place]),
                    f"joined in another order, method {method}",
                )
            )
    return 2 * sample.values.size, faults
