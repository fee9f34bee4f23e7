"""Splits and cash dividends against what is known already: instruments, their sessions, other reports, the close before.

A list of corporate actions holds whole markets, in any order. Its rows are given by ex-date; what takes effect with a
session is stored with that session's open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.compute.sessions import session_times
from tapeline.core.timestamps import DAY_US
from tapeline.features.versions import Actions, close_before
from tapeline.ingestion.calendars import session_days
from tapeline.ingestion.master import Split
from tapeline.ingestion.reading import UTC_US
from tapeline.storage.reference import Instrument, Source

SPLIT, DIVIDEND = "split", "dividend"
_KEY = ("symbol", "kind", "event_timestamp", "sequence")
_CONTENT = ("ratio", "amount", "currency")
_ActionKey = tuple[int, bool, int]
"""Effective time (µs), whether it is a dividend, sequence: the order in which actions take effect."""
_RETRACTED = pl.col("deleted").fill_null(False)

# Of each symbol and moment, each source's last price before it, as recorded now.
_LAST_PRICE = """
    SELECT a.place, s.source, (extract(epoch FROM last.event_timestamp) * 1000000)::bigint, last.price
    FROM unnest(%(symbols)s::text[], %(moments)s::timestamptz[]) WITH ORDINALITY AS a (symbol, moment, place)
    CROSS JOIN tapeline.sources s
    CROSS JOIN LATERAL (
        SELECT r.event_timestamp, r.{price} AS price FROM {table} r
        WHERE r.source = s.source AND r.symbol = a.symbol AND r.event_timestamp {before} a.moment
            AND r.{price} > 0 AND r.{price} < 'infinity' AND NOT r.deleted AND NOT EXISTS (
                SELECT FROM {table} n
                WHERE n.source = r.source AND n.symbol = r.symbol AND n.event_timestamp = r.event_timestamp
                    AND n.sequence = r.sequence AND n.created_timestamp > r.created_timestamp)
        ORDER BY r.event_timestamp DESC, r.sequence DESC LIMIT 1) last
    WHERE s.kind = {kind}
