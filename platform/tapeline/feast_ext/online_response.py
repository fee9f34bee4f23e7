"""A Feast response over packed rows that makes messages only when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus as FeastStatus
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from tapeline.core.timestamps import SECOND_US
from tapeline.feast_ext.online_plan import RequestPlan, ViewPlan
from tapeline.feast_ext.packing import column_protos, tail_proto
from tapeline.storage.packed import FLOAT_KINDS, PackedRows
from tapeline.storage.statuses import FieldStatus, row_statuses

_DIRECT_TYPES = {ValueType.STRING: str, ValueType.INT64: int, ValueType.INT32: int}


@dataclass
class ViewResult:
    """What one view gave, in request order and in the plan's layout, and what is to be said of each row at the moment of the
    request.
    """

    plan: ViewPlan
    rows: PackedRows
    now_us: int
    replayed: bool

    @cached_property
    def statuses(self) -> NDArray[np.uint8]:
        """A ``FieldStatus`` for each row: uint8 (N,)."""
        return row_statuses(self.rows, now_us=self.now_us, ttl_us=self.plan.ttl_us, hide_future=self.replayed)

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows have values that may be used: bool (N,)."""
        usable: NDArray[np.bool_] = self.statuses == FieldStatus.PRESENT
        return usable

    @cached_property
    def events_us(self) -> list[int]:
        """Event time of each row; 0 where there is none."""
        shown = self.statuses != FieldStatus.NOT_FOUND
        return [int(event) for event in np.where(shown, self.rows.times[:, 0], 0)]

    @cached_property
    def timestamps(self) -> list[Timestamp]:
        """Event time of each row as a message."""
        stamps = []
        for event in self.events_us:
            stamp = Timestamp()
            stamp.FromMicroseconds(event)
            stamps.append(stamp)
        return stamps

    @cached_property
    def _floats(self) -> list[list[float]]:
        columns: list[list[float]] = self.rows.slots.T.tolist()
        return columns

    @cached_property
    def _integers(self) -> list[list[int]]:
        columns: list[list[int]] = np.ascontiguousarray(self.rows.slots).view(np.int64).T.tolist()
        return columns

    @cached_property
    def _all_present(self) -> bool:
        return not self.rows.any_null and bool(self.usable.all())

    def columns(self, feature_types: Mapping[str, ValueType]) -> list[list[Any]]:
        """Python values of all requested features, one list a feature."""
        slots = self.plan.float_slots
        if slots is not None and self._all_present:
            lists: list[list[Any]] = self.rows.slots[:, slots].T.tolist()
            return lists
        return [self.python(position, feature_types.get(name)) for position, name in enumerate(self.plan.names)]

    def _present(self, column: int) -> list[bool]:
        present: list[bool] = (self.usable & ~self.rows.nulls[:, column]).tolist()
        return present

    def python(self, position: int, value_type: ValueType | None) -> list[Any]:
        """Python values of one requested feature, as Feast gives them; none where there is no value to be used."""
        column = self.plan.columns[position]
        kind = self.rows.layout.columns[column].kind
        slot = self._slot.get(column)
        if slot is None or kind == "unix_timestamp":
            return [feast_value_type_to_python_type(value, value_type) for value in self.protos(position)]
        values: Sequence[Any] = self._floats[slot] if kind in FLOAT_KINDS else self._integers[slot]
        if kind == "bool":
            values = [value != 0 for value in values]
        if self._all_present:
            return list(values)
        return [value if there else None for value, there in zip(values, self._present(column), strict=True)]

    def protos(self, position: int) -> list[ValueProto]:
        """Feast values of one requested feature; null where there is no value to be used."""
        column = self.plan.columns[position]
        layout = self.rows.layout
        present = self._present(column)
        slot = self._slot.get(column)
        if slot is not None:
            kind = layout.columns[column].kind
            return column_protos(
                layout.columns[column], (self._floats if kind in FLOAT_KINDS else self._integers)[slot], present
            )
        item = layout.tails.index(column)
        where = f"{layout.label}, feature {layout.columns[column].name}"
        return [
            tail_proto(tails[item], where=where) if there else ValueProto()
            for tails, there in zip(self.rows.tails, present, strict=True)
        ]

    def vector(self, position: int) -> GetOnlineFeaturesResponse.FeatureVector:
        """One requested feature as Feast's message: values, statuses, event times."""
        column = self.plan.columns[position]
        null = self.rows.nulls[:, column] & self.usable
        statuses = np.where(null, np.uint8(FieldStatus.NULL_VALUE), self.statuses)
        return GetOnlineFeaturesResponse.FeatureVector(
            values=self.protos(position), statuses=statuses.tolist(), event_timestamps=self.timestamps
        )

    @cached_property
    def _slot(self) -> dict[int, int]:
        return {column: slot for slot, column in enumerate(self.rows.layout.slots)}


