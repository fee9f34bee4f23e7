"""What a call to the server can fail with."""

from __future__ import annotations

import grpc


class ClientError(Exception):
    """Base of all errors of this package.

    Attributes
    ----------
    code
        Name of the gRPC status code, such as ``INVALID_ARGUMENT``.
    server_class
        Name of the server's error class, such as ``ContinuityError``; empty if the server gave none.
    """

    def __init__(self, message: str, *, code: str, server_class: str = "") -> None:
        self.code = code
        self.server_class = server_class
        super().__init__(message)


class InvalidRequestError(ClientError):
    """The request is malformed; the message says where, and what to do."""


class UnknownModelError(ClientError):
    """The request names a model that this server does not serve."""


class ContinuityError(ClientError):
    """Live rows that do not directly follow the state in the store; the message says what was expected."""


class LimitError(ClientError):
    """More bytes, entities or live rows than the server allows, or more requests at once."""


class UnavailableError(ClientError):
    """The server, its model or its feature store is away; trying again later may work."""


class DeadlineError(ClientError):
    """No answer within the timeout."""


class ServerError(ClientError):
    """Something is wrong with the server or its store; the server's log says more."""


_CLASSES: dict[str, type[ClientError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": UnknownModelError,
    "FAILED_PRECONDITION": ContinuityError,
    "RESOURCE_EXHAUSTED": LimitError,
    "UNAVAILABLE": UnavailableError,
    "CANCELLED": UnavailableError,  # this client never cancels: the server stopped before it took the call
    "DEADLINE_EXCEEDED": DeadlineError,
}


def from_rpc(error: grpc.RpcError, target: str) -> ClientError:
    """The readable form of a failed call."""
    code = error.code().name
    details = error.details() or "no details"
    trailing = {key: value for key, value in (error.trailing_metadata() or ()) if isinstance(value, str)}
    server_class = trailing.get("tapeline-error", "")
    chosen = _CLASSES.get(code, ServerError)
    if chosen is ContinuityError and server_class not in ("", "ContinuityError"):
        chosen = ServerError
    if code == "UNAVAILABLE" and not server_class:
        details = f"no server answers at {target}: {details}"
    if code == "DEADLINE_EXCEEDED":
        details = f"no answer from {target} in time"
    return chosen(details, code=code, server_class=server_class)
