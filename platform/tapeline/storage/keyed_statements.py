"""The SQL of an idempotent append to a table of keyed rows; see `tapeline.storage.keyed_rows`. Text only, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

_STAGED = "incoming"
_BATCH, _STORED = sql.SQL("i"), sql.SQL("s")
_LATER, _EARLIER = sql.SQL("(a)"), sql.SQL("(b)")


@dataclass(frozen=True, slots=True)
class KeyedStatements:
    """Statements for one batch.

    Parameters
    ----------
    table, key, event, sequence, available, created
        The table; see `tapeline.storage.keyed_rows.KeyedTable`.
    columns
        The columns that the batch has.
    types
        Names of the types of all columns of the table.
    now
        When the batch arrived.
    lag_us
        How long after its event a first sighting is available that does not say; none: from its arrival. Microseconds.
    """

    table: str
    key: tuple[str, ...]
    event: str
    sequence: str | None
    available: str | None
    created: str | None
    columns: tuple[str, ...]
    types: Mapping[str, str]
    now: datetime
    lag_us: int | None

    @property
    def staged(self) -> str:
        """The temporary table of the batch."""
        return f"pg_temp.{_STAGED}"

    @property
    def place(self) -> str:
        """Its column for a row's number in the batch; named like no column of the table."""
        return self._own("place")

    def stage(self) -> sql.Composed:
        """Create the temporary table."""
        return sql.SQL(
            "CREATE TEMP TABLE {staged} ON COMMIT DROP AS SELECT {columns}, 0::bigint AS {place},"
            " NULL::boolean AS {superseded}, NULL::timestamptz AS {before} FROM {like} WITH NO DATA"
        ).format(columns=_names(self.columns), like=self._like(), **self._words)

    def analyze(self) -> sql.Composed:
        """Tell the planner what the batch is like: only what it is joined and counted by."""
        columns = [*self.key, self.place]
        return sql.SQL("ANALYZE pg_temp.{staged} ({columns})").format(columns=_names(columns), **self._words)

    def survey(self) -> sql.Composed:
        """The first and the last event time, the first row that is available before its event, whether a key repeats."""
        early: sql.Composable = sql.SQL("NULL::bigint")
        if self.available in self.columns:
            early = sql.SQL("(SELECT min({place}) FROM pg_temp.{staged} WHERE {available} < {event})").format(
                **self._words
            )
        return sql.SQL(
            "SELECT min({event})::text, max({event})::text, {early},"
            " EXISTS (SELECT FROM pg_temp.{staged} GROUP BY {key} HAVING count(*) > 1) FROM pg_temp.{staged}"
        ).format(early=early, key=_names(self.key), **self._words)

    def key_of(self, row: int) -> sql.Composed:
        """The key of a row of the batch, as text."""
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in self.key)
        return sql.SQL("SELECT {columns} FROM pg_temp.{staged} WHERE {place} = {row}").format(
            columns=columns, row=sql.Literal(row), **self._words
        )

    def conflict(self) -> sql.Composed:
        """A row that says otherwise than another of its key and available time."""
        return sql.SQL(
            "SELECT (a).{place} FROM ({pairs}) pairs WHERE (b).{place} IS NOT NULL AND {together}"
            " AND ({mine}) IS DISTINCT FROM ({others}) ORDER BY 1 LIMIT 1"
        ).format(
            pairs=self._pairs(),
            together=sql.SQL("{} IS NOT DISTINCT FROM {}").format(self._given(_LATER), self._given(_EARLIER)),
            mine=self._content(_LATER),
            others=self._content(_EARLIER),
            **self._words,
        )

    def drop_repeats(self) -> sql.Composed:
        """Leave out of the batch what says the same as the version before it."""
        return sql.SQL(
            "DELETE FROM pg_temp.{staged} WHERE {place} IN (SELECT (a).{place} FROM ({pairs}) pairs"
            " WHERE (b).{place} IS NOT NULL AND ({mine}) IS NOT DISTINCT FROM ({others}))"
        ).format(pairs=self._pairs(), mine=self._content(_LATER), others=self._content(_EARLIER), **self._words)

    def mark_versions(self) -> sql.Composed:
        """Note of each version of a key that comes several times which follow it, and when the one before was available."""
        return sql.SQL(
            "UPDATE pg_temp.{staged} i SET {superseded} = v.superseded, {before} = v.before FROM ("
            " SELECT {place}, lead({place}) OVER w IS NOT NULL AS superseded, lag({given}) OVER w AS before"
            " FROM pg_temp.{staged} i WINDOW w AS ({window})) v WHERE v.{place} = i.{place}"
        ).format(given=self._given(_BATCH), window=self._window(), **self._words)

    def append(self, first: str, last: str) -> sql.Composed:
        """Insert what is new or changed; gives the numbers of first sightings and of corrections.

        Parameters
        ----------
        first, last
            Event times of the batch: constant bounds let a hypertable leave out the chunks that hold none of the keys.
        """
        values = self._values()
        return sql.SQL("""
            WITH judged AS MATERIALIZED ({judged}),
            decided AS MATERIALIZED (
                SELECT i.{place}, j.{place} IS NOT NULL OR i.{before} IS NOT NULL AS correction, {from_when} AS known_from
                FROM pg_temp.{staged} i LEFT JOIN judged j ON j.{place} = i.{place}
                WHERE (i.{superseded} IS NOT TRUE OR j.{place} IS NULL OR {given} > j.held)
                    AND (j.{place} IS NULL OR j.changed OR i.{before} > j.held)),
            written AS (
                INSERT INTO {table} ({columns})
                SELECT {values} FROM {written_from})
            SELECT count(*) FILTER (WHERE NOT correction), count(*) FILTER (WHERE correction) FROM decided
        """).format(
            judged=self._judged(first, last),
            from_when=self._from_when(),
            given=self._given(_BATCH),
            columns=_names(values),
            values=sql.SQL(", ").join(values.values()),
            written_from=self._written_from(),
            **self._words,
        )

    def drop(self) -> sql.Composed:
        """Remove the temporary table."""
        return sql.SQL("DROP TABLE pg_temp.{staged}").format(**self._words)

    def _judged(self, first: str, last: str) -> sql.Composed:
        """Of each row of the batch whose key is stored: since when what is stored holds, and whether the row differs."""
        matched = sql.SQL("pg_temp.{staged} i {stored}").format(stored=self._stored(first, last), **self._words)
        differs = self._differs()
        held: sql.Composable = sql.SQL("NULL::timestamptz")
        if self.created is None:
            if self.available is not None:
                differs += sql.SQL(" OR {given} <> s.{available}").format(given=self._given(_BATCH), **self._words)
            return sql.SQL(
                "SELECT i.{place}, {held} AS held, bool_and({differs}) AS changed FROM {matched} GROUP BY i.{place}"
            ).format(held=held, differs=differs, matched=matched, **self._words)
        newest = [sql.SQL("i.{place}").format(**self._words)]
        if self.available is not None:
            held = sql.Identifier("s", self.available)
            newest.append(sql.SQL("s.{available} DESC NULLS LAST").format(**self._words))
        newest.append(sql.SQL("s.{} DESC NULLS LAST").format(sql.Identifier(self.created)))
        return sql.SQL(
            "SELECT DISTINCT ON (i.{place}) i.{place}, {held} AS held, {differs} AS changed FROM {matched} ORDER BY {newest}"
        ).format(held=held, differs=differs, matched=matched, newest=sql.SQL(", ").join(newest), **self._words)

    def _from_when(self) -> sql.Composable:
        if self.available is None:
            return sql.SQL("NULL::timestamptz")
        # Two versions of one key in one batch are created together, so only their available times tell them apart.
        arrival = sql.SQL(
            "greatest({now}, i.{event}, CASE WHEN j.{place} IS NULL OR i.{before} > j.held"
            " THEN i.{before} + interval '1 microsecond' END)"
        ).format(now=sql.Literal(self.now), **self._words)
        unsaid: sql.Composable = arrival
        if self.lag_us is not None:
            unsaid = sql.SQL(
                "CASE WHEN j.{place} IS NULL AND i.{before} IS NULL THEN i.{event} + {lag} * interval '1 microsecond'"
                " ELSE {arrival} END"
            ).format(lag=sql.Literal(self.lag_us), arrival=arrival, **self._words)
        if self.created is None:
            return sql.SQL("coalesce({given}, {unsaid})").format(given=self._given(_BATCH), unsaid=unsaid)
        return sql.SQL(
            "CASE WHEN j.{place} IS NULL OR j.held IS NULL OR {given} > j.held THEN coalesce({given}, {unsaid})"
            " ELSE greatest({arrival}, j.held) END"
        ).format(given=self._given(_BATCH), unsaid=unsaid, arrival=arrival, **self._words)

    def _like(self) -> sql.Composable:
        """What has the columns of the batch, with their types."""
        return sql.Identifier(*self.table.split("."))

    def _stored(self, first: str, last: str) -> sql.Composable:
        """Joins what is stored, `s`, to the rows of the batch, `i`."""
        return sql.SQL("JOIN {table} s ON {matches}").format(matches=self._matches(first, last), **self._words)

    def _matches(self, first: str, last: str) -> sql.Composable:
        return sql.SQL("{same} AND s.{event} BETWEEN {first} AND {last}").format(
            same=self._same_key(), first=sql.Literal(first), last=sql.Literal(last), **self._words
        )

    def _differs(self) -> sql.Composable:
        """Whether a row of the batch says otherwise than a stored one."""
        return sql.SQL("({}) IS DISTINCT FROM ({})").format(self._content(_BATCH), self._content(_STORED))

    def _values(self) -> dict[str, sql.Composable]:
        """What is written to each column of the table."""
        values: dict[str, sql.Composable] = {name: sql.Identifier("i", name) for name in self.columns}
        if self.available is not None:
            values[self.available] = sql.SQL("d.known_from")
        return values

    def _written_from(self) -> sql.Composable:
        return sql.SQL("pg_temp.{staged} i JOIN decided d ON d.{place} = i.{place}").format(**self._words)

    def _given(self, row: sql.SQL) -> sql.Composable:
        """When a row says that it was available."""
        if self.available is None or self.available not in self.columns:
            return sql.SQL("NULL::timestamptz")
        return sql.SQL("{}.{}").format(row, sql.Identifier(self.available))

    def _content(self, row: sql.SQL) -> sql.Composable:
        """What a correction may change."""
        names = [name for name in self.columns if name not in {*self.key, self.available, self.created}]
        parts: list[sql.Composable] = [
            sql.SQL("{}.{}{}").format(
                row,
                sql.Identifier(name),
                sql.SQL("::text") if self.types.get(name) == "json" else sql.SQL(""),  # json has no equality
            )
            for name in names
        ]
        return sql.SQL(", ").join(parts or [sql.SQL("true")])

    def _same_key(self) -> sql.Composed:
        parts = [sql.SQL("s.{0} = i.{0}").format(sql.Identifier(name)) for name in self.key if name != self.sequence]
        if self.sequence is not None:
            parts.append(sql.SQL("s.{0} IS NOT DISTINCT FROM i.{0}").format(sql.Identifier(self.sequence)))
        return sql.SQL(" AND ").join(parts)

    def _pairs(self) -> sql.Composed:
        """Each row of the batch beside the one before it of the same key."""
        return sql.SQL("SELECT i AS a, lag(i) OVER w AS b FROM pg_temp.{staged} i WINDOW w AS ({window})").format(
            window=self._window(), **self._words
        )

    def _window(self) -> sql.Composed:
        order = [sql.Identifier(self.place)]
        if self.available in self.columns:
            order.insert(0, sql.Identifier(str(self.available)))
        return sql.SQL("PARTITION BY {} ORDER BY {}").format(_names(self.key), sql.SQL(", ").join(order))

    @property
    def _words(self) -> dict[str, sql.Composable]:
        words: dict[str, sql.Composable] = {
            "staged": sql.Identifier(_STAGED),
            "table": sql.Identifier(*self.table.split(".")),
            "place": sql.Identifier(self.place),
            "superseded": sql.Identifier(self._own("superseded")),
            "before": sql.Identifier(self._own("before")),
            "event": sql.Identifier(self.event),
        }
        if self.available is not None:
            words["available"] = sql.Identifier(self.available)
        return words

    def _own(self, name: str) -> str:
        while name in self.types:
            name = f"_{name}"
        return name


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
