"""Lineage: from source column through kernel and view to data set, model and served prediction, and back.

What something came from is derived from its registered definition, in one place, and recorded where it is registered, in
the same transaction. Served predictions are joined from their log. :mod:`tapeline.lineage.reading` walks both ways.
"""

from tapeline.lineage.consumers import OnDemandView
from tapeline.lineage.graph import Edge, Graph, Key
from tapeline.lineage.reading import Lineage, read_lineage, used_rows
from tapeline.lineage.recording import (
    RecordReport,
    record_all,
    record_dataset,
    record_model,
    record_service,
    record_source,
    record_view,
)
from tapeline.lineage.references import find_node, written

__all__ = [
    "Edge",
    "Graph",
    "Key",
    "Lineage",
    "OnDemandView",
    "RecordReport",
    "find_node",
    "read_lineage",
    "record_all",
    "record_dataset",
    "record_model",
    "record_service",
    "record_source",
    "record_view",
    "used_rows",
    "written",
]
