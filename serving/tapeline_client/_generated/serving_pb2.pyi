from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntityStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTITY_STATUS_UNSPECIFIED: _ClassVar[EntityStatus]
    ENTITY_STATUS_OK: _ClassVar[EntityStatus]
    ENTITY_STATUS_DEGRADED: _ClassVar[EntityStatus]
    ENTITY_STATUS_NO_FEATURES: _ClassVar[EntityStatus]

class FeatureStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_STATUS_UNSPECIFIED: _ClassVar[FeatureStatus]
    FEATURE_STATUS_OK: _ClassVar[FeatureStatus]
    FEATURE_STATUS_MISSING: _ClassVar[FeatureStatus]
    FEATURE_STATUS_STALE: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NOT_WARMED_UP: _ClassVar[FeatureStatus]
    FEATURE_STATUS_INVALID_INPUT: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NOT_YET_AVAILABLE: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NO_STATE: _ClassVar[FeatureStatus]
    FEATURE_STATUS_UNDEFINED: _ClassVar[FeatureStatus]
    FEATURE_STATUS_FILLED: _ClassVar[FeatureStatus]

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_NONE: _ClassVar[Origin]
    ORIGIN_STORE: _ClassVar[Origin]
    ORIGIN_LIVE: _ClassVar[Origin]

class LiveRows(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIVE_ROWS_UNSPECIFIED: _ClassVar[LiveRows]
    LIVE_ROWS_BARS: _ClassVar[LiveRows]
    LIVE_ROWS_TRADES: _ClassVar[LiveRows]
ENTITY_STATUS_UNSPECIFIED: EntityStatus
ENTITY_STATUS_OK: EntityStatus
ENTITY_STATUS_DEGRADED: EntityStatus
ENTITY_STATUS_NO_FEATURES: EntityStatus
FEATURE_STATUS_UNSPECIFIED: FeatureStatus
FEATURE_STATUS_OK: FeatureStatus
FEATURE_STATUS_MISSING: FeatureStatus
FEATURE_STATUS_STALE: FeatureStatus
FEATURE_STATUS_NOT_WARMED_UP: FeatureStatus
FEATURE_STATUS_INVALID_INPUT: FeatureStatus
FEATURE_STATUS_NOT_YET_AVAILABLE: FeatureStatus
FEATURE_STATUS_NO_STATE: FeatureStatus
FEATURE_STATUS_UNDEFINED: FeatureStatus
FEATURE_STATUS_FILLED: FeatureStatus
ORIGIN_UNSPECIFIED: Origin
ORIGIN_NONE: Origin
ORIGIN_STORE: Origin
ORIGIN_LIVE: Origin
LIVE_ROWS_UNSPECIFIED: LiveRows
LIVE_ROWS_BARS: LiveRows
LIVE_ROWS_TRADES: LiveRows

class PredictRequest(_message.Message):
    __slots__ = ("entities", "model", "request_id", "include_features")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[EntityInput]
    model: str
    request_id: str
    include_features: bool
    def __init__(self, entities: _Optional[_Iterable[_Union[EntityInput, _Mapping]]] = ..., model: _Optional[str] = ..., request_id: _Optional[str] = ..., include_features: _Optional[bool] = ...) -> None: ...

class EntityInput(_message.Message):
    __slots__ = ("symbol", "bars", "trades")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    bars: BarColumns
    trades: TradeColumns
    def __init__(self, symbol: _Optional[str] = ..., bars: _Optional[_Union[BarColumns, _Mapping]] = ..., trades: _Optional[_Union[TradeColumns, _Mapping]] = ...) -> None: ...

class BarColumns(_message.Message):
    __slots__ = ("start_us", "event_us", "available_us", "open", "high", "low", "close", "volume", "split_ratio", "dividend")
    START_US_FIELD_NUMBER: _ClassVar[int]
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_US_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    SPLIT_RATIO_FIELD_NUMBER: _ClassVar[int]
    DIVIDEND_FIELD_NUMBER: _ClassVar[int]
    start_us: _containers.RepeatedScalarFieldContainer[int]
    event_us: _containers.RepeatedScalarFieldContainer[int]
    available_us: _containers.RepeatedScalarFieldContainer[int]
    open: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    low: _containers.RepeatedScalarFieldContainer[float]
    close: _containers.RepeatedScalarFieldContainer[float]
    volume: _containers.RepeatedScalarFieldContainer[float]
    split_ratio: _containers.RepeatedScalarFieldContainer[float]
    dividend: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, start_us: _Optional[_Iterable[int]] = ..., event_us: _Optional[_Iterable[int]] = ..., available_us: _Optional[_Iterable[int]] = ..., open: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ..., low: _Optional[_Iterable[float]] = ..., close: _Optional[_Iterable[float]] = ..., volume: _Optional[_Iterable[float]] = ..., split_ratio: _Optional[_Iterable[float]] = ..., dividend: _Optional[_Iterable[float]] = ...) -> None: ...

