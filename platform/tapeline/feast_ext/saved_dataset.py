"""Where Feast keeps saved data sets and logged features: tables of the same database."""

from __future__ import annotations

import json

from feast.data_source import DataSource
from feast.feature_logging import LOG_TIMESTAMP_FIELD, LoggingDestination
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.protos.feast.core.FeatureService_pb2 import LoggingConfig as LoggingConfigProto
from feast.protos.feast.core.SavedDataset_pb2 import SavedDatasetStorage as SavedDatasetStorageProto
from feast.saved_dataset import SavedDatasetStorage

from tapeline.feast_ext.source import TimescaleSource


class SavedDatasetTimescaleStorage(SavedDatasetStorage):
    """A table that holds the result of a retrieval.

    Parameters
    ----------
    table
        Its name, with its schema. Feast creates it when a data set is saved.
    """

    _proto_attr_name = "custom_storage"

    def __init__(self, table: str) -> None:
        self.table = table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SavedDatasetTimescaleStorage) and self.table == other.table

    def __hash__(self) -> int:
        return hash(self.table)

    @staticmethod
    def from_proto(storage_proto: SavedDatasetStorageProto) -> SavedDatasetTimescaleStorage:
        """The storage that `to_proto` described."""
        return SavedDatasetTimescaleStorage(json.loads(storage_proto.custom_storage.configuration)["table"])

    def to_proto(self) -> SavedDatasetStorageProto:
        """Feast's description of the storage; it names this class, as several share its field."""
        return self._custom_storage_proto(
            DataSourceProto.CustomSourceOptions(configuration=json.dumps({"table": self.table}).encode())
        )

    def to_data_source(self) -> DataSource:
        """A source that reads the saved rows."""
        return TimescaleSource(table=self.table)


class TimescaleLoggingDestination(LoggingDestination):
    """A table to which Feast writes the features that it served.

    Parameters
    ----------
    table
        Its name, with its schema. It is created with the first rows.
    """

    _proto_kind = "tapeline_timescale"

    def __init__(self, table: str) -> None:
        self.table = table

    @classmethod
    def from_proto(cls, config_proto: LoggingConfigProto) -> TimescaleLoggingDestination:
        """The destination that `to_proto` described."""
        return cls(config_proto.custom_destination.config["table"])

    def to_proto(self) -> LoggingConfigProto:
        """Feast's description of the destination."""
        return LoggingConfigProto(
            custom_destination=LoggingConfigProto.CustomDestination(kind=self._proto_kind, config={"table": self.table})
        )

    def to_data_source(self) -> DataSource:
        """A source that reads the logged rows."""
        return TimescaleSource(table=self.table, timestamp_field=LOG_TIMESTAMP_FIELD)
