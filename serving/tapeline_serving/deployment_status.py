"""What the registry says now about the deployment that a server runs: is it still the one its name means, and may it be used?"""

from __future__ import annotations

import json
from typing import NamedTuple

from tapeline.core.errors import UnknownNameError, VersionStateError
from tapeline.core.settings import Settings
from tapeline.registry import Registry, parse_reference
from tapeline.storage.postgres import connect
from tapeline.storage.view_versions import require_usable

from tapeline_serving.engine.plan import ServingPlan


class DeploymentStatus(NamedTuple):
    """Of one moment.

    Attributes
    ----------
    version, bundle_sha256
        What the reference that the server was started with names now; ``None`` if nothing.
    fault
        Why the served bundle could not be deployed again, such as a retired view; ``None`` if it could.
    """

    version: str | None
    bundle_sha256: str | None
    fault: str | None

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, data: bytes) -> DeploymentStatus | None:
        """The status that :meth:`encode` wrote; ``None`` for anything else."""
        try:
            content = json.loads(data)
            status = cls(**content)
        except (ValueError, TypeError):
            return None
        return status if all(part is None or isinstance(part, str) for part in status) else None


def ask_status(settings: Settings, reference: str, plan: ServingPlan) -> DeploymentStatus:
    """Ask PostgreSQL. Takes milliseconds: not for the event loop.

    Raises
    ------
    UnavailableError
        If PostgreSQL is away.
    """
    name, selector = parse_reference(reference)
    manifest = plan.manifest
    fault = version = sha256 = None
    with connect(settings) as connection:
        try:
            record = Registry(connection, settings.artifacts_path).resolve(name, selector)
            version, sha256 = record.version, record.bundle_sha256
        except UnknownNameError as error:
            fault = error.what
        try:
            views = [(view.view, view.version) for view in manifest.views]
            require_usable(connection, views, where=f"model {manifest.model}@{manifest.version}")
        except VersionStateError as error:
            fault = error.what
    return DeploymentStatus(version, sha256, fault)