class TradeColumns(_message.Message):
    __slots__ = ("event_us", "available_us", "sequence", "price", "size")
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_US_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    event_us: _containers.RepeatedScalarFieldContainer[int]
    available_us: _containers.RepeatedScalarFieldContainer[int]
    sequence: _containers.RepeatedScalarFieldContainer[int]
    price: _containers.RepeatedScalarFieldContainer[float]
    size: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, event_us: _Optional[_Iterable[int]] = ..., available_us: _Optional[_Iterable[int]] = ..., sequence: _Optional[_Iterable[int]] = ..., price: _Optional[_Iterable[float]] = ..., size: _Optional[_Iterable[float]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("model", "version", "bundle_sha256", "request_id", "request_us", "predictions", "feature_names")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_US_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    bundle_sha256: str
    request_id: str
    request_us: int
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., request_id: _Optional[str] = ..., request_us: _Optional[int] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., feature_names: _Optional[_Iterable[str]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("symbol", "status", "outputs", "partial", "views", "issues", "features")
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    ISSUES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    status: EntityStatus
    outputs: _containers.ScalarMap[str, float]
    partial: bool
    views: _containers.RepeatedCompositeFieldContainer[ViewUse]
    issues: _containers.RepeatedCompositeFieldContainer[FeatureIssue]
    features: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, symbol: _Optional[str] = ..., status: _Optional[_Union[EntityStatus, str]] = ..., outputs: _Optional[_Mapping[str, float]] = ..., partial: _Optional[bool] = ..., views: _Optional[_Iterable[_Union[ViewUse, _Mapping]]] = ..., issues: _Optional[_Iterable[_Union[FeatureIssue, _Mapping]]] = ..., features: _Optional[_Iterable[float]] = ...) -> None: ...

class FeatureIssue(_message.Message):
    __slots__ = ("feature", "status")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    feature: str
    status: FeatureStatus
    def __init__(self, feature: _Optional[str] = ..., status: _Optional[_Union[FeatureStatus, str]] = ...) -> None: ...

class ViewUse(_message.Message):
    __slots__ = ("view", "version", "origin", "event_us", "available_us", "sequence", "staleness_us", "partial")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_US_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_US_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    view: str
    version: int
    origin: Origin
    event_us: int
    available_us: int
    sequence: int
    staleness_us: int
    partial: bool
    def __init__(self, view: _Optional[str] = ..., version: _Optional[int] = ..., origin: _Optional[_Union[Origin, str]] = ..., event_us: _Optional[int] = ..., available_us: _Optional[int] = ..., sequence: _Optional[int] = ..., staleness_us: _Optional[int] = ..., partial: _Optional[bool] = ...) -> None: ...

class ModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelInfoResponse(_message.Message):
    __slots__ = ("model", "version", "bundle_sha256", "features", "views", "outputs", "label_json", "metrics_json", "dataset_sha256", "limits", "served_log", "clock_us", "replay")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LABEL_JSON_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    DATASET_SHA256_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVED_LOG_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    bundle_sha256: str
    features: _containers.RepeatedCompositeFieldContainer[ModelFeature]
    views: _containers.RepeatedCompositeFieldContainer[ModelView]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    label_json: str
    metrics_json: str
    dataset_sha256: str
    limits: Limits
    served_log: ServedLog
    clock_us: int
    replay: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., features: _Optional[_Iterable[_Union[ModelFeature, _Mapping]]] = ..., views: _Optional[_Iterable[_Union[ModelView, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ..., label_json: _Optional[str] = ..., metrics_json: _Optional[str] = ..., dataset_sha256: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., served_log: _Optional[_Union[ServedLog, _Mapping]] = ..., clock_us: _Optional[int] = ..., replay: _Optional[bool] = ...) -> None: ...

class ModelFeature(_message.Message):
    __slots__ = ("view", "version", "name")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    view: str
    version: int
    name: str
    def __init__(self, view: _Optional[str] = ..., version: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class ModelView(_message.Message):
    __slots__ = ("view", "version", "plan_hash", "lineage_hash", "ttl_us", "live_rows")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_HASH_FIELD_NUMBER: _ClassVar[int]
    TTL_US_FIELD_NUMBER: _ClassVar[int]
    LIVE_ROWS_FIELD_NUMBER: _ClassVar[int]
    view: str
    version: int
    plan_hash: str
    lineage_hash: str
    ttl_us: int
    live_rows: LiveRows
    def __init__(self, view: _Optional[str] = ..., version: _Optional[int] = ..., plan_hash: _Optional[str] = ..., lineage_hash: _Optional[str] = ..., ttl_us: _Optional[int] = ..., live_rows: _Optional[_Union[LiveRows, str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("request_bytes_max", "entities_max", "live_rows_max")
    REQUEST_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_MAX_FIELD_NUMBER: _ClassVar[int]
    LIVE_ROWS_MAX_FIELD_NUMBER: _ClassVar[int]
    request_bytes_max: int
    entities_max: int
    live_rows_max: int
    def __init__(self, request_bytes_max: _Optional[int] = ..., entities_max: _Optional[int] = ..., live_rows_max: _Optional[int] = ...) -> None: ...

class ServedLog(_message.Message):
    __slots__ = ("written", "waiting", "dropped")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    written: int
    waiting: int
    dropped: int
    def __init__(self, written: _Optional[int] = ..., waiting: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...
