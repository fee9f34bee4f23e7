"""The connection to a Ray cluster, or one of this machine's own for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tapeline.core.errors import MissingExtraError, ParameterError, UnavailableError
from tapeline.core.settings import Settings, get_settings

LOCAL = "local"
"""Address of a cluster on this machine that begins and ends with its block."""
_OBJECT_STORE_BYTES = 100 << 20
_KNOCK_S = 5.0
_RAY_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray tells nobody that it is used, and does not warn of a change in how it hides graphics processors."""


def import_ray() -> Any:
    """The library.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise MissingExtraError("ray", "ray") from None
    return ray


@contextmanager
def ray_cluster(address: str = LOCAL, settings: Settings | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Be connected to a Ray cluster for the block. Ray prints notices meanwhile, such as that a worker died.

    Parameters
    ----------
    address
        ``local`` for a cluster of this machine's own: its processes listen on the loopback interface only, keep their files
        in a private folder and end with the block. Else an address that Ray understands: ``auto``, ``HOST:PORT`` or
        ``ray://HOST:PORT``.
    settings
        Those of the workers of a local cluster, which inherit them with their environment; none: the process's. Workers of
        any other cluster have settings of their own, from the environment of the node that they run on.
    cpus
        How many tasks a local cluster runs at once; by default one for each processor.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    UnavailableError
        If no cluster answers at the address, or none can be started.
    ParameterError
        If this process is connected to one already.
    """
    ray = import_ray()
    if ray.is_initialized():
        raise ParameterError("this process is connected to a Ray cluster already", remedy="Use that, or shut it down")
    if address == LOCAL:
        yield from _own(ray, settings or get_settings(), cpus)
    else:
        yield from _connected(ray, address)


def _connected(ray: Any, address: str) -> Iterator[None]:
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UnavailableError(
            f"no Ray cluster answers: {' '.join(str(error).split())[:500]}",
            where=f"address {address}",
            remedy="Start one with: ray start --head; or use: --ray local",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray would try for minutes, and then end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _own(ray: Any, settings: Settings, cpus: int | None) -> Iterator[None]:
    # Ray keeps sockets there, so the path must be short; and it lets everyone into its folder, so that lies in a private one.
    folder = Path(tempfile.mkdtemp(prefix="tl-ray-", dir="/tmp" if os.name == "posix" else None))  # noqa: S108
    try:
        with _environment(environment_of(settings) | _RAY_ENVIRONMENT):
            try:
                ray.init(
                    address=LOCAL,
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder / "r"),
                )
            except (OSError, OverflowError, ValueError, RuntimeError) as error:
                ray.shutdown()
                raise UnavailableError(
                    f"Ray could not be started here: {' '.join(str(error).split())[:500]}",
                    remedy="See that memory and disk are not full; or run it without --ray",
                ) from error
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give another process of this machine the same settings."""
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, Path):
            value = value.expanduser().resolve()
        if value is not None:
            found[f"TAPELINE_{name.upper()}"] = str(value)
    return found | {"TAPELINE_HOME": str(settings.home_path)}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Have these in the environment while processes are started that inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
