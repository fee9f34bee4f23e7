"""What a view's rows are judged by: rules, weights of the four factors, thresholds. Defaults, and how to set your own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tapeline.core.errors import ConfigurationError, ParameterError, TapelineError, UnknownNameError
from tapeline.core.hashing import sha256_json
from tapeline.core.settings import Settings, get_settings

if TYPE_CHECKING:
    import pandera.polars as pa

Action = Literal["off", "warn", "block"]
"""What a broken rule does: nothing, tell of it and record it, or refuse the block."""

FACTORS = ("completeness", "freshness", "reliability", "validity")
BUILT_IN = {
    "finite": "a value is infinite",
    "range": "a value lies outside what its formula can give",
    "early_value": "a value stands before the end of its warm-up",
    "gap": "a value is missing after its warm-up",
    "available_before_event": "a row was available before its event",
    "event_in_future": "an event lies in the future",
    "key_twice": "two rows have the same entity, event, sequence and available time",
}
"""The rules that every view has, and how a row breaks each."""
DEFAULT_WEIGHTS: Mapping[str, float] = {"completeness": 0.3, "freshness": 0.1, "reliability": 0.2, "validity": 0.4}

Schema = TypeVar("Schema", bound="type[pa.DataFrameModel] | pa.DataFrameSchema")


@dataclass(frozen=True)
class QualityDefinition:
    """What the blocks of one view version are judged by.

    Attributes
    ----------
    weights
        Weight of each factor; the score is their weighted mean.
    action
        What a broken rule does unless ``actions`` says otherwise.
    actions
        Rule → what it does, where that is not ``action``. Your own rules are together called ``own``, or each by the
        name of its check.
    warn_below, block_below
        Scores below which a block is told of, or refused.
    late_us
        How long after its event and its source's declared lag a row may be available and still be on time.
    half_life_rows
        A block's newest row that lies behind by so many rows more than one counts half as fresh.
    schema
        Your own rules, a pandera schema for polars; none: only the built-in ones.
    source_sha256
        SHA-256 of the source text of ``schema``.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    action: Action = "warn"
    actions: Mapping[str, Action] = field(default_factory=dict)
    warn_below: float = 0.9
    block_below: float = 0.0
    late_us: int = 0
    half_life_rows: float = 5.0
    schema: pa.DataFrameSchema | None = None
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in self.weights:
            if name not in FACTORS:
                raise UnknownNameError("factor of quality", name, FACTORS)
        total = sum(self.weights.values())
        if min(self.weights.values(), default=0) < 0 or not 0 < total < float("inf"):
            raise ParameterError(
                f"weights {dict(self.weights)} cannot be used", remedy="Give numbers of which one is above 0"
            )
        if not 0 <= self.block_below <= 1 or not 0 <= self.warn_below <= 1:
            raise ParameterError(
                f"thresholds {self.warn_below} and {self.block_below} are not scores", remedy="Give numbers from 0 to 1"
            )
        if self.late_us < 0 or not 0 < self.half_life_rows < float("inf"):
            raise ParameterError(f"late_us is {self.late_us}, half_life_rows {self.half_life_rows}")
        for action in (self.action, *self.actions.values()):
            if action not in {"off", "warn", "block"}:
                raise UnknownNameError("action of a rule", action, ("off", "warn", "block"))

    def action_of(self, rule: str) -> Action:
        """What breaking a rule does."""
        built_in = rule in BUILT_IN
        return self.actions.get(rule) or (self.action if built_in else self.actions.get("own", self.action))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, recorded with every score that was given by it."""
        checks = [] if self.schema is None else sorted(own_rules(self.schema))
        return {
            "weights": dict(self.weights),
            "rules": {name: self.action_of(name) for name in (*BUILT_IN, *checks)},
            "warn_below": self.warn_below,
            "block_below": self.block_below,
            "late_us": self.late_us,
            "half_life_rows": self.half_life_rows,
            "own_rules_sha256": self.source_sha256,
        }

    @property
    def sha256(self) -> str:
        """Identifies what was judged by."""
        return sha256_json(self.as_dict())


_DEFINED: dict[tuple[str, int | None], QualityDefinition] = {}


def own_rules(schema: pa.DataFrameSchema) -> list[str]:
    """Names of a pandera schema's checks: of a column's, ``column: check``; of the whole frame, the check's name alone."""
    names = [rule_name(check, None) for check in schema.checks]
    for name, column in schema.columns.items():
        names += [rule_name(check, name) for check in column.checks]
        if not column.nullable:
            names.append(rule_name("not_nullable", name))
    return names


def rule_name(check: object, column: str | None) -> str:
    """How a check of a pandera schema is called in reports."""
    name = str(getattr(check, "error", None) or getattr(check, "name", None) or check)
    return name if column is None else f"{column}: {name}"


