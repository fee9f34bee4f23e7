"""A typed client of Tapeline's inference server. Needs numpy and grpcio (with protobuf) and nothing else."""

from __future__ import annotations

from tapeline_client.client import Client
from tapeline_client.errors import (
    ClientError,
    ContinuityError,
    DeadlineError,
    InvalidRequestError,
    LimitError,
    ServerError,
    UnavailableError,
    UnknownModelError,
)
from tapeline_client.types import (
    Bar,
    EntityStatus,
    FeatureStatus,
    LiveRows,
    ModelInfo,
    ModelView,
    Origin,
    Prediction,
    ServedLog,
    Trades,
    ViewUse,
)

__all__ = [
    "Bar",
    "Client",
    "ClientError",
    "ContinuityError",
    "DeadlineError",
    "EntityStatus",
    "FeatureStatus",
    "InvalidRequestError",
    "LimitError",
    "LiveRows",
    "ModelInfo",
    "ModelView",
    "Origin",
    "Prediction",
    "ServedLog",
    "ServerError",
    "Trades",
    "UnavailableError",
    "UnknownModelError",
    "ViewUse",
]
