"""Predictions that are given again as long as everything they stand on is the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from tapeline.storage.caches import TwoLevelCache, Value

from tapeline_serving.engine.answers import (
    FORMAT,
    Answer,
    answer_key,
    decode_answer,
    encode_answer,
    may_be_kept,
    right_between,
)
from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.types import Outputs, PredictRequest, Vectors

Stored = Sequence[bytes | None]
"""What a request read: view by view its entities' values or states, then the actions of entities with rows."""

Compute = Callable[[PredictRequest, Stored], Awaitable[tuple[Vectors, Outputs]]]


class PredictionCache:
    """Answers of one bundle, entity by entity. Belongs to one event loop.

    Parameters
    ----------
    plan
        Of the bundle.
    cache
        Where answers are kept.
    """

    def __init__(self, plan: ServingPlan, cache: TwoLevelCache) -> None:
        self._plan = plan
        self._cache = cache
        cache.use_version(f"{plan.bundle_sha256}.{FORMAT}")

    async def predict(self, request: PredictRequest, stored: Stored, compute: Compute) -> tuple[Vectors, Outputs]:
        """What `compute` gives for a request and what was read for it, computed for those entities only that need it.

        Parameters
        ----------
        request
            With its checked rows.
        stored
            Read for this request, so that no answer stands on anything older.
        compute
            Called with a part of both. What it raises is raised here.
        """
        entities, now_us = request.entities, request.now_us
        values, actions = self._by_entity(request, stored)
        keys = [
            answer_key(entity, (*read, acted)) for entity, read, acted in zip(entities, values, actions, strict=True)
        ]
        fresh: dict[int, Answer] = {}

        async def compute_some(positions: list[int]) -> list[Value]:
            part = self._part(request, stored, values, actions, positions)
            vectors, outputs = await compute(*part)
            given = []
            for row, position in enumerate(positions):
                answer = Answer.of_row(vectors, outputs, row)
                fresh[position] = answer
                entity = entities[position]
                if may_be_kept(entity, actions[position], answer):
                    between = right_between(self._plan, answer.uses, now_us)
                    given.append(Value(encode_answer(answer), *between))
                else:
                    given.append(Value(b"", keep=False))
            return given

        payloads = await self._cache.get_or_compute_many(keys, now_us, compute_some)
        answers: dict[int, Answer] = dict(fresh)
        broken = []
        for position, payload in enumerate(payloads):
            if position not in fresh:
                answer = decode_answer(self._plan, payload)
                if answer is None:
                    broken.append(position)
                else:
                    answers[position] = answer
        if broken:
            self._cache.statistics.corrupt += len(broken)
            await compute_some(broken)
            answers |= fresh
        return self._together([answers[position] for position in range(len(entities))])

    def _by_entity(self, request: PredictRequest, stored: Stored) -> tuple[list[Stored], list[bytes | None]]:
        """What was read for each entity: a value or state for each view; published actions."""
        count, views = len(request.entities), len(self._plan.views)
        values = [[stored[view * count + row] for view in range(views)] for row in range(count)]
        published = iter(stored[count * views :])
        actions = [next(published) if entity.has_bars or entity.has_trades else None for entity in request.entities]
        return list(values), actions

    def _part(
        self,
        request: PredictRequest,
        stored: Stored,
        values: Sequence[Stored],
        actions: Sequence[bytes | None],
        positions: Sequence[int],
    ) -> tuple[PredictRequest, Stored]:
        """Some entities of a request, and what was read for them."""
        if len(positions) == len(request.entities):
            return request, stored
        chosen = [request.entities[position] for position in positions]
        read = [values[position][view] for view in range(len(self._plan.views)) for position in positions]
        read += [
            actions[position]
            for position, entity in zip(positions, chosen, strict=True)
            if entity.has_bars or entity.has_trades
        ]
        return replace(request, entities=chosen), read

    def _together(self, answers: Sequence[Answer]) -> tuple[Vectors, Outputs]:
        vectors = Vectors(
            np.array([answer.values for answer in answers]),
            np.array([answer.statuses for answer in answers]),
            [answer.uses for answer in answers],
            [answer.overall for answer in answers],
        )
        given = np.array([answer.outputs for answer in answers])
        return vectors, [given[:, number] for number in range(given.shape[1])]