def quality_rules(
    view: str,
    version: int | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    action: Action = "warn",
    actions: Mapping[str, Action] | None = None,
    warn_below: float | None = None,
    block_below: float | None = None,
    late_us: int = 0,
    half_life_rows: float = 5.0,
) -> Callable[[Schema], Schema]:
    """Register a pandera schema for polars as a view's own rules; decorates a ``DataFrameModel``, or is called with a schema.

    The schema sees the view's columns with NaN as null, its entity and time columns, and ``row_number``, an entity's rows
    counted from 1. Columns that it does not name are left alone. Nulls are broken rules unless a column is nullable, which
    columns with a warm-up should be: what may be missing when is a rule that every view has already.

    Parameters
    ----------
    view
        Name of a feature view, of the catalogue or of any Feast repository over this store.
    version
        Its version; none: every version that has no rules of its own.
    weights, action, actions, warn_below, block_below, late_us, half_life_rows
        See :class:`QualityDefinition`; thresholds are those of the settings if not given.

    Raises
    ------
    ParameterError
        If the view version has rules already, or what is decorated is no pandera schema for polars.

    Examples
    --------
    >>> import pandera.polars as pa
    >>> @quality_rules("calm_view", 1, action="block")
    ... class Calm(pa.DataFrameModel):
    ...     rsi_14: float = pa.Field(nullable=True, ge=1, le=99)
    """
    import pandera.polars as pa  # takes longer than judging a block

    settings = get_settings()

    def register(schema: Schema) -> Schema:
        text = _source_of(schema)
        made = schema.to_schema() if isinstance(schema, type) and issubclass(schema, pa.DataFrameModel) else schema
        if not isinstance(made, pa.DataFrameSchema):
            raise ParameterError(
                f"{schema!r} is no pandera schema for polars",
                where=f"quality rules of {view}",
                remedy="Decorate a pandera.polars.DataFrameModel, or give a DataFrameSchema",
            )
        key = (view, version)
        defined = QualityDefinition(
            weights=dict(weights or DEFAULT_WEIGHTS),
            action=action,
            actions=dict(actions or {}),
            warn_below=settings.quality_warn_below if warn_below is None else warn_below,
            block_below=settings.quality_block_below if block_below is None else block_below,
            late_us=late_us,
            half_life_rows=half_life_rows,
            schema=made,
            source_sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        if key in _DEFINED and _DEFINED[key].sha256 != defined.sha256:
            raise ParameterError(
                f"{view}{'' if version is None else f'@{version}'} has quality rules already",
                remedy="Put all rules of a view version into one schema",
            )
        known = {*BUILT_IN, "own", *own_rules(made)}
        for rule in defined.actions:
            if rule not in known:
                raise UnknownNameError("rule", rule, known, where=f"quality rules of {view}")
        _DEFINED[key] = defined
        return schema

    return register


def definition_of(view: str, version: int, settings: Settings | None = None) -> QualityDefinition:
    """What the blocks of a view version are judged by: as registered for it, for the view, or the default.

    Raises
    ------
    ConfigurationError
        If a configured module of rules cannot be imported.
    """
    settings = settings or get_settings()
    load_quality_modules(settings)
    found = _DEFINED.get((view, version)) or _DEFINED.get((view, None))
    return found or QualityDefinition(warn_below=settings.quality_warn_below, block_below=settings.quality_block_below)


def load_quality_modules(settings: Settings) -> None:
    """Import the modules of quality rules that the setting ``quality_modules`` names.

    Raises
    ------
    ConfigurationError
        If one cannot be imported.
    """
    for name in filter(None, map(str.strip, settings.quality_modules.split(","))):
        try:
            importlib.import_module(name)  # waits for another thread's import: a module half read has no rules yet
        except Exception as error:
            said = str(error) if isinstance(error, TapelineError) else f"{type(error).__name__}: {error}"
            raise ConfigurationError(
                f"quality module {name!r} cannot be imported: {said}",
                where="setting quality_modules (TAPELINE_QUALITY_MODULES)",
                remedy="Put its folder on PYTHONPATH or install its package, and correct what it says",
            ) from error


def is_overridden(view: str, version: int, settings: Settings | None = None) -> bool:
    """Whether the setting ``quality_override`` lets refused blocks of a view version be written."""
    names = {name.strip() for name in (settings or get_settings()).quality_override.split(",")}
    return view in names or f"{view}@{version}" in names


def _source_of(schema: object) -> str:
    """Source text of a model; of a schema, or where there is no source, its description without addresses in memory."""
    if isinstance(schema, type):
        with contextlib.suppress(OSError, TypeError):
            return textwrap.dedent(inspect.getsource(schema))
    return re.sub(r" at 0x[0-9a-f]+", "", repr(schema))
