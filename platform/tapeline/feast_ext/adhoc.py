"""A data source of ad-hoc features, which have no table of their own."""

from __future__ import annotations

from collections.abc import Sequence

from tapeline.feast_ext.source import TimescaleSource
from tapeline.storage.feature_values import pivot_query


def adhoc_source(
    namespace: str, features: Sequence[str], *, join_keys: Sequence[str] = ("symbol",), texts: Sequence[str] = ()
) -> TimescaleSource:
    """The values of a namespace in ``tapeline.feature_values`` as a wide source with four time columns.

    Parameters
    ----------
    namespace, features, join_keys, texts
        As for :func:`tapeline.storage.feature_values.pivot_query`.

    Raises
    ------
    ParameterError
        If a name is impossible or a feature is asked for twice.
    """
    return TimescaleSource(
        name=f"adhoc_{namespace}",
        query=pivot_query(namespace, features, join_keys=join_keys, texts=texts),
        timestamp_field="event_timestamp",
        available_timestamp_column="available_timestamp",
        created_timestamp_column="created_timestamp",
        sequence_column="sequence",
        description=f"Ad-hoc features of {namespace}",
    )