class PackedOnlineResponse(OnlineResponse):
    """What ``FeatureStore.get_online_features`` returns: Feast's response, with the same contents in any form.

    ``to_dict`` reads the number blocks directly; ``proto`` is built when it is first looked at. Columns come in the
    order of the request: join keys, then features. A value that is null, missing or older than its view's TTL is none;
    the message's statuses tell which.
    """

    def __init__(
        self,
        plan: RequestPlan,
        keys: Mapping[str, Sequence[Any]],
        results: Sequence[ViewResult],
        *,
        version_metadata: bool = False,
    ) -> None:
        self._plan = plan
        self._keys = keys
        self._results = results
        self._version_metadata = version_metadata
        self._feature_types = plan.feature_types

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:  # type: ignore[override]
        """Feast's message, as its own response holds it."""
        response = GetOnlineFeaturesResponse()
        zero = Timestamp()
        for name, values in self._keys.items():
            protos = python_values_to_proto_values(list(values), self._plan.key_types[name])
            response.metadata.feature_names.val.append(name)
            response.results.append(
                GetOnlineFeaturesResponse.FeatureVector(
                    values=protos,
                    statuses=[FeastStatus.PRESENT] * len(protos),
                    event_timestamps=[zero] * len(protos),
                )
            )
        for view, position in self._plan.order:
            response.metadata.feature_names.val.append(self._plan.views[view].names[position])
            response.results.append(self._results[view].vector(position))
        if self._version_metadata:
            add_version_metadata(response, [view.view for view in self._plan.views])
        return response

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Columns by name, as Feast's own response gives them."""
        response: dict[str, Any] = {}
        for name, values in self._keys.items():
            response[name] = self._key_values(name, values)
            if include_event_timestamps:
                response[name + TIMESTAMP_POSTFIX] = [0] * len(response[name])
        columns = [result.columns(self._feature_types) for result in self._results]
        for view, position in self._plan.order:
            name = self._plan.views[view].names[position]
            response[name] = columns[view][position]
            if include_event_timestamps:
                response[name + TIMESTAMP_POSTFIX] = [event // SECOND_US for event in self._results[view].events_us]
        return response

    def _key_values(self, name: str, values: Sequence[Any]) -> list[Any]:
        value_type = self._plan.key_types[name]
        expected = _DIRECT_TYPES.get(value_type)
        if expected is not None and all(type(value) is expected for value in values):
            return list(values)
        return [feast_value_type_to_python_type(v) for v in python_values_to_proto_values(list(values), value_type)]


def add_version_metadata(response: GetOnlineFeaturesResponse, views: Sequence[Any]) -> None:
    """Name each view once with the version it is at, as Feast does on request."""
    known = {metadata.name for metadata in response.metadata.feature_view_metadata}
    for view in views:
        name = view.projection.name_alias or view.projection.name
        if name in known:
            continue
        known.add(name)
        metadata = response.metadata.feature_view_metadata.add()
        metadata.name = name
        metadata.version = getattr(view, "current_version_number", 0) or 0
