"""The rules that a row must keep, as tables, and a pandera schema made from them.

A rule passes where its columns are null, unless they are required: ``missing_value`` is a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.errors import SchemaErrors

from tapeline.core.errors import InvalidDataError
from tapeline.ingestion.reading import DTYPES
from tapeline.storage.raw_tables import RawKind

PRICE_MAX = 1e9
SIZE_MAX = 1e15
RATIO_MAX = 1e6
_ACTIONS = ("add", "change", "delete", "trade", "clear")
_RETRACTED = pl.col("deleted").fill_null(False)
# Where the calendars begin; an event of the future cannot have been seen.
_FIRST_EVENT = pl.datetime(1980, 1, 1, time_zone="UTC")


@dataclass(frozen=True)
class Rule:
    """What must hold of each row.

    Parameters
    ----------
    name
        Stored with a refused row.
    holds
        True or null where the rule is kept.
    reason
        Text that says how a row breaks it.
    """

    name: str
    holds: pl.Expr
    reason: pl.Expr


def _say(template: str, *columns: str) -> pl.Expr:
    return pl.format(template, *(pl.col(name).cast(pl.String).fill_null("missing") for name in columns))


def _required(*columns: str) -> list[Rule]:
    kept = _RETRACTED
    keys = ("symbol", "event_timestamp", "sequence")
    return [
        Rule(
            "missing_value",
            pl.col(name).is_not_null() if name in keys else pl.col(name).is_not_null() | kept,
            pl.lit(f"{name} is missing"),
        )
        for name in columns
    ]


def _price(name: str) -> Rule:
    value = pl.col(name)
    return Rule(
        "price_range",
        value.is_finite() & (value > 0) & (value <= PRICE_MAX),
        _say(f"{name} is {{}}; a price is finite, positive and at most {PRICE_MAX:g}", name),
    )


def _amount(name: str) -> Rule:
    value = pl.col(name)
    return Rule(
        "size_range",
        value.is_finite() & (value >= 0) & (value <= SIZE_MAX),
        _say(f"{name} is {{}}; it is finite, not negative and at most {SIZE_MAX:g}", name),
    )


def _positive(name: str, rule: str, most: float) -> Rule:
    value = pl.col(name)
    return Rule(
        rule,
        (value.is_finite() & (value > 0) & (value <= most)) | _RETRACTED,
        _say(f"{name} is {{}}; it is finite, positive and at most {most:g}", name),
    )


_LISTED = Rule("outside_validity", pl.col("_valid"), _say("{} is not listed at {}", "symbol", "event_timestamp"))
_TIMES = [
    Rule(
        "time_range",
        (pl.col("event_timestamp") >= _FIRST_EVENT) & (pl.col("event_timestamp") <= pl.col("_now")),
        _say("event time {} lies before 1980 or in the future", "event_timestamp"),
    ),
    Rule(
        "published_before_event",
        pl.col("published_timestamp") >= pl.col("event_timestamp"),
        _say("published {}, before its event at {}", "published_timestamp", "event_timestamp"),
    ),
    _LISTED,
]

_ROW_RULES: dict[str, list[Rule]] = {
    "bars": [
        # Before the missing event time that follows from it.
        Rule("not_a_session", pl.col("_session"), pl.col("_session_reason")),
        *_required("symbol", "event_timestamp", "start_timestamp", "open", "high", "low", "close"),
        *_TIMES,
        *map(_price, ("open", "high", "low", "close")),
        _amount("volume"),
        Rule(
            "interval",
            pl.col("start_timestamp") < pl.col("event_timestamp"),
            _say("it starts at {}, not before its end at {}", "start_timestamp", "event_timestamp"),
        ),
        Rule("high_below_low", pl.col("high") >= pl.col("low"), _say("high {} is below low {}", "high", "low")),
        Rule(
            "high_below_open_close",
            pl.col("high") >= pl.max_horizontal("open", "close"),
            _say("high {} is below open {} or close {}", "high", "open", "close"),
        ),
        Rule(
            "low_above_open_close",
            pl.col("low") <= pl.min_horizontal("open", "close"),
            _say("low {} is above open {} or close {}", "low", "open", "close"),
        ),
    ],
    "trades": [
        *_required("symbol", "event_timestamp", "sequence", "price", "size"),
        *_TIMES,
        _price("price"),
        _amount("size"),
    ],
    "quotes": [
        *_required("symbol", "event_timestamp", "sequence"),
        *_TIMES,
        *map(_price, ("bid_price", "ask_price")),
        *map(_amount, ("bid_size", "ask_size")),
        Rule(
            "crossed_quote",
            pl.col("bid_price") <= pl.col("ask_price"),
            _say("bid {} is above ask {}", "bid_price", "ask_price"),
        ),
    ],
    "book_events": [
        *_required("symbol", "event_timestamp", "sequence", "action", "side"),
        *_TIMES,
        Rule("unknown_action", pl.col("action").is_in(_ACTIONS), _say("action is {}", "action")),
        _price("price"),
        _amount("size"),
    ],
    "actions": [
        *_required("symbol"),
        Rule("unknown_symbol", pl.col("_known"), _say("{} is not in the instrument master", "symbol")),
        # Before the missing event time that follows from it.
        Rule("not_a_session", pl.col("_session"), pl.col("_session_reason")),
        Rule("missing_value", pl.col("event_timestamp").is_not_null(), pl.lit("ex_date is missing")),
        Rule("action_kind", pl.col("_kind_reason").is_null(), pl.col("_kind_reason")),
        Rule(
            "time_range",
            (pl.col("published_timestamp") >= _FIRST_EVENT) & (pl.col("published_timestamp") <= pl.col("_now")),
            _say("published {}: that lies before 1980 or in the future", "published_timestamp"),
        ),
        _LISTED,
        _positive("ratio", "ratio_range", RATIO_MAX),
        _positive("amount", "amount_range", PRICE_MAX),
        Rule(
            "other_currency",
            (pl.col("currency") == pl.col("_currency")) | _RETRACTED,
            _say("it is paid in {}, but the prices of {} are in {}", "currency", "symbol", "_currency"),
        ),
        Rule(
            "contradicts_source",
            pl.col("_other").is_null() | _RETRACTED,
            _say("{} says otherwise of this {}: {}", "_other", "kind", "_other_says"),
        ),
    ],
}

_BACKWARDS = Rule(
    "time_goes_backwards",
    pl.col("event_timestamp") >= pl.col("_latest"),
    _say("its time {} is before the {} of an earlier row of {}", "event_timestamp", "_latest", "symbol"),
)
_BELOW_CLOSE = Rule(
    "dividend_not_below_close",
    pl.col("amount") < pl.col("_close"),
    _say("a dividend of {} is not below the close before it, {} in {}", "amount", "_close", "_close_source"),
)


@lru_cache(maxsize=8)
def row_schema(kind: RawKind) -> RuleSchema:
    """What each row of a kind must keep by itself."""
    return RuleSchema(kind, tuple(_ROW_RULES[kind]))


@lru_cache(maxsize=8)
def order_schema(kind: RawKind) -> RuleSchema:
    """What rows must keep beside the rows before them."""
    twice = "another row of {} at {} has the same key and other content"
    if kind == "actions":
        twice += "; a column sequence tells apart what takes effect together"
    alone = Rule("conflicting_duplicate", ~pl.col("_conflict"), _say(twice, "symbol", "event_timestamp"))
    return RuleSchema(kind, (_BACKWARDS, alone, *([_BELOW_CLOSE] if kind == "actions" else [])))


class RuleSchema:
    """A pandera schema in which each rule is a check.

    Parameters
    ----------
    kind
        Whose columns the rules speak of.
    rules
        In the order in which they are tried: a row is refused by the first that it breaks.
    """

    def __init__(self, kind: RawKind, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._schema = pa.DataFrameSchema(
            {name: pa.Column(dtype, nullable=True, required=False) for name, dtype in DTYPES.items()},
            checks=[pa.Check(_check(rule), name=str(place)) for place, rule in enumerate(rules)],
            name=kind,
        )

    def broken(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that break a rule.

        Parameters
        ----------
        frame
            A canonical frame with the helper columns that the rules name.

        Returns
        -------
        polars.DataFrame
            Columns ``row``, ``rule``, ``reason``: each bad row once, with the first rule that it breaks.

        Raises
        ------
        InvalidDataError
            If a column has another type than the rules need.
        """
        try:
            self._schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            faults = []
            for error in errors.schema_errors:
                if error.check_output is None or not str(getattr(error.check, "name", "")).isdigit():
                    raise InvalidDataError(f"the rows do not fit the schema of {self._schema.name}: {error}") from error
                place = int(error.check.name)
                rule = self.rules[place]
                bad = frame.filter(~error.check_output.to_series())
                faults.append(bad.select("row", place=pl.lit(place), rule=pl.lit(rule.name), reason=rule.reason))
            found = pl.concat(faults)
            return found.sort("row", "place").unique("row", keep="first", maintain_order=True).drop("place")
        return pl.DataFrame(schema={"row": pl.Int64, "rule": pl.String, "reason": pl.String})


def _check(rule: Rule) -> Callable[[PolarsData], pl.LazyFrame]:
    return lambda data: data.lazyframe.select(rule.holds.fill_null(True))
