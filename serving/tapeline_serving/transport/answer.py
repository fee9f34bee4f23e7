"""Predictions into messages."""

from __future__ import annotations

import numpy as np
from tapeline_client._generated import serving_pb2 as pb

from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.types import EntityStatus, FeatureStatus, Outputs, PredictRequest, Vectors


def write_response(
    plan: ServingPlan, request: PredictRequest, vectors: Vectors, outputs: Outputs, *, include_features: bool
) -> pb.PredictResponse:
    """The response to a request.

    Parameters
    ----------
    plan
        Names and versions of what was used.
    request, vectors, outputs
        What the engine was given, and gave.
    include_features
        Whether to send the vectors.
    """
    manifest = plan.manifest
    response = pb.PredictResponse(
        model=manifest.model,
        version=manifest.version,
        bundle_sha256=plan.bundle_sha256,
        request_id=request.request_id,
        request_us=request.now_us,
    )
    columns = [(name, output.tolist()) for name, output in zip(manifest.outputs, outputs, strict=True)]
    if include_features:
        response.feature_names.extend(plan.feature_names)
    for row, entity in enumerate(request.entities):
        status = vectors.overall[row]
        prediction = response.predictions.add(symbol=entity.symbol, status=int(status))
        if status is not EntityStatus.NO_FEATURES:
            for name, column in columns:
                prediction.outputs[name] = column[row]
        if status is not EntityStatus.OK:
            statuses = vectors.statuses[row]
            for position in np.flatnonzero(statuses != FeatureStatus.OK).tolist():
                prediction.issues.add(feature=plan.feature_names[position], status=int(statuses[position]))
        for view, use in zip(plan.views, vectors.uses[row], strict=True):
            message = prediction.views.add(view=view.name, version=view.version, origin=int(use.origin))
            if use.event_us is not None:
                message.event_us = use.event_us
                message.available_us = use.available_us
                message.staleness_us = request.now_us - use.event_us
            if use.sequence is not None:
                message.sequence = use.sequence
            if use.partial:
                message.partial = True
                prediction.partial = True
        if include_features:
            prediction.features.extend(vectors.values[row].tolist())
    return response
