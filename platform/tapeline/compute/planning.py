"""What a back-fill would compute, and why, asked of the database without computing anything.

It looks with the back-fill's own eyes: :func:`tapeline.compute.reading.read_changes` says what is missing, here and there. Rows
and seconds are estimates, everything else is exact.

There is no choice of a first or last event time. A feature's value depends on all rows before it by way of the kernel's state,
and a correction changes every row after it: part of a range would either be computed from a wrong state, or leave rows
that the correction made wrong. What can be chosen is the views, their versions and the symbols.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from tapeline.compute.reading import BEGINNING_US, Change, choose_symbols, read_changes, source_symbols
from tapeline.core.timestamps import format_us, from_us, to_us
from tapeline.features.view import FeatureViewSpec, LongerBars, TradeBars, TradedBars
from tapeline.storage.feature_tables import is_registered
from tapeline.storage.snapshots import Progress, action_kinds, raw_table, read_progress

CELLS_PER_S = 400_000.0
"""Feature values that one second computes and writes: a rough rate of a machine with two cores."""
RAW_ROWS_PER_S = 250_000.0
"""Raw rows that one second reads."""
_UNBOUNDED = 2**62
_REASONS = ("never computed", "new rows", "late rows", "corrections", "retractions", "splits & dividends")


@dataclass(frozen=True)
class MissingRows:
    """What is missing of one entity in one view version.

    Attributes
    ----------
    view, version, symbol
        Where.
    first_event_us, last_event_us
        Range of event times of the rows to be computed.
    raw_rows
        Raw rows that will be read as new: all that became known since the first of them.
    reasons
        Why, and how many raw rows (or splits and dividends) for each reason.
    estimated_rows
        Feature rows to be computed; more if corrections go back several times.
    estimated_s
        Seconds, kernels compiled.
    """

    view: str
    version: int
    symbol: str
    first_event_us: int
    last_event_us: int
    raw_rows: int
    reasons: Mapping[str, int]
    estimated_rows: int
    estimated_s: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON data, with ISO 8601 times."""
        data = asdict(self)
        first_us, last_us = data.pop("first_event_us"), data.pop("last_event_us")
        return data | {"first_event": format_us(first_us), "last_event": format_us(last_us)}


def backfill_plan(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, *, symbols: Sequence[str] | None = None
) -> list[MissingRows]:
    """What :func:`tapeline.compute.backfill` with the same arguments would compute now; empty if nothing is missing.

    Parameters
    ----------
    connection
        An idle connection to a migrated database. Nothing is written, and no kernel is compiled.
    spec
        The view.
    symbols
        Entities; all of the source if not given.

    Returns
    -------
    list of MissingRows
        One for each entity that has something missing, in order.

    Raises
    ------
    LineageError
        If the view version is registered with another definition.
    UnknownNameError
        If a symbol has no rows in the view's source.
    EmptyDataError
        If the source has no rows at all.

    Examples
    --------
    >>> from tapeline.features.catalogue import view
    >>> for missing in backfill_plan(connection, view("daily_technical")):  # doctest: +SKIP
    ...     print(missing.symbol, missing.raw_rows, dict(missing.reasons))
    """
    with connection.transaction():
        is_registered(connection, spec)
        chosen = choose_symbols(symbols, source_symbols(connection, spec), spec)
        progress = read_progress(connection, spec, chosen)
        changes = read_changes(connection, spec, chosen, progress, _UNBOUNDED)
        reasons = _reasons(connection, spec, changes, progress)
        sizes = _sizes(connection, spec, changes)
    return [
        _missing(spec, change, reasons[change.symbol], *sizes[change.symbol])
        for change in sorted(changes, key=lambda change: change.symbol)
    ]


def _missing(
    spec: FeatureViewSpec, change: Change, reasons: Mapping[str, int], last_us: int | None, rows: int
) -> MissingRows:
    first_us = change.before_event_us
    return MissingRows(
        view=spec.name,
        version=spec.version,
        symbol=change.symbol,
        first_event_us=first_us,
        last_event_us=first_us if last_us is None else max(first_us, last_us),
        raw_rows=change.rows,
        reasons=reasons,
        estimated_rows=rows,
        estimated_s=change.rows / RAW_ROWS_PER_S + rows * (len(spec.columns) + 5) / CELLS_PER_S,
    )


