"""A planted signal that only the future knows: what comes out of the store's own path must not have found it.

A made-up series is given to the view's kernels at the times of a real one. For each row of the view a coin is thrown, and
shown by a correction of the raw row that becomes available one microsecond after the moment at which the view's row is
read. Each feature, and its change, guesses the coin of its row and that of the next by whether it lies above or below the
median of what was read before. The guess is made before the coin can be seen, so the right guesses among those made are
as many as heads of a fair coin, whatever the feature is. The binomial tail of their number, times the number of guesses
that could have been made and of sequences looked at, bounds the probability of a false alarm.

The same is done three times with a leak on purpose, which must be found: that shows what the test can see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import comb

import numpy as np
import pyarrow as pa
from psycopg import sql

from tapeline.compute.computed import LONG_AGO_US, NewRows
from tapeline.compute.history import Versions
from tapeline.compute.reading import BEGINNING_US
from tapeline.compute.replay import EntityHistory, replay
from tapeline.compute.rows import AvailableFloor, FinishedRows
from tapeline.datasets.plan import ViewSelection
from tapeline.features.versions import Actions, ActionVersions, Floats, Integers
from tapeline.features.view import LongerBars, SessionBars, TradeBars
from tapeline.storage.arrow import copy_arrow
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import NO_ROW_US, SampleSizes, Subject, chosen_versions

CHECK = "planted signal"
ALPHA = 1e-3
"""Bound on the probability of a false alarm, over all features of a view."""
RAW_ROWS_MAX = 200_000
_TABLE = "tapeline_planted"
_SYMBOL = "planted"
_NO_FLOOR = AvailableFloor(LONG_AGO_US, LONG_AGO_US)
_UTC = pa.timestamp("us", tz="UTC")
_JUMP = 0.05
_SPACING = 64
_UNITS_MIN = 150
_MISSES = (0, 1)  # the coin of the row that is read, and of the next


@dataclass(frozen=True)
class Series:
    """The planted raw rows, before and after they are corrected.

    Attributes
    ----------
    first
        First sightings.
    rows
        int64 (n,): the raw row that each coin is shown in.
    coins
        float64 (n,): −1 or 1.
    event_us, moments_us
        int64 (n,): event of the view's row, and when it is read.
    """

    first: Versions
    rows: Integers
    coins: Floats
    event_us: Integers
    moments_us: Integers

    def corrections(self, available_us: Integers) -> Versions:
        """The rows that show the coins."""
        shown = chosen_versions(self.first, self.rows)
        values, coins = shown.values.copy(), self.coins
        if values.shape[1] > 2:  # start, open, high, low, close, volume
            values[:, 4] *= 1.0 + _JUMP * coins
            values[:, 2] = np.maximum(values[:, 2], values[:, 4])
            values[:, 3] = np.minimum(values[:, 3], values[:, 4])
            values[:, 5] *= 1.0 + 0.5 * coins
        else:
            values[:, 0] *= 1.0 + _JUMP * coins
            values[:, 1] /= 1.0 + _JUMP * coins  # bars by value keep their ends
        return replace(shown, available_us=available_us, created_us=available_us, values=values)


@dataclass(frozen=True)
class PlantedResult:
    """What came of it.

    Attributes
    ----------
    units, tests
        Rows read, and sequences of guesses.
    found
        Features that found the coin, with the bound on the probability of that by chance.
    controls
        Of each leak on purpose: how many features found the coin.
    blind
        Features that found it in none of those: the test says nothing about them.
    """

    units: int
    tests: int
    found: dict[str, float]
    controls: dict[str, int]
    blind: tuple[str, ...]


def check_planted(subject: Subject, sizes: SampleSizes) -> PlantedResult | None:
    """Plant, compute, join and score; none if the view has too few rows to plant on."""
    series = _plant(subject, sizes)
    if series is None:
        return None
    clean = _computed(subject, series, series.moments_us + 1)
    with _stored(subject, clean) as selection:
        honest = _chances(subject, selection, series, series.moments_us)
        unheeded = _chances(subject, replace(selection, available_column=None), series, series.event_us)
    with _stored(subject, _computed(subject, series, series.first.available_us[series.rows])) as selection:
        early = _chances(subject, selection, series, series.moments_us)
    with _stored(subject, _one_ahead(clean)) as selection:
        ahead = _chances(subject, selection, series, series.moments_us)
    names = subject.selection.output_names
    controls = {
        "corrections available at once": early,
        "available times not heeded": unheeded,
        "one row ahead": ahead,
    }
    seen = np.min([*controls.values()], axis=0)
    return PlantedResult(
        units=len(series.coins),
        tests=len(names) * _SEQUENCES,
        found={names[i]: float(honest[i]) for i in np.flatnonzero(honest <= ALPHA).tolist()},
        controls={name: int((chances <= ALPHA).sum()) for name, chances in controls.items()},
        blind=tuple(names[i] for i in np.flatnonzero(seen > ALPHA).tolist()),
    )


def faults_of(result: PlantedResult, view: str) -> list[Fault]:
    """What is wrong: features that found the coin, and leaks on purpose that nobody found."""
    faults = [
        Fault(
            CHECK, view, name, detail=f"found what only the future knows; by chance with probability below {chance:.1g}"
        )
        for name, chance in result.found.items()
    ]
    faults += [
        Fault(CHECK, view, detail=f"the test is blind: no feature found the leak on purpose, {name}")
        for name, count in result.controls.items()
        if count == 0
    ]
    return faults


def _plant(subject: Subject, sizes: SampleSizes) -> Series | None:
    """Made-up values at the times of the longest real series among the sampled."""
    if not subject.histories:
        return None
    entity = max(subject.histories, key=lambda name: len(subject.histories[name].versions))
    first = _first_sightings(subject.histories[entity].versions)
    random = np.random.default_rng([sizes.seed, 3])
    first = replace(first, values=_made_up(first.values, random))
    finished = _finished(subject, first, sizes.units)
    rows = _last_raw_rows(subject, first, finished)
    kept = (rows >= 0) & np.append(np.diff(finished.available_us) > 1, True)
    kept &= np.append(np.diff(rows) > 0, True)
    units = np.flatnonzero(kept)[: sizes.units]
    if len(units) < _UNITS_MIN:
        return None
    coins = random.choice([-1.0, 1.0], size=len(units))
    last = int(rows[units].max()) + 1
    return Series(
        chosen_versions(first, np.arange(last)),
        rows[units],
        coins,
        finished.event_us[units],
        finished.available_us[units],
    )


def _first_sightings(versions: Versions) -> Versions:
    """The first version of each key, in the order of keys, but available no later than one that comes after."""
    order = np.lexsort((versions.created_us, versions.available_us, versions.sequence, versions.event_us))
    event, sequence = versions.event_us[order], versions.sequence[order]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (event[1:] != event[:-1]) | (sequence[1:] != sequence[:-1])
    found = chosen_versions(versions, order[new][:RAW_ROWS_MAX])
    available = np.minimum.accumulate(found.available_us[::-1])[::-1]
    available = np.maximum(available, found.event_us)
    return replace(found, available_us=available, created_us=available, live=np.ones(len(found), dtype=np.bool_))


def _made_up(real: Floats, random: np.random.Generator) -> Floats:
    """A price that wanders about the real one's level, and volumes about the real one's."""
    count = len(real)
    noise = random.normal(scale=0.01, size=count)
    path = np.empty(count)
    level = 0.0
    for i in range(count):
        level = 0.97 * level + noise[i]
        path[i] = level
    values = real.copy()
    if real.shape[1] == 2:
        values[:, 0] = _level(real[:, 0]) * np.exp(path)
        values[:, 1] = np.where(real[:, 1] > 0, real[:, 1], 1.0)
        return values
    close = _level(real[:, 4]) * np.exp(path)
    opened = np.concatenate(([close[0]], close[:-1])) * np.exp(random.normal(scale=0.003, size=count))
    wick = np.exp(np.abs(random.normal(scale=0.004, size=(2, count))))
    values[:, 1], values[:, 4] = opened, close
    values[:, 2], values[:, 3] = np.maximum(opened, close) * wick[0], np.minimum(opened, close) / wick[1]
    values[:, 5] = _level(real[:, 5]) * np.exp(random.normal(scale=0.3, size=count))
    return values


def _level(real: Floats) -> float:
    usable = real[np.isfinite(real) & (real > 0)]
    return float(np.median(usable)) if len(usable) else 100.0


def _finished(subject: Subject, first: Versions, units: int) -> FinishedRows:
    """The view's rows over as many raw rows as give so many, or over all."""
    count = min(len(first), 4 * units)
    while True:
        part = chosen_versions(first, np.arange(count))
        finished, _ = subject.runner.advance(
            subject.runner.fresh(),
            part.event_us,
            part.sequence,
            part.available_us,
            np.ascontiguousarray(part.values),
            Actions.none(),
            _NO_FLOOR,
        )
        if len(finished.event_us) > units or count == len(first):
            return finished
        count = min(len(first), 2 * count)


