"""Feast's feature views from Tapeline's specifications: one definition, said once."""

from __future__ import annotations

from feast import Entity, FeatureView, Field, PushSource
from feast.types import Float64, String

from tapeline.core.timestamps import MICROSECOND
from tapeline.feast_ext.selection import VERSION_TAG
from tapeline.feast_ext.source import TimescaleSource
from tapeline.features.view import FeatureViewSpec

LINEAGE_TAG = "tapeline_lineage"
PLAN_TAG = "tapeline_plan"


def source(spec: FeatureViewSpec) -> TimescaleSource:
    """The table that holds a view version's values, with its four time columns."""
    return TimescaleSource(
        name=spec.table,
        table=f"features.{spec.table}",
        timestamp_field="event_timestamp",
        available_timestamp_column="available_timestamp",
        created_timestamp_column="created_timestamp",
        sequence_column="sequence",
        description=f"Values of {spec.name}, version {spec.version}",
    )


def push_source(spec: FeatureViewSpec) -> PushSource:
    """The source through which ``FeatureStore.push`` writes rows of a view: ``VIEW_push``."""
    return PushSource(name=f"{spec.name}_push", batch_source=source(spec))


def feature_view(spec: FeatureViewSpec, entity: Entity) -> FeatureView:
    """Feast's view of a specification.

    It carries the specification's version as Feast's own, and its lineage hash as a tag: since a definition may not
    change under an existing version, ``feast apply`` refuses a changed kernel that did not get a new one.

    Parameters
    ----------
    spec
        The view. Its columns become float64 features, in order.
    entity
        The entity with join key ``symbol``.
    """
    return FeatureView(
        name=spec.name,
        version=f"v{spec.version}",
        entities=[entity],
        ttl=spec.ttl_us * MICROSECOND,
        schema=[Field(name=entity.join_key, dtype=String), *(Field(name=c, dtype=Float64) for c in spec.columns)],
        source=push_source(spec),
        description=spec.description,
        tags={VERSION_TAG: str(spec.version), LINEAGE_TAG: spec.lineage_hash, PLAN_TAG: spec.plan.hash},
    )
