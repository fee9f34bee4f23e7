"""From values as they came, text or typed, to canonical columns; what cannot be read is noted, not raised.

A canonical frame has ``row`` (1-based, in the input), our columns with their types, and ``rule`` and ``reason``: null in
rows that read well, else the first thing that was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tapeline.core.errors import InvalidDataError, NaiveTimestampError
from tapeline.ingestion.layout import COLUMNS, DATE_COLUMNS, TIME_COLUMNS, Layout
from tapeline.storage.raw_tables import RawKind

UTC_US = pl.Datetime("us", "UTC")
_FLOATS = frozenset({"open", "high", "low", "close", "volume", "price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "ratio", "amount"})  # fmt: skip
_TEXTS = frozenset({"symbol", "action", "order_id", "kind", "currency"})
_SIDES = {"1": 1, "+1": 1, "b": 1, "buy": 1, "bid": 1, "-1": -1, "s": -1, "sell": -1, "ask": -1, "0": 0, "": 0, "unknown": 0}  # fmt: skip
_FLAGS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
_NAME_THE_ZONE = "Give each an offset, as in 2013-03-01T21:00:00+00:00, or name the zone with --timezone"
_OFFSET = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"
_EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}

DTYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(_FLOATS, pl.Float64),
    **dict.fromkeys(_TEXTS, pl.String),
    **dict.fromkeys(TIME_COLUMNS, UTC_US),
    **dict.fromkeys(DATE_COLUMNS, pl.Date),
    "published_date": UTC_US,
    "sequence": pl.Int64,
    "side": pl.Int16,
    "deleted": pl.Boolean,
}


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column as text that reads back to the same value."""
    parts = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime):
            zone = "%:z" if dtype.time_zone else ""
            column = column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.9f{zone}")
        elif dtype == pl.String:
            pass
        else:
            column = column.cast(pl.String)
        parts.append(column)
    return frame.select(parts)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Values that cannot be read: which, by which rule, and a reason with ``{}`` for the value."""

    where: pl.Series
    rule: str
    reason: str


def read_columns(frame: pl.DataFrame, kind: RawKind, layout: Layout, where: str) -> pl.DataFrame:
    """Give each column its canonical type.

    Parameters
    ----------
    frame
        Column ``row`` and our column names, values as they came.
    kind
        Which table the rows are for.
    layout
        How times are written.
    where
        The input's name, for messages.

    Returns
    -------
    polars.DataFrame
        All canonical columns of the kind (nulls where the data has none), ``row``, ``rule``, ``reason``.

    Raises
    ------
    InvalidDataError
        If a column's type can never hold such values, for example dates as prices.
    NaiveTimestampError
        If a typed column of timestamps has no time zone and the layout names none.
    """
    columns = [frame["row"]]
    bad: list[pl.DataFrame] = []
    for name in COLUMNS[kind]:
        if name == "symbol" and layout.symbol is not None:
            columns.append(pl.repeat(layout.symbol, len(frame), dtype=pl.String, eager=True).alias(name))
        elif name not in frame.columns:
            columns.append(pl.repeat(None, len(frame), dtype=DTYPES[name], eager=True).alias(name))
        else:
            raw = _stripped(frame[name])
            values, faults = _parse(name, raw, layout, where)
            columns.append(values.alias(name))
            # Reasons are written for the bad values only: there are few, if any.
            bad += [
                pl.DataFrame(
                    {"row": frame["row"].filter(fault.where), "_raw": raw.filter(fault.where).cast(pl.String)}
                ).select("row", rule=pl.lit(fault.rule), reason=pl.format(f"{name} {fault.reason}", pl.col("_raw")))
                for fault in faults
                if fault.where.any()
            ]
    read = pl.DataFrame(columns)
    if not bad:
        return read.with_columns(rule=pl.lit(None, pl.String), reason=pl.lit(None, pl.String))
    first = pl.concat(bad).unique("row", keep="first", maintain_order=True)
    return read.join(first, on="row", how="left", maintain_order="left")


def _stripped(raw: pl.Series) -> pl.Series:
    """Text without space around it; empty text is null."""
    if raw.dtype == pl.Categorical or isinstance(raw.dtype, pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype != pl.String:
        return raw
    text = raw.str.strip_chars()
    return text.set(text == "", None)


def _parse(name: str, raw: pl.Series, layout: Layout, where: str) -> tuple[pl.Series, list[_Fault]]:
    dtype = raw.dtype
    textual = dtype == pl.String
    if dtype == pl.Null:
        return raw.cast(DTYPES[name]), []
    if name in TIME_COLUMNS:
        return _parse_time(name, raw, layout, where)
    if name in _TEXTS:
        return raw.cast(pl.String), []
    if name in DATE_COLUMNS:
        value = _dates(name, raw, layout, where)
    elif name == "published_date":  # known when that day has ended
        value = _dates(name, raw, layout, where)
        return _localised(raw, value.cast(pl.Datetime("us")).dt.offset_by("1d"), layout)
    elif name == "side" and textual:
        value = raw.str.to_lowercase().replace_strict(_SIDES, default=None, return_dtype=pl.Int16)
    elif name == "deleted" and textual:
        value = raw.str.to_lowercase().replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)
    else:
        _expect(name, dtype, textual or dtype.is_numeric() or dtype == pl.Boolean, where)
        value = raw.cast(DTYPES[name], strict=False)
        if dtype.is_float() and value.dtype.is_integer():
            value = value.set((value.cast(pl.Float64) != raw).fill_null(False), None)  # 1.5 is no whole number
    return value, [_unreadable(raw, value)]


def _dates(name: str, raw: pl.Series, layout: Layout, where: str) -> pl.Series:
    if raw.dtype == pl.String:
        return raw.str.to_date(layout.date_format or layout.time_format or "%Y-%m-%d", strict=False)
    _expect(name, raw.dtype, raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime), where)
    # Of a moment in some zone, the date that a clock there shows; a cast would give the date in UTC.
    return raw if raw.dtype == pl.Date else raw.dt.date()


def _expect(name: str, dtype: pl.DataType, fits: bool, where: str) -> None:
    if not fits:
        raise InvalidDataError(f"column {name} has type {dtype}", where=where, remedy="Map another column to it")


def _unreadable(raw: pl.Series, value: pl.Series) -> _Fault:
    return _Fault(raw.is_not_null() & value.is_null(), "unreadable_value", "cannot be read: {}")


def _parse_time(name: str, raw: pl.Series, layout: Layout, where: str) -> tuple[pl.Series, list[_Fault]]:
    dtype, form = raw.dtype, layout.time_format
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return raw.dt.cast_time_unit("us").dt.convert_time_zone("UTC"), []
        if layout.timezone is None:
            raise NaiveTimestampError(f"of type {dtype}", where=f"{where}, column {name}", remedy=_NAME_THE_ZONE)
        return _localised(raw, raw.dt.cast_time_unit("us"), layout)
    if form is not None and form.startswith("epoch_"):
        value = _from_epoch(raw, form, where)
        return value, [_unreadable(raw, value)]
    _expect(name, dtype, dtype == pl.String, where)
    if form is not None and "%z" in form:
        value = raw.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
        return value, [_unreadable(raw, value)]
    if form is not None:
        return _localised(raw, raw.str.to_datetime(form, time_unit="us", strict=False), layout)
    return _parse_iso(raw, layout)


def _parse_iso(raw: pl.Series, layout: Layout) -> tuple[pl.Series, list[_Fault]]:
    """ISO 8601, with T or a space, each value with an offset or without."""
    text = raw.str.replace(" ", "T", literal=True)
    has_offset = raw.str.contains(_OFFSET).fill_null(False)
    if not has_offset.any():
        return _localised(raw, _wall_clock(text), layout)
    offset = text.str.replace(r"[Zz]$", "+0000").str.replace(r"([+-]\d\d):(\d\d)$", "$1$2").set(~has_offset, None)
    aware = offset.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
    faults = [_Fault(has_offset & aware.is_null(), "unreadable_value", "cannot be read: {}")]
    if has_offset.all():
        return aware, faults
    bare = raw.set(has_offset, None)
    local, more = _localised(bare, _wall_clock(text.set(has_offset, None)), layout)
    return aware.zip_with(has_offset, local), [*faults, *more]


def _wall_clock(text: pl.Series) -> pl.Series:
    value = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    if value.null_count() == text.null_count():
        return value
    return value.fill_null(text.str.to_datetime("%Y-%m-%dT%H:%M", time_unit="us", strict=False))


def _from_epoch(raw: pl.Series, form: str, where: str) -> pl.Series:
    if form not in _EPOCHS and form != "epoch_ns":
        raise InvalidDataError(
            f"{form} is no form of time", where=where, remedy=f"Use one of {', '.join([*_EPOCHS, 'epoch_ns'])}"
        )
    if raw.dtype.is_float():  # seconds with a fraction: cut off, an event would lie, and be known, too early
        micros = raw * _EPOCHS[form] if form in _EPOCHS else raw / 1_000
        return micros.round().cast(pl.Int64, strict=False).cast(UTC_US)
    number = raw.cast(pl.Int64, strict=False)
    number = number * _EPOCHS[form] if form in _EPOCHS else number // 1_000
    return number.cast(UTC_US)


def _localised(raw: pl.Series, wall: pl.Series, layout: Layout) -> tuple[pl.Series, list[_Fault]]:
    """Wall-clock times of the layout's zone as UTC; times that the zone skips or repeats are said to be so."""
    faults = [_unreadable(raw, wall)]
    zone = layout.timezone
    if zone is None:
        naive = _Fault(raw.is_not_null() & wall.is_not_null(), "naive_timestamp", "{} has no time zone")
        return pl.repeat(None, len(raw), dtype=UTC_US, eager=True), [*faults, naive]
    first = wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    skipped = wall.is_not_null() & first.is_null()
    faults.append(_Fault(skipped, "nonexistent_time", f"{{}} does not exist in {zone}: summer time skips it"))
    if layout.ambiguous == "earliest":
        return first, faults
    last = wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.convert_time_zone("UTC")
    if layout.ambiguous == "latest":
        return last, faults
    twice = (first != last).fill_null(False)
    faults.append(_Fault(twice, "ambiguous_time", f"{{}} happens twice in {zone}, when summer time ends"))
    return (first.set(twice, None) if twice.any() else first), faults


def refuse_naive(frame: pl.DataFrame, where: str) -> None:
    """Refuse a first batch whose times carry no zone.

    Raises
    ------
    NaiveTimestampError
        Naming the first row.
    """
    bad = frame.filter(pl.col("rule") == "naive_timestamp").head(1)
    if not bad.is_empty():
        row = bad.row(0, named=True)
        text = str(row["reason"])
        raise NaiveTimestampError(
            text.partition(" ")[2].removesuffix(" has no time zone"),
            where=f"{where}, row {row['row']}, column {text.partition(' ')[0]}",
            remedy=_NAME_THE_ZONE,
        )