def _last_raw_rows(subject: Subject, first: Versions, finished: FinishedRows) -> Integers:
    """The last raw row of each of the view's rows; −1 where there is none."""
    assert subject.spec is not None
    rows = subject.spec.rows
    if isinstance(rows, SessionBars | LongerBars):
        return np.searchsorted(first.event_us, finished.event_us, side="right") - 1
    if isinstance(rows, TradeBars):  # a bar does not hold what happens at its end
        return np.searchsorted(first.event_us, finished.event_us, side="left") - 1
    places = {key: i for i, key in enumerate(zip(first.event_us.tolist(), first.sequence.tolist(), strict=True))}
    keys = zip(finished.event_us.tolist(), finished.sequence.tolist(), strict=True)
    return np.array([places.get(key, -1) for key in keys], dtype=np.int64)


def _computed(subject: Subject, series: Series, available_us: Integers) -> NewRows:
    """The view's rows, by the back-fill's own replay, with the coins shown at some moments."""
    first, shown = series.first, series.corrections(available_us)
    both = Versions(
        np.concatenate([first.event_us, shown.event_us]),
        np.concatenate([first.sequence, shown.sequence]),
        np.concatenate([first.available_us, shown.available_us]),
        np.concatenate([first.created_us, shown.created_us + 1]),
        np.concatenate([first.live, shown.live]),
        np.concatenate([first.values, shown.values]),
    )
    nothing = np.empty(0, dtype=np.int64)
    none = ActionVersions(nothing, nothing, nothing, nothing, nothing.astype(np.bool_), np.empty(0), np.empty(0))
    return replay(EntityHistory(both, none, BEGINNING_US, None, None), subject.runner, _SPACING).rows


