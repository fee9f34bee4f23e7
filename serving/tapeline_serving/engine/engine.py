"""One request: read packed values and states with one MGET, continue states, run the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from tapeline.core.errors import ParameterError
from tapeline.features.versions import Actions
from tapeline.storage.keys import entity_key_sorted

from tapeline_serving.engine.adjustments import known_actions
from tapeline_serving.engine.live import continue_with_bars, continue_with_trades, decode
from tapeline_serving.engine.model import Batcher, Model
from tapeline_serving.engine.plan import PlannedView, ServingPlan
from tapeline_serving.engine.reading import is_stale, read_values
from tapeline_serving.engine.types import (
    EntityRequest,
    FeatureStatus,
    Outputs,
    PredictRequest,
    Vectors,
    ViewUse,
    entity_status,
)
from tapeline_serving.engine.warm_up import explain_undefined
from tapeline_serving.store.online import OnlineStore

if TYPE_CHECKING:
    from tapeline_serving.engine.predictions import PredictionCache

_OK = int(FeatureStatus.OK)  # comparing with an enumeration is slow
_QUIET_NS = 30_000  # a queued request begins sooner than that after the one before it


class Reading:
    """What a request asked of the store; to be entered before, and left after, all that is done with it.

    Between asking and taking the answer there is time to check the request's rows.
    """

    __slots__ = ("_alone", "_engine", "_redis", "_reply")

    def __init__(self, engine: Engine, redis: OnlineStore, reply: asyncio.Future[list[bytes | None]]) -> None:
        self._engine = engine
        self._redis = redis
        self._reply = reply
        self._alone = False

    def __enter__(self) -> Self:
        engine = self._engine
        engine.in_flight += 1
        # The only request there is, and come by itself rather than out of a queue behind the one before it?
        self._alone = engine.in_flight == 1 and time.perf_counter_ns() - engine.answered_ns > _QUIET_NS
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.in_flight -= 1
        self._engine.answered_ns = time.perf_counter_ns()
        if not self._reply.cancel() and not self._reply.cancelled():
            self._reply.exception()  # of an answer that nobody took, nobody need be told

    def reply(self) -> asyncio.Future[list[bytes | None]]:
        """The answer, for which a request without company holds the loop."""
        if self._alone:
            self._redis.poll(self._reply)
        return self._reply


class Engine:
    """Predicts with one bundle. Belongs to one event loop.

    Parameters
    ----------
    plan
        What to read and compute.
    model
        The bundle's model, replayed.
    redis
        The online store.
    predictions
        Where answers are kept; none: every request is computed.

    Attributes
    ----------
    in_flight
        Requests that are being answered.
    answered_ns
        When the last one was, by ``time.perf_counter_ns``.
    """

    def __init__(
        self, plan: ServingPlan, model: Model, redis: OnlineStore, predictions: PredictionCache | None = None
    ) -> None:
        self.plan = plan
        self._batcher = Batcher(model)
        self.in_flight = 0
        self.answered_ns = 0
        self._redis = redis
        self._predictions = predictions
        self._takes_bars = any(not view.takes_trades for view in plan.views)
        self._takes_trades = any(view.takes_trades for view in plan.views)

    def begin(self, request: PredictRequest) -> Reading:
        """Ask the store for what a request needs, whose rows may still be unchecked.

        Raises
        ------
        ParameterError
            If an entity carries rows of a kind that no view is computed from.
        UnavailableError
            If Redis is away.
        """
        entities = request.entities
        for entity in entities:
            self._check_kinds(entity)
        parts = [entity_key_sorted([entity.symbol]) for entity in entities]
        keys = [
            (view.state_prefix if _live(view, entity) else view.value_prefix) + part
            for view in self.plan.views
            for entity, part in zip(entities, parts, strict=True)
        ]
        keys += [
            self.plan.actions_prefix + part
            for entity, part in zip(entities, parts, strict=True)
            if entity.has_bars or entity.has_trades
        ]
        return Reading(self, self._redis, self._redis.mget(keys))

    async def predict(self, request: PredictRequest, reading: Reading) -> tuple[Vectors, Outputs]:
        """Feature vectors and, for each output, an array of shape (entities,).

        Parameters
        ----------
        request
            Checked as a whole.
        reading
            Of :meth:`begin` for this request, and entered.

        Raises
        ------
        ContinuityError
            If live rows do not directly follow the stored state.
        InvalidDataError
            If a live row contradicts a known split or dividend.
        IntegrityError
            If a stored value or state is damaged, or of another layout or plan.
        UnavailableError
            If Redis is away.
        """
        stored = await reading.reply()
        if self._predictions is None:
            return await self.compute(request, stored)
        return await self._predictions.predict(request, stored, self.compute)

    async def compute(self, request: PredictRequest, stored: Sequence[bytes | None]) -> tuple[Vectors, Outputs]:
        """What :meth:`predict` gives, from what was read for a request: in the order in which :meth:`begin` asked."""
        vectors = await self._vectors(request, stored)
        if self.in_flight == 1:
            return vectors, self._batcher.run_alone(vectors.values)
        return vectors, await self._batcher.run(vectors.values)

    async def _vectors(self, request: PredictRequest, stored: Sequence[bytes | None]) -> Vectors:
        entities = request.entities
        count = len(entities)
        vectors = Vectors.blank(count, len(self.plan.feature_names))
        published = iter(stored[count * len(self.plan.views) :])
        known = [
            known_actions(entity.symbol, packed, request.now_us)
            if (entity.has_bars or entity.has_trades) and (packed := next(published)) is not None
            else None
            for entity in entities
        ]
        by_view = [
            self._fill(view, request, stored[number * count : (number + 1) * count], known, vectors)
            for number, view in enumerate(self.plan.views)
        ]
        vectors.uses = [list(uses) for uses in zip(*by_view, strict=True)]
        if vectors.has_undefined:
            await explain_undefined(self.plan, entities, vectors, self._redis)
        vectors.overall = [entity_status(statuses) for statuses in vectors.statuses]
        return vectors

    def _check_kinds(self, entity: EntityRequest) -> None:
        for given, takes, kind in (
            (entity.has_bars, self._takes_bars, "session bars"),
            (entity.has_trades, self._takes_trades, "trades"),
        ):
            if given and not takes:
                raise ParameterError(
                    f"no view of {self.plan.manifest.model} is computed from {kind}",
                    where=f"entity {entity.symbol}",
                    remedy="Leave these rows out; ModelInfo tells which rows each view takes",
                )

    def _fill(
        self,
        view: PlannedView,
        request: PredictRequest,
        stored: Sequence[bytes | None],
        actions: Sequence[Actions | None],
        vectors: Vectors,
    ) -> list[ViewUse]:
        entities, now_us = request.entities, request.now_us
        live: list[int] = []
        rest: list[int] = []
        for row, entity in enumerate(entities):
            (live if _live(view, entity) else rest).append(row)
        if not live:
            return read_values(view, slice(None), stored, now_us, vectors)
        uses = [ViewUse()] * len(entities)
        for row in live:
            uses[row] = _continue(view, entities[row], stored[row], actions[row], row, now_us, vectors)
        if rest:
            read = read_values(view, rest, [stored[row] for row in rest], now_us, vectors)
            for row, use in zip(rest, read, strict=True):
                uses[row] = use
        return uses


def _live(view: PlannedView, entity: EntityRequest) -> bool:
    return entity.has_trades if view.takes_trades else entity.has_bars


def _continue(
    view: PlannedView,
    entity: EntityRequest,
    stored: bytes | None,
    actions: Actions | None,
    row: int,
    now_us: int,
    vectors: Vectors,
) -> ViewUse:
    """Continue one entity's state and put what it gives into its vector."""
    into = view.into
    if stored is None:
        vectors.statuses[row, into] = FeatureStatus.NO_STATE
        return ViewUse()
    state = decode(view, entity.symbol, stored)
    if state.available_us > now_us:
        vectors.statuses[row, into] = FeatureStatus.NOT_YET_AVAILABLE
        return ViewUse(state_event_us=state.event_us, state_sequence=state.sequence)
    if view.takes_trades:
        assert entity.trades is not None
        values, use = continue_with_trades(view, entity.symbol, state, entity.trades, actions)
    else:
        assert entity.bars is not None
        values, use = continue_with_bars(view, entity.symbol, state, entity.bars, actions)
    assert use.event_us is not None
    assert use.rows_seen is not None
    selected = values[view.pick]
    if is_stale(view, use.event_us, now_us):
        vectors.statuses[row, into] = FeatureStatus.STALE
        return use
    vectors.values[row, into] = selected
    vectors.statuses[row, into] = _OK
    if len(view.held):
        vectors.statuses[row, view.positions[view.held[values[view.ages] > 0.0]]] = FeatureStatus.FILLED
    undefined = np.isnan(selected)
    if undefined.any():
        places = view.positions[undefined]
        vectors.statuses[row, places] = FeatureStatus.INVALID_INPUT
        vectors.statuses[row, places[view.warm_up[undefined] > use.rows_seen]] = FeatureStatus.NOT_WARMED_UP
    return use
