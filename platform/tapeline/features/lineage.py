"""What a feature value depends on, as one hash, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeline.core.hashing import sha256_json

LINEAGE_FORMAT = 2
"""Raised when the computation around the kernels changes values: bars from trades, split ratios, sessions."""


def lineage_hash(definition: Mapping[str, Any], plan_hash: str) -> str:
    """Hexadecimal SHA-256 over the rows a view reads, its features with parameters, and its kernels' code.

    A view's name, version, TTL and description decide how values are found, not what they are, and are left out.

    Parameters
    ----------
    definition
        What :meth:`FeatureViewSpec.definition` gives.
    plan_hash
        Hash of the compiled plan: kernel syntax trees, parameters, inputs, engine version.
    """
    return sha256_json(
        {
            "format": LINEAGE_FORMAT,
            "rows": definition["rows"],
            "features": definition["features"],
            "plan": plan_hash,
            **({"dividends": True} if definition.get("dividends") else {}),
        }
    )


def lineage_changes(
    before: Mapping[str, Any], plan_hash_before: str, after: Mapping[str, Any], plan_hash_after: str
) -> list[str]:
    """Sentences that say how two definitions of one view differ in lineage; empty if they do not.

    Parameters
    ----------
    before, after
        Definitions as :meth:`FeatureViewSpec.definition` gives them.
    plan_hash_before, plan_hash_after
        Hashes of their plans.
    """
    changes: list[str] = []
    for key in sorted({*before["rows"], *after["rows"]}):
        old, new = before["rows"].get(key), after["rows"].get(key)
        if old != new:
            changes.append(f"rows: {key} was {old!r}, is {new!r}")
    old_features = [_feature_text(feature) for feature in before["features"]]
    new_features = [_feature_text(feature) for feature in after["features"]]
    changes += [f"{feature} was removed" for feature in old_features if feature not in new_features]
    changes += [f"{feature} was added" for feature in new_features if feature not in old_features]
    if sorted(old_features) == sorted(new_features) and old_features != new_features:
        changes.append("the order of features changed")
    if bool(before.get("dividends")) != bool(after.get("dividends")):
        changes.append(f"prices {'are now' if after.get('dividends') else 'are no longer'} adjusted for dividends")
    if not changes and plan_hash_before != plan_hash_after:
        changes.append(f"the kernels' code changed (plan {plan_hash_before[:12]} became {plan_hash_after[:12]})")
    return changes


def _feature_text(feature: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(feature["parameters"].items()))
    frame = f" of {feature['frame']}" if "frame" in feature else ""
    return f"{feature['name']}({parameters}){frame}"
