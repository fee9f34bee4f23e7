"""Models and their artifacts: bundles addressed by SHA-256, versions and aliases in PostgreSQL.

The inference server imports this room, so it knows numpy, pydantic, psycopg and ONNX Runtime and nothing heavier.
"""

from __future__ import annotations

from tapeline.registry.bundle import verify_bundle, write_bundle
from tapeline.registry.manifest import (
    BundleManifest,
    FeatureReference,
    Sessions,
    ViewReference,
    read_manifest,
)
from tapeline.registry.registry import ModelRecord, Registry, parse_reference
from tapeline.registry.replay import Sample, open_session, read_sample, replay_bundle, run_session
from tapeline.registry.store import BundleStore, FolderStore, open_store

__all__ = [
    "BundleManifest",
    "BundleStore",
    "FeatureReference",
    "FolderStore",
    "ModelRecord",
    "Registry",
    "Sample",
    "Sessions",
    "ViewReference",
    "open_session",
    "open_store",
    "parse_reference",
    "read_manifest",
    "read_sample",
    "replay_bundle",
    "run_session",
    "verify_bundle",
    "write_bundle",
]