def _one_ahead(rows: NewRows) -> NewRows:
    """Each event's row with the values of the next one's."""
    order = np.lexsort((rows.available_us, rows.sequence, rows.event_us))
    event, sequence = rows.event_us[order], rows.sequence[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (event[1:] != event[:-1]) | (sequence[1:] != sequence[:-1])
    first = np.concatenate(([True], last[:-1]))
    newest, earliest = order[last], order[first]
    return NewRows(
        event[first][:-1],
        sequence[first][:-1],
        rows.available_us[earliest][:-1],
        rows.missing[newest][1:],
        rows.outputs[newest][1:],
    )


@contextmanager
def _stored(subject: Subject, rows: NewRows) -> Iterator[ViewSelection]:
    """The rows in a temporary table, which no other session sees and the server drops however this one ends."""
    assert subject.spec is not None
    columns = list(dict.fromkeys(subject.selection.features))
    connection = subject.connection
    table = pa.table(
        {
            "symbol": pa.array([_SYMBOL] * len(rows)),
            "event_timestamp": pa.array(rows.event_us).cast(_UTC),
            "available_timestamp": pa.array(rows.available_us).cast(_UTC),
            "created_timestamp": pa.array(rows.available_us).cast(_UTC),
            "sequence": pa.array(rows.sequence),
        }
        | {
            name: pa.array(np.ascontiguousarray(rows.outputs[:, subject.spec.columns.index(name)]), mask=rows.missing)
            for name in columns
        }
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE {} (symbol text, event_timestamp timestamptz, available_timestamp timestamptz,"
                " created_timestamp timestamptz, sequence bigint, {}) ON COMMIT DROP"
            ).format(
                sql.Identifier(_TABLE),
                sql.SQL(", ").join(sql.SQL("{} float8").format(sql.Identifier(name)) for name in columns),
            )
        )
        copy_arrow(cursor, table, f"pg_temp.{_TABLE}")
        cursor.execute(
            sql.SQL("CREATE INDEX ON {} (symbol, event_timestamp DESC)").format(sql.Identifier("pg_temp", _TABLE))
        )
        cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("pg_temp", _TABLE)))
        yield replace(
            subject.selection,
            table=f"pg_temp.{_TABLE}",
            entity_columns=("symbol",),
            join_keys=("symbol",),
            ttl_us=0,
            event_column="event_timestamp",
            available_column="available_timestamp",
            created_column="created_timestamp",
            sequence_column="sequence",
        )
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", _TABLE)))


def _chances(subject: Subject, selection: ViewSelection, series: Series, moments_us: Integers) -> Floats:
    """For each feature a bound on the probability that it guessed so well by chance, shape (features,)."""
    planted = replace(subject, selection=selection, keys={_SYMBOL: (_SYMBOL,)}, vintage_us=_FAR_US)
    found = planted.join([_SYMBOL] * len(series.coins), moments_us)
    values = np.where((found.event_us == NO_ROW_US)[:, None], np.nan, found.values)
    changes = np.vstack([np.full((1, values.shape[1]), np.nan), np.diff(values, axis=0)])
    least = np.ones(values.shape[1])
    for guesses in (_guesses(values), _guesses(changes)):
        for ahead in _MISSES:
            right = guesses[: len(guesses) - ahead] * series.coins[ahead:, None]
            made, agreed = (right != 0).sum(axis=0), np.abs(right.sum(axis=0))
            tails = [_tail(int(n), int(n + excess) // 2) for n, excess in zip(made, agreed, strict=True)]
            least = np.minimum(least, np.array(tails) * len(right) * values.shape[1] * _SEQUENCES)
    return least


_SEQUENCES = 2 * len(_MISSES)
_FAR_US = 32_503_680_000_000_000  # the year 3000: the planted rows' recording times are made up


@cache
def _tail(guesses: int, right: int) -> float:
    """Probability that of so many guesses at a fair coin at least so many are right, or wrong."""
    if 2 * right <= guesses:
        return 1.0
    return float(Fraction(2 * sum(comb(guesses, k) for k in range(right, guesses + 1)), 2**guesses))


def _guesses(values: Floats) -> Floats:
    """Sign of each value against the median of the values before it, column by column; 0 where either is missing."""
    signs = np.zeros(values.shape)
    for row in range(1, len(values)):
        past = values[:row]
        below, above = (past < values[row]).sum(axis=0), (past > values[row]).sum(axis=0)
        signs[row] = np.sign(below - above)
    return signs
