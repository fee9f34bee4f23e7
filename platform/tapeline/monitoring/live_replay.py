"""Computes again what a request's live rows gave, from the raw rows in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from tapeline.compute.computed import LONG_AGO_US
from tapeline.compute.history import Versions
from tapeline.compute.reading import BEGINNING_US, END_US, Change, read_actions, read_versions
from tapeline.compute.rows import AvailableFloor, EntityState, RowRunner
from tapeline.compute.sessions import session_times
from tapeline.core.timestamps import from_us
from tapeline.features.versions import Actions, ActionVersions, Floats, Integers, newest_of_keys
from tapeline.features.view import FeatureViewSpec
from tapeline.monitoring.served import ServedRow, ServedView
from tapeline.storage.state_codec import decode_state

HISTORY_ROWS_MAX = 1_000_000
"""Raw rows of histories that are kept; a longer one is kept alone."""
_STATES_MAX = 64
_NO_FLOOR = AvailableFloor(LONG_AGO_US, LONG_AGO_US)


class LiveReplay:
    """Continues states as a server did, but by way of the batch code and from raw history.

    Keeps each entity's history and the last states computed, so that many requests on one state cost one computation.

    Parameters
    ----------
    connection
        The database.
    spec
        The view.
    """

    def __init__(self, connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._runner = RowRunner(spec)
        self._histories: dict[str, tuple[Versions, ActionVersions]] = {}
        self._states: dict[tuple[Any, ...], EntityState] = {}

    def forget(self) -> None:
        """Read histories again from now on: the database may hold more than it did."""
        self._histories.clear()
        self._states.clear()

    def from_history(self, row: ServedRow, used: ServedView, *, as_served: bool = False) -> NDArray[np.float64]:
        """Features, shape (outputs,), of the raw rows recorded by then, continued by the request's rows.

        These are adjusted for the splits and dividends recorded by then, as a back-fill would, or for those that the server
        took.
        """
        _, actions = self._history(row.entity)
        known = used.actions if as_served else actions.recorded_by(row.served_us).known_at(row.request_us)
        return self._continue(self._state(row, used), row, known)

    def from_snapshots(self, row: ServedRow, used: ServedView) -> list[NDArray[np.float64]]:
        """The same from each state snapshot at the position that the server continued."""
        assert used.state_event_us is not None
        snapshots = self._connection.execute(
            "SELECT state FROM tapeline.state_snapshots WHERE view = %s AND version = %s AND entity = %s"
            " AND event_timestamp = %s AND sequence = %s AND created_timestamp <= %s ORDER BY created_timestamp DESC",
            (
                self._spec.name,
                self._spec.version,
                row.entity,
                from_us(used.state_event_us),
                used.state_sequence,
                from_us(row.served_us),
            ),
        ).fetchall()
        results = []
        for (data,) in snapshots:
            saved = decode_state(bytes(data), plan_hash=self._runner.plan.hash)
            state = EntityState(self._runner.plan.restore(saved.plan_state), saved.bar_state, saved.outputs)
            results.append(self._continue(state, row, used.actions))
        return results

    def _state(self, row: ServedRow, used: ServedView) -> EntityState:
        versions, actions = self._history(row.entity)
        known = np.flatnonzero((versions.created_us <= row.served_us) & (versions.available_us <= row.request_us))
        assert used.state_event_us is not None
        assert used.state_sequence is not None
        event_us, sequence = versions.event_us[known], versions.sequence[known]
        before = (event_us < used.state_event_us) | (
            (event_us == used.state_event_us) & (sequence <= used.state_sequence)
        )
        known = known[before]
        newest_recorded = int(versions.created_us[known].max()) if len(known) else 0
        newest_available = int(versions.available_us[known].max()) if len(known) else 0
        recorded = actions.recorded_by(row.served_us)
        actions_known = int(np.count_nonzero(recorded.available_us <= row.request_us))
        place = (row.entity, used.state_event_us, used.state_sequence)
        key = (*place, len(known), newest_recorded, newest_available, actions_known)
        if key not in self._states:
            if len(self._states) >= _STATES_MAX:  # states of old positions are not asked for again
                self._states.clear()
            self._states[key] = self._compute(versions, recorded.known_at(row.request_us), known)
        return self._states[key]

    def _compute(self, versions: Versions, actions: Actions, known: Integers) -> EntityState:
        newest = known[
            newest_of_keys(versions.event_us, versions.sequence, versions.available_us, versions.created_us, known)
        ]
        rows = newest[versions.live[newest]]
        _, state = self._runner.advance(
            self._runner.fresh(),
            versions.event_us[rows],
            versions.sequence[rows],
            versions.available_us[rows],
            np.ascontiguousarray(versions.values[rows]),
            actions,
            _NO_FLOOR,
        )
        return state

    def _history(self, symbol: str) -> tuple[Versions, ActionVersions]:
        if symbol not in self._histories:
            change = [Change(symbol, BEGINNING_US, END_US, BEGINNING_US, 0)]
            [versions] = read_versions(self._connection, self._spec, change, [(BEGINNING_US, -(2**63))])
            [actions] = read_actions(self._connection, self._spec, change)
            kept = sum(len(rows.event_us) for rows, _ in self._histories.values())
            if kept + len(versions.event_us) > HISTORY_ROWS_MAX:
                self._histories.clear()
            self._histories[symbol] = versions, actions
        return self._histories[symbol]

    def _continue(self, state: EntityState, row: ServedRow, actions: Actions) -> NDArray[np.float64]:
        if self._spec.rows.raw == "bars":
            return self._continue_bars(state, row.live_rows["bars"], actions)
        return self._continue_trades(state, row.live_rows["trades"], actions)

    def _continue_trades(self, state: EntityState, trades: Mapping[str, Any], actions: Actions) -> NDArray[np.float64]:
        values = np.column_stack([_floats(trades["price"]), _floats(trades["size"])])
        times = _integers(trades["event_us"]), _integers(trades["sequence"]), _integers(trades["available_us"])
        return self._continue_built(state, times, values, actions)

    def _continue_bars(self, state: EntityState, bars: Mapping[str, Any], actions: Actions) -> NDArray[np.float64]:
        event_us = _integers(bars["event_us"])
        times = event_us, np.zeros(len(event_us), dtype=np.int64), _integers(bars["available_us"])
        prices = [_floats(bars[name]) for name in ("open", "high", "low", "close", "volume")]
        if self._runner.builder is not None:
            return self._continue_built(state, times, np.column_stack([_floats(bars["start_us"]), *prices]), actions)
        sessions = session_times(self._spec.rows.calendar)
        # Of an unfinished bar too, the session is the one that is open just before the bar ends.
        start_us = sessions.open_us[sessions.number_of(event_us - 1)]
        values = np.column_stack([start_us.astype(np.float64), *prices])
        finished, _ = self._runner.advance(state, *times, values, actions, _NO_FLOOR)
        return np.asarray(finished.outputs[-1])

    def _continue_built(
        self, state: EntityState, times: tuple[Integers, Integers, Integers], values: Floats, actions: Actions
    ) -> NDArray[np.float64]:
        _, after = self._runner.advance(state, *times, values, actions, _NO_FLOOR)
        unfinished = self._runner.finish_open_bar(after, _NO_FLOOR).outputs
        found = unfinished[-1] if len(unfinished) else after.outputs
        return np.asarray(found if len(found) else np.full(len(self._runner.plan.outputs), np.nan))


def _floats(values: Sequence[float | str]) -> Floats:
    """float64 of numbers and of the words that JSON has no numbers for."""
    return np.array([float(value) for value in values], dtype=np.float64)


def _integers(values: Sequence[int]) -> Integers:
    return np.asarray(values, dtype=np.int64)
