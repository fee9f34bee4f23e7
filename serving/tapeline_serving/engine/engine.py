"""One request: read packed values and states with one MGET, continue states, run the model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from tapeline.core.errors import ParameterError

from tapeline_serving.engine.live import continue_with_bars, continue_with_trades, decode
from tapeline_serving.engine.model import Batcher, Model
from tapeline_serving.engine.plan import PlannedView, ServingPlan
from tapeline_serving.engine.reading import is_stale, read_values
from tapeline_serving.engine.served_log import ServedRequest
from tapeline_serving.engine.types import (
    EntityRequest,
    FeatureStatus,
    Outputs,
    PredictRequest,
    Vectors,
    ViewUse,
)
from tapeline_serving.engine.warm_up import explain_undefined
from tapeline_serving.store.connection import RedisConnection

_OK, _UNDEFINED = int(FeatureStatus.OK), int(FeatureStatus.UNDEFINED)  # comparing with an enumeration is slow
_QUIET_NS = 30_000  # a queued request begins sooner than that after the one before it


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
    """

    def __init__(self, plan: ServingPlan, model: Model, redis: RedisConnection) -> None:
        self.plan = plan
        self._batcher = Batcher(model)
        self._in_flight = 0
        self._answered_ns = 0
        self._redis = redis
        self._views = tuple((view.name, view.version, view.plan_hash) for view in plan.views)
        self._takes_bars = any(not view.takes_trades for view in plan.views)
        self._takes_trades = any(view.takes_trades for view in plan.views)

    async def predict(self, request: PredictRequest) -> tuple[Vectors, Outputs]:
        """Feature vectors and, for each output, an array of shape (entities,).

        Raises
        ------
        ParameterError
            If an entity carries rows of a kind that no view is computed from.
        ContinuityError
            If live rows do not directly follow the stored state.
        IntegrityError
            If a stored value or state is damaged, or of another layout or plan.
        UnavailableError
            If Redis is away.
        """
        self._in_flight += 1
        try:
            vectors = await self.read(request)
            if self._in_flight == 1:
                return vectors, self._batcher.run_alone(vectors.values)
            return vectors, await self._batcher.run(vectors.values)
        finally:
            self._in_flight -= 1
            self._answered_ns = time.perf_counter_ns()

    async def read(self, request: PredictRequest) -> Vectors:
        """Feature vectors of a request's entities, without a prediction."""
        entities = request.entities
        for entity in entities:
            self._check_kinds(entity)
        keys = [
            view.state_key(entity.symbol) if _live(view, entity) else view.value_key(entity.symbol)
            for view in self.plan.views
            for entity in entities
        ]
        stored = await self._redis.mget(keys, poll=self._has_no_company())
        count = len(entities)
        shape = (count, len(self.plan.feature_names))
        vectors = Vectors(np.full(shape, np.nan), np.full(shape, int(FeatureStatus.MISSING), dtype=np.uint8))
        by_view = [
            self._fill(view, entities, stored[number * count : (number + 1) * count], request.now_us, vectors)
            for number, view in enumerate(self.plan.views)
        ]
        vectors.uses = [list(uses) for uses in zip(*by_view, strict=True)]
        if (vectors.statuses == _UNDEFINED).any():
            await explain_undefined(self.plan, entities, vectors, self._redis)
        return vectors

    def _has_no_company(self) -> bool:
        """Whether the only request there is came by itself, rather than out of a queue behind the one before it."""
        return self._in_flight == 1 and time.perf_counter_ns() - self._answered_ns > _QUIET_NS

    def _check_kinds(self, entity: EntityRequest) -> None:
        for rows, takes, kind in (
            (entity.bars, self._takes_bars, "session bars"),
            (entity.trades, self._takes_trades, "trades"),
        ):
            if rows is not None and not takes:
                raise ParameterError(
                    f"no view of {self.plan.manifest.model} is computed from {kind}",
                    where=f"entity {entity.symbol}",
                    remedy="Leave these rows out; ModelInfo tells which rows each view takes",
                )

    def _fill(
        self,
        view: PlannedView,
        entities: Sequence[EntityRequest],
        stored: Sequence[bytes | None],
        now_us: int,
        vectors: Vectors,
    ) -> list[ViewUse]:
        live = [row for row, entity in enumerate(entities) if _live(view, entity)]
        if not live:
            return read_values(view, slice(None), stored, now_us, vectors)
        uses = [ViewUse()] * len(entities)
        for row in live:
            uses[row] = _continue(view, entities[row], stored[row], row, now_us, vectors)
        rest = [row for row in range(len(entities)) if row not in set(live)]
        if rest:
            for row, use in zip(
                rest, read_values(view, rest, [stored[row] for row in rest], now_us, vectors), strict=True
            ):
                uses[row] = use
        return uses

    def served(self, request: PredictRequest, vectors: Vectors, outputs: Outputs) -> ServedRequest:
        """What is to be logged about a request that was answered."""
        manifest = self.plan.manifest
        return ServedRequest(
            model=manifest.model,
            model_version=manifest.version,
            bundle_sha256=self.plan.bundle_sha256,
            served_us=time.time_ns() // 1_000,
            request=request,
            vectors=vectors,
            outputs=outputs,
            views=self._views,
        )


def _live(view: PlannedView, entity: EntityRequest) -> bool:
    return (entity.trades if view.takes_trades else entity.bars) is not None


def _continue(
    view: PlannedView, entity: EntityRequest, stored: bytes | None, row: int, now_us: int, vectors: Vectors
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
    if entity.trades is not None and view.takes_trades:
        values, use = continue_with_trades(view, entity.symbol, state, entity.trades)
    else:
        assert entity.bars is not None
        values, use = continue_with_bars(view, entity.symbol, state, entity.bars)
    assert use.event_us is not None
    assert use.rows_seen is not None
    selected = values[view.pick]
    if is_stale(view, use.event_us, now_us):
        vectors.statuses[row, into] = FeatureStatus.STALE
        return use
    vectors.values[row, into] = selected
    vectors.statuses[row, into] = _OK
    undefined = np.isnan(selected)
    if undefined.any():
        places = view.positions[undefined]
        vectors.statuses[row, places] = FeatureStatus.INVALID_INPUT
        vectors.statuses[row, places[view.warm_up[undefined] > use.rows_seen]] = FeatureStatus.NOT_WARMED_UP
    return use
