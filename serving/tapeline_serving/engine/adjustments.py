"""What live rows are adjusted for: the splits and dividends known at the request's clock, and those that only the caller knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import DAY_US, format_us
from tapeline.features.versions import Actions, Floats, dividend_ratios, naming, split_ratios
from tapeline.storage.actions import decode_actions
from tapeline.storage.state_codec import SavedState

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars


@dataclass(frozen=True, slots=True)
class _Kind:
    """How callers name a kind of corporate action, and how near to a known one an equal one is the same one."""

    name: str
    column: str
    words: str
    together: Callable[[Sequence[float]], float]
    same_us: int


_SPLIT = _Kind("split", "split_ratio", "split of ratio", math.prod, 14 * DAY_US)
_DIVIDEND = _Kind("dividend", "dividend", "dividend of", math.fsum, 5 * DAY_US)  # some pay the same every week


def known_actions(symbol: str, stored: bytes, now_us: int) -> Actions:
    """The splits and dividends of an entity that are known at the request's clock.

    Raises
    ------
    IntegrityError
        If the bytes are damaged.
    """
    return decode_actions(stored, where=f"corporate actions of {symbol}").known_at(now_us)


def actions_for(view: PlannedView, known: Actions | None) -> Actions:
    """What a view is adjusted for, of what is known."""
    if known is None:
        return Actions.none()
    return known if view.plan.dividends else known.splits_only


def with_named(
    view: PlannedView,
    symbol: str,
    previous_us: int | None,
    bars: LiveBars,
    start_us: Sequence[int],
    known: Actions | None,
) -> Actions:
    """What a view is adjusted for, with what only the caller knows of.

    Parameters
    ----------
    view, symbol
        The view; the entity, for messages.
    previous_us
        End of the row before the bars; ``None`` if there is none.
    bars
        May name ratios and dividends.
    start_us
        Where each of them begins, and with it what it names takes effect.
    known
        What is known; ``None`` if the symbol never had an action.

    Raises
    ------
    InvalidDataError
        If a bar names another ratio or dividend than the known ones that take effect with it.
    """
    actions = actions_for(view, known)
    splits = _named(_SPLIT, symbol, previous_us, bars, start_us, bars.split_ratio, actions.splits)
    dividends: list[tuple[int, float]] = []
    if view.plan.dividends:
        dividends = _named(_DIVIDEND, symbol, previous_us, bars, start_us, bars.dividend, actions.dividends)
    if not splits and not dividends:
        return actions
    return Actions.of([*actions.splits, *splits], [*actions.dividends, *dividends])


def bar_ratios(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, actions: Actions
) -> tuple[dict[str, Floats], Actions]:
    """Split and dividend ratios of session bars, and the actions behind them.

    Raises
    ------
    InvalidDataError
        If a dividend is not below the close before it.
    """
    event_us = np.array(bars.event_us)
    previous_us = stored.event_us if stored.rows_seen else None
    found = {"split_ratio": split_ratios(previous_us, event_us, actions.event_us, actions.ratio)}
    since_us = bars.event_us[0] if previous_us is None else previous_us
    if view.plan.dividends:
        last, close = stored.bar_state, np.array(bars.columns["close"])
        assert last is not None
        with naming(symbol):
            found["dividend_ratio"], _ = dividend_ratios(previous_us, last, event_us, close, actions)
        if last[0] > 0.0:  # a dividend is held against the last possible close, adjusted for all since
            since_us = min(since_us, int(last[1]))
    effective = (actions.event_us >= since_us) & (actions.event_us < bars.event_us[-1])
    return found, actions.chosen(effective)


def _named(
    kind: _Kind,
    symbol: str,
    previous_us: int | None,
    bars: LiveBars,
    start_us: Sequence[int],
    column: Sequence[float] | None,
    known: Sequence[tuple[int, float]],
) -> list[tuple[int, float]]:
    """The actions that only the caller knows; one that contradicts what is known is refused."""
    named = []
    for number, given in enumerate(column or ()):
        event_us = bars.event_us[number]
        since_us = bars.event_us[number - 1] if number else previous_us
        here = [value for at, value in known if since_us is not None and since_us <= at < event_us]
        together = float(kind.together(here))  # of none: 1 for splits, 0 for dividends
        if math.isnan(given) or (math.isclose(given, together, rel_tol=1e-9) and (here or given == together)):
            continue
        if here:
            raise _contradiction(kind, symbol, number, given, f"a {kind.words} {together!r} is known")
        near = [at for at, value in known if abs(at - event_us) <= kind.same_us and math.isclose(value, given)]
        if near:  # taken for a second one, it would adjust the prices twice
            known_at = f"that {kind.name} is known to take effect at {format_us(near[0])}"
            raise _contradiction(kind, symbol, number, given, known_at)
        named.append((start_us[number], given))
    return named


def _contradiction(kind: _Kind, symbol: str, number: int, given: float, known: str) -> InvalidDataError:
    return InvalidDataError(
        f"{kind.column} {given!r}, where {known}",
        where=f"bars of {symbol}, row {number}",
        remedy=f"Leave {kind.column} out, or correct it by `tapeline ingest actions` and `tapeline backfill`",
    )
