"""Which gRPC status code each error becomes."""

from __future__ import annotations

import grpc
from tapeline.core import errors

_CODE = grpc.StatusCode

STATUS_CODES: dict[type[errors.TapelineError], grpc.StatusCode] = {
    # What the caller can mend in the request.
    errors.ParameterError: _CODE.INVALID_ARGUMENT,
    errors.NaiveTimestampError: _CODE.INVALID_ARGUMENT,
    errors.InvalidDataError: _CODE.INVALID_ARGUMENT,
    errors.EmptyDataError: _CODE.INVALID_ARGUMENT,
    errors.OutOfOrderError: _CODE.INVALID_ARGUMENT,
    errors.UnknownNameError: _CODE.NOT_FOUND,
    errors.LimitError: _CODE.RESOURCE_EXHAUSTED,
    errors.QualityError: _CODE.INVALID_ARGUMENT,
    errors.DiskFullError: _CODE.RESOURCE_EXHAUSTED,
    errors.VintageError: _CODE.OUT_OF_RANGE,
    # What the caller can mend by bringing itself, or the store, up to date.
    errors.ContinuityError: _CODE.FAILED_PRECONDITION,
    errors.LineageError: _CODE.FAILED_PRECONDITION,
    errors.VersionStateError: _CODE.FAILED_PRECONDITION,
    errors.SchemaError: _CODE.FAILED_PRECONDITION,
    errors.ConfigurationError: _CODE.FAILED_PRECONDITION,
    errors.MissingExtraError: _CODE.FAILED_PRECONDITION,
    errors.AlreadyRunningError: _CODE.ALREADY_EXISTS,
    # What time or an operator mends.
    errors.UnavailableError: _CODE.UNAVAILABLE,
    errors.FencedError: _CODE.ABORTED,
    errors.NotRunningError: _CODE.UNAVAILABLE,
    errors.ModelNotReadyError: _CODE.UNAVAILABLE,
    errors.IntegrityError: _CODE.DATA_LOSS,
    errors.ParityError: _CODE.INTERNAL,
    errors.FeatureCheckError: _CODE.INTERNAL,
    errors.TapelineError: _CODE.INTERNAL,
}

ERROR_CLASS_KEY = "tapeline-error"
"""Trailing metadata that names the error's class, so that a client can raise its own of that name."""


def status_code(error: errors.TapelineError) -> grpc.StatusCode:
    """The status code of an error: that of its class, or of the nearest base that has one."""
    for base in type(error).__mro__:
        if base in STATUS_CODES:
            return STATUS_CODES[base]
    return _CODE.INTERNAL
