"""A run of a job, told about as it begins, ends or fails. Telling never fails the job and takes a bounded time."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.core.settings import Settings, get_settings
from tapeline.lineage.openlineage.description import JobDatasets

logger = logging.getLogger("tapeline.lineage")

_ENDPOINT = "api/v1/lineage"
_JOIN_MARGIN_S = 0.2


class JobRun:
    """What a job says of itself while it runs.

    Parameters
    ----------
    job
        Its name, such as ``export.daily_model``.
    settings
        Where to tell.

    Raises
    ------
    MissingExtraError
        If a transport is set and openlineage-python is not installed.
    ConfigurationError
        If the transport has no target, or one that it cannot have.
    """

    def __init__(self, job: str, settings: Settings) -> None:
        self.job = job
        self._settings = settings
        self._transport = _transport(settings)
        self._datasets = JobDatasets()
        self._run_id = ""
        if self._transport is not None:
            from tapeline.lineage.openlineage.events import new_run_id

            self._run_id = new_run_id()

    def describe(self, datasets: Callable[[], JobDatasets]) -> None:
        """Say how to find out what was read and written. It is asked now, and only if there is whom to tell."""
        if self._transport is None:
            return
        try:
            self._datasets = datasets()
        except Exception as problem:  # noqa: BLE001  whatever it is, the job goes on
            logger.warning("what %s read and wrote cannot be told: %s", self.job, problem)

    def tell(self, state: Any, error: BaseException | None = None) -> None:
        """Send one event, within the time that the settings allow; what goes wrong is logged as a warning."""
        if self._transport is None:
            return
        try:
            from tapeline.lineage.openlineage.events import run_event

            event = run_event(state, self._run_id, self._settings.project, self.job, self._datasets, error)
            self._send(event)
        except Exception as problem:  # noqa: BLE001  whatever it is, the job goes on
            logger.warning("the OpenLineage event %s of %s was not delivered: %s", state, self.job, problem)

    def _send(self, event: Any) -> None:
        """In a thread of its own: a receiver that trickles its answer would otherwise hold the job up."""
        raised: list[Exception] = []

        def emit() -> None:
            try:
                self._transport.emit(event)
            except Exception as problem:  # noqa: BLE001  handed to the job's thread
                raised.append(problem)

        thread = threading.Thread(target=emit, name="openlineage", daemon=True)
        thread.start()
        thread.join(self._settings.openlineage_timeout_ms / 1000 + _JOIN_MARGIN_S)
        if thread.is_alive():
            raise TimeoutError(f"no answer within {self._settings.openlineage_timeout_ms} ms")
        if raised:
            raise raised[0]


@contextmanager
def job_run(job: str, settings: Settings | None = None) -> Iterator[JobRun]:
    """Tell of a job's start, and of its end or failure, as OpenLineage events.

    Parameters
    ----------
    job
        Its name: the kind of job, a dot, what it is about.
    settings
        Where to tell; none: the process's settings.

    Yields
    ------
    JobRun
        To say what was read and written, with :meth:`JobRun.describe`.
    """
    run = JobRun(job, settings or get_settings())
    run.tell("START")
    try:
        yield run
    except BaseException as error:
        run.tell("FAIL", error)
        raise
    run.tell("COMPLETE")


def _transport(settings: Settings) -> Any:
    if settings.openlineage == "none":
        return None
    if importlib.util.find_spec("openlineage") is None:
        raise MissingExtraError("openlineage-python", "lineage")
    target = settings.openlineage_target
    if target is None:
        what = "file" if settings.openlineage == "file" else "address"
        raise ConfigurationError(
            f"the transport {settings.openlineage} of OpenLineage events has no {what}",
            where="setting openlineage_target",
            remedy=f"Set TAPELINE_OPENLINEAGE_TARGET to the {what}",
        )
    if settings.openlineage == "file":
        from openlineage.client.transport.file import FileConfig, FileTransport

        return FileTransport(FileConfig(log_file_path=str(Path(target).expanduser()), append=True))
    return _http(settings, target)


def _http(settings: Settings, target: str) -> Any:
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

    key = settings.openlineage_api_key
    auth = TokenProvider({}) if key is None else ApiKeyTokenProvider({"apiKey": key.get_secret_value()})
    timeout_s = settings.openlineage_timeout_ms / 1000
    try:
        return HttpTransport(
            HttpConfig(
                url=f"{target.rstrip('/')}/", endpoint=_ENDPOINT, timeout=timeout_s, auth=auth, retry={"total": 0}
            )
        )
    except ValueError as error:
        raise ConfigurationError(
            f"{target!r} is no address of a receiver: {error}",
            where="setting openlineage_target",
            remedy="Write it like http://localhost:5000",
        ) from None