"""
# A bar that ends with the open lies before it; a trade at that moment does not.
_PRICES = (("bars", "close", "<="), ("trades", "price", "<"))


def actions_of_splits(splits: Iterable[Split]) -> pl.DataFrame:
    """Rows for :func:`tapeline.storage.raw.append_rows`."""
    rows = [(one.symbol, SPLIT, one.event_us, one.published_us, one.ratio) for one in splits]
    names = {"symbol": pl.String, "kind": pl.String, "event_timestamp": pl.Int64, "published_timestamp": pl.Int64}
    frame = pl.DataFrame(rows, schema={**names, "ratio": pl.Float64}, orient="row")
    return frame.with_columns(pl.col("event_timestamp", "published_timestamp").cast(UTC_US))


class ActionChecks:
    """Adds to rows of corporate actions what the rules for them ask for.

    Parameters
    ----------
    connection
        To the database with instruments, prices and what was reported before.
    source
        Whose rows they are.
    instruments
        Of the symbols that may come; others are unknown.
    """

    def __init__(self, connection: psycopg.Connection[Any], source: Source, instruments: Sequence[Instrument]) -> None:
        self._connection = connection
        self._source = source
        self._instruments = pl.DataFrame(
            [(one.symbol, one.valid_from_us, one.calendar, one.currency) for one in instruments],
            schema={"symbol": pl.String, "_listed": pl.Int64, "_calendar": pl.String, "_currency": pl.String},
            orient="row",
        ).sort("_listed")

    def complete(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Kind, effective time and currency of each row, and what speaks against it.

        Returns
        -------
        polars.DataFrame
            The rows in their order, with ``_known``, ``_session``, ``_session_reason``, ``_kind_reason``, ``_currency``,
            ``_other`` and ``_other_says``; null where nothing can be said.
        """
        frame = self._placed(self._listed(_of_kind(frame)))
        frame = frame.with_columns(
            published_timestamp=pl.coalesce("published_timestamp", "published_date"),
            currency=pl.when(pl.col("kind") == DIVIDEND).then(
                pl.coalesce(pl.col("currency").str.to_uppercase(), "_currency")
            ),
        )
        return self._with_others(frame, self._stored(frame["symbol"].drop_nulls().unique().to_list()))

    def _listed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The instrument that had the symbol on the day; of a day before all of them, the first."""
        day_ends = pl.coalesce(pl.col("ex_date").cast(pl.Datetime("us")).dt.epoch("us"), pl.lit(0)) + DAY_US
        moment = pl.when(pl.col("ex_date").is_null()).then(pl.col("event_timestamp").dt.epoch("us")).otherwise(day_ends)
        order = frame["row"]
        dated = frame.with_columns(_moment=moment.fill_null(0)).sort("_moment")
        first = self._instruments.unique("symbol", keep="first", maintain_order=True)
        found = dated.join_asof(
            self._instruments, left_on="_moment", right_on="_listed", by="symbol", check_sortedness=False
        ).join(first.select("symbol", _first="_calendar", _money="_currency"), on="symbol", how="left")
        found = found.with_columns(
            _known=pl.col("_first").is_not_null(),
            _calendar=pl.coalesce("_calendar", "_first"),
            _currency=pl.coalesce("_currency", "_money"),
        ).drop("_first", "_money", "_listed", "_moment")
        return pl.DataFrame(order).join(found, on="row", how="left", maintain_order="left")

    def _placed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Ex-dates as opens of sessions; a time that is given must be one."""
        opens = [pl.DataFrame(schema={"_calendar": pl.String, "ex_date": pl.Date, "_open": UTC_US})]
        for calendar in frame["_calendar"].drop_nulls().unique():
            sessions = session_times(calendar)
            days = pl.Series(session_days(sessions)).cast(pl.Int32).cast(pl.Date)
            times = pl.Series(sessions.open_us).cast(UTC_US)
            opens.append(pl.DataFrame({"_calendar": [calendar] * len(days), "ex_date": days, "_open": times}))
        known = pl.concat(opens)
        frame = frame.join(known, on=["_calendar", "ex_date"], how="left", maintain_order="left")
        timed = known.select("_calendar", event_timestamp="_open", _opens=pl.lit(True))
        frame = frame.join(timed, on=["_calendar", "event_timestamp"], how="left", maintain_order="left")
        dated, given = pl.col("ex_date").is_not_null(), pl.col("event_timestamp").is_not_null()
        return frame.with_columns(
            _session=pl.when(dated)
            .then(pl.col("_open").is_not_null())
            .when(given)
            .then(pl.col("_opens").is_not_null()),
            _session_reason=pl.when(dated)
            .then(pl.format("{} is no session of {} (known from 1980 to a year ahead)", "ex_date", "_calendar"))
            .otherwise(pl.format("{} is not the open of a session of {}", "event_timestamp", "_calendar")),
            event_timestamp=pl.when(dated).then("_open").otherwise("event_timestamp"),
        ).drop("_open", "_opens")

    def _stored(self, symbols: list[str]) -> pl.DataFrame:
        """The newest version of every action of some symbols."""
        with self._connection.transaction(), self._connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(
                "SELECT DISTINCT ON (symbol, kind, event_timestamp, sequence) symbol, kind,"
                " (extract(epoch FROM event_timestamp) * 1000000)::bigint, sequence, ratio, amount, currency, source,"
                " deleted FROM tapeline.corporate_actions WHERE symbol = ANY(%s) ORDER BY symbol, kind, event_timestamp,"
                " sequence, created_timestamp DESC, available_timestamp DESC",
                (symbols,),
            ).fetchall()
        schema: dict[str, Any] = {"symbol": pl.String, "kind": pl.String, "event_timestamp": pl.Int64}
        schema |= {"sequence": pl.Int64, "ratio": pl.Float64, "amount": pl.Float64, "currency": pl.String}
        frame = pl.DataFrame(rows, schema={**schema, "source": pl.String, "deleted": pl.Boolean}, orient="row")
        return frame.with_columns(pl.col("event_timestamp").cast(UTC_US))

    def _with_others(self, frame: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
        """What another source says otherwise, and has not withdrawn."""
        others = stored.filter(pl.col("source") != self._source.name, ~pl.col("deleted"))
        others = others.select(*_KEY, _other="source", **{f"_their_{name}": pl.col(name) for name in _CONTENT})
        frame = frame.join(others, on=_KEY, how="left", maintain_order="left")
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"_their_{name}")) for name in _CONTENT)
        return frame.with_columns(
            _other=pl.when(~same).then("_other"),
            _other_says=pl.coalesce("_their_amount", "_their_ratio"),
        ).drop(f"_their_{name}" for name in _CONTENT)

    def with_closes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Of dividends, the lowest of all sources' closes before them, on the basis of the ex-date.

        Parameters
        ----------
        frame
            Completed rows that keep all rules of their own, without those that contradict each other.

        Returns
        -------
        polars.DataFrame
            The rows in their order, with ``_close`` and ``_close_source``; null where there is no close.
        """
        paid = frame.filter(pl.col("kind") == DIVIDEND, ~_RETRACTED).sort("symbol", "event_timestamp", "sequence")
        found: list[tuple[int, float, str]] = []
        if not paid.is_empty():
            stored = self._stored(paid["symbol"].unique().to_list())
            actions = _in_order(pl.concat([_rows(stored), _rows(frame)]))
            prices = self._last_prices(paid)
            keys = paid.select("row", *_KEY, "amount").with_columns(pl.col("event_timestamp").dt.epoch("us")).rows()
            for place, (row, symbol, _, event_us, sequence, amount) in enumerate(keys):
                places, known = actions[symbol]
                number = places[event_us, True, sequence]
                closes = [
                    (close_before(price, price_us, known, number), source)
                    for source, price_us, price in prices.get(place, ())
                ]
                if closes:
                    close, source = min(closes)
                    found.append((row, close, source))
                    if not amount < close:  # it will be refused, and lowers no close
                        known.dividend[number] = 0.0
        schema = {"row": pl.Int64, "_close": pl.Float64, "_close_source": pl.String}
        closes_of = pl.DataFrame(found, schema=schema, orient="row")
        return frame.join(closes_of, on="row", how="left", maintain_order="left")

    def _last_prices(self, paid: pl.DataFrame) -> dict[int, list[tuple[str, int, float]]]:
        """By place: source, time and value of the last price before."""
        names = {"symbols": paid["symbol"].to_list(), "moments": paid["event_timestamp"].to_list()}
        found: dict[int, list[tuple[str, int, float]]] = {}
        with self._connection.transaction(), self._connection.cursor(row_factory=tuple_row) as cursor:
            for kind, price, before in _PRICES:
                query = sql.SQL(_LAST_PRICE).format(
                    price=sql.Identifier(price),
                    table=sql.Identifier("tapeline", kind),
                    before=sql.SQL(before),
                    kind=sql.Literal(kind),
                )
                for place, source, price_us, value in cursor.execute(query, names):
                    found.setdefault(place - 1, []).append((source, price_us, value))
        return found


def _of_kind(frame: pl.DataFrame) -> pl.DataFrame:
    """What each row is, by what it has; a retraction may name the kind and nothing else."""
    split, dividend = pl.col("ratio").is_not_null(), pl.col("amount").is_not_null()
    named = pl.col("kind").str.to_lowercase()
    implied = pl.when(split & ~dividend).then(pl.lit(SPLIT)).when(dividend & ~split).then(pl.lit(DIVIDEND))
    retracted = _RETRACTED & ~split & ~dividend
    return frame.with_columns(
        kind=pl.coalesce(implied, named),
        _kind_reason=pl.when(named.is_not_null() & ~named.is_in([SPLIT, DIVIDEND]))
        .then(pl.format("kind is {}; it is split or dividend", "kind"))
        .when(implied.is_null() & ~(retracted & named.is_not_null()))
        .then(pl.lit("it needs a ratio (of a split) or an amount (of a cash dividend), and not both"))
        .when(named != implied)
        .then(pl.format("kind is {}, but it has the numbers of a {}", named, implied)),
    )


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(*_KEY, "ratio", "amount", _RETRACTED)


def _in_order(rows: pl.DataFrame) -> dict[str, tuple[dict[_ActionKey, int], Actions]]:
    """By symbol, places of the actions in the order in which they take effect, and these; of one key, the last row."""
    newest = rows.unique(_KEY, keep="last").filter(~pl.col("deleted"))
    newest = newest.with_columns(pl.col("event_timestamp").dt.epoch("us"), _paid=pl.col("kind") == DIVIDEND)
    found = {}
    for (symbol,), group in newest.sort("event_timestamp", "_paid", "sequence").group_by("symbol", maintain_order=True):
        ratio, dividend = (
            group[name].fill_null(without).to_numpy().astype(np.float64)
            for name, without in (("ratio", 1.0), ("amount", 0.0))
        )
        places = {key: place for place, key in enumerate(group.select("event_timestamp", "_paid", "sequence").rows())}
        found[str(symbol)] = places, Actions(group["event_timestamp"].to_numpy(), ratio, dividend)
    return found