def _reasons(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    changes: Iterable[Change],
    progress: Mapping[str, Progress],
) -> dict[str, dict[str, int]]:
    """Of each entity how many raw rows and actions the back-fill has not seen, by what they are."""
    found = {c.symbol: {_REASONS[0]: c.rows} for c in changes if c.symbol not in progress}
    known = [c.symbol for c in changes if c.symbol in progress]
    if not known:
        return found
    # A row counts as late if the back-fill has seen one of a later event; as a correction if its key was there before.
    query = sql.SQL("""
        SELECT a.symbol, u.fresh, u.late, u.corrections, u.retractions, c.actions
        FROM unnest(%(symbols)s::text[], %(recorded)s::timestamptz[], %(available)s::timestamptz[])
            AS a (symbol, recorded, available)
        CROSS JOIN LATERAL (
            SELECT max(s.event_timestamp) AS reached FROM {raw} s
            WHERE s.source = %(source)s AND s.symbol = a.symbol
                AND s.created_timestamp <= a.recorded AND s.available_timestamp <= a.available) seen
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE NOT again AND r.event_timestamp > coalesce(seen.reached, '-infinity')) AS fresh,
                count(*) FILTER (WHERE NOT again AND r.event_timestamp <= seen.reached) AS late,
                count(*) FILTER (WHERE again AND NOT r.deleted) AS corrections,
                count(*) FILTER (WHERE again AND r.deleted) AS retractions
            FROM {raw} r
            CROSS JOIN LATERAL (SELECT EXISTS (
                SELECT FROM {raw} o
                WHERE o.source = r.source AND o.symbol = r.symbol AND o.event_timestamp = r.event_timestamp
                    AND o.sequence = r.sequence
                    AND (o.available_timestamp, o.created_timestamp) < (r.available_timestamp, r.created_timestamp)
                ) AS again) older
            WHERE r.source = %(source)s AND r.symbol = a.symbol
                AND (r.created_timestamp > a.recorded OR r.available_timestamp > a.available)) u
        CROSS JOIN LATERAL (
            SELECT count(*) AS actions FROM tapeline.corporate_actions c
            WHERE c.symbol = a.symbol AND c.kind = ANY(%(kinds)s)
                AND (c.created_timestamp > a.recorded OR c.available_timestamp > a.available)) c
    """).format(raw=raw_table(spec))
    parameters = {
        "symbols": known,
        "recorded": [from_us(progress[symbol].recorded_us) for symbol in known],
        "available": [from_us(progress[symbol].available_us) for symbol in known],
        "source": spec.rows.source,
        "kinds": action_kinds(spec),
    }
    for symbol, *counts in connection.execute(query, parameters).fetchall():
        found[symbol] = {reason: n for reason, n in zip(_REASONS[1:], counts, strict=True) if n}
    return found


def _sizes(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, changes: Sequence[Change]
) -> dict[str, tuple[int | None, int]]:
    """Of each entity the last event, and about how many feature rows its raw rows from the first changed one on make."""
    query = sql.SQL(
        "SELECT a.symbol, max(r.event_timestamp), coalesce(ceil({count}), 0)::bigint"
        " FROM unnest(%(symbols)s::text[], %(first)s::timestamptz[]) AS a (symbol, first)"
        " LEFT JOIN {raw} r ON r.source = %(source)s AND r.symbol = a.symbol AND r.event_timestamp >= a.first"
        " GROUP BY a.symbol"
    ).format(raw=raw_table(spec), count=_count_of_rows(spec))
    rows = connection.execute(
        query,
        {
            "symbols": [change.symbol for change in changes],
            "first": [from_us(max(change.before_event_us, BEGINNING_US)) for change in changes],
            "source": spec.rows.source,
        },
    ).fetchall()
    return {symbol: (None if last is None else to_us(last), count) for symbol, last, count in rows}


def _count_of_rows(spec: FeatureViewSpec) -> sql.Composable:
    """How many feature rows raw rows make."""
    rows = spec.rows
    if isinstance(rows, TradedBars):
        traded = {"tick": sql.SQL("1"), "volume": sql.SQL("r.size"), "dollar": sql.SQL("r.price * r.size")}[
            rows.measure
        ]
        # Trades without a usable price or size are in no bar; NaN is greater than infinity here.
        return sql.SQL(
            "least(sum({traded}) FILTER (WHERE r.price > 0 AND r.size >= 0 AND r.price * r.size < 'Infinity')"
            " / {threshold}, 1e18)"
        ).format(traded=traded, threshold=sql.Literal(rows.threshold))
    width_us = 0
    if isinstance(rows, TradeBars):
        width_us = rows.width_us
    elif isinstance(rows, LongerBars):
        width_us = rows.frame.width_us
    if width_us:
        return sql.SQL("count(DISTINCT floor(extract(epoch FROM r.event_timestamp) * 1000000 / {}))").format(
            sql.Literal(width_us)
        )
    return sql.SQL("count(DISTINCT (r.event_timestamp, r.sequence)) FILTER (WHERE r.event_timestamp IS NOT NULL)")
