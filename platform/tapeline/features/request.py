"""A request for one indicator with given parameters, and for what stands in where it has no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import format_duration_us, parse_duration_us
from tapeline.features.timeframes import TimeFrame
from tapeline.indicators import Indicator, indicator_named
from tapeline.indicators.expression import Constant, Expression

AGE_UNIT = "seconds"


@dataclass(frozen=True)
class Hold:
    """What an output shows of a last known value.

    Attributes
    ----------
    column
        Name of the output with the value; the one with its age belongs to it.
    limit_us
        How much older than the row the value may be.
    is_age
        Whether this output is the age.
    """

    column: str
    limit_us: int
    is_age: bool


@dataclass(frozen=True)
class FeatureRequest:
    """One indicator with its parameters; those not given have the indicator's defaults.

    Parameters
    ----------
    name
        The indicator's name, such as ``RSI``.
    parameters
        Pairs of parameter name and value, in any order; kept sorted by name.
    frame
        The time frame whose bars the indicator is computed from; None: the plan's own rows.
    last_within_us
        Where a row has no value, its last known one stands in, if the event of the row that had it lies no longer ago
        than so many microseconds. Each output then has a second one beside it, the age of its value in seconds: 0 of
        the row's own, more of one that stands in. None: a missing value stays missing.

    Raises
    ------
    UnknownNameError, ParameterError
        If the indicator or a parameter does not exist, or a value is impossible.

    Notes
    -----
    The last value is kept in the state like all that a feature remembers, so batch, stream and request agree on it, and
    it follows splits and dividends. The age counts from row to row; how long after its event a row may be used
    is the view's time to live.

    Examples
    --------
    >>> FeatureRequest.of("RSI", timeperiod=14).columns
    ('rsi_14',)
    >>> FeatureRequest.of("RSI", frame="1h", timeperiod=14).columns
    ('rsi_14_1h',)
    >>> FeatureRequest.of("RSI", timeperiod=14, last_within="3d").columns
    ('rsi_14_last_3d', 'rsi_14_last_3d_age')
    """

    name: str
    parameters: tuple[tuple[str, Constant], ...] = ()
    frame: TimeFrame | None = None
    last_within_us: int | None = None

    def __post_init__(self) -> None:
        if self.last_within_us is not None and self.last_within_us <= 0:
            raise ParameterError(
                f"last_within_us is {self.last_within_us}",
                where=f"feature {self.name}",
                remedy="Give how old a value may be, or leave it out",
            )
        complete = self.indicator.complete(dict(self.parameters))
        given = dict(self.parameters)
        object.__setattr__(self, "parameters", tuple(sorted((name, complete[name]) for name in given)))

    @classmethod
    def of(
        cls,
        name: str,
        *,
        frame: str | TimeFrame | None = None,
        last_within: str | None = None,
        **parameters: Constant,
    ) -> FeatureRequest:
        """A request with parameters as keywords, its time frame, such as ``1h`` (see :class:`TimeFrame`), and the age limit of
        a last value, such as ``3d``.
        """
        parsed = TimeFrame.parse(frame) if isinstance(frame, str) else frame
        limit_us = None if last_within is None else parse_duration_us(last_within)
        return cls(name, tuple(parameters.items()), parsed, limit_us)

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> FeatureRequest:
        """The request of a JSON definition; see :meth:`definition`."""
        parameters = definition.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise TypeError("parameters is not a mapping")
        frame = definition.get("frame")
        parsed = None if frame is None else TimeFrame.parse(str(frame))
        limit = definition.get("last_within")
        limit_us = None if limit is None else parse_duration_us(str(limit))
        return cls(str(definition["name"]), tuple(parameters.items()), parsed, limit_us)

    def definition(self) -> dict[str, object]:
        """JSON form, with every parameter spelled out, and the time frame and age limit if it has them."""
        frame = {} if self.frame is None else {"frame": self.frame.text}
        limit = {} if self.last_within_us is None else {"last_within": format_duration_us(self.last_within_us)}
        return {"name": self.name, "parameters": self.indicator.complete(dict(self.parameters)), **frame, **limit}

    @property
    def indicator(self) -> Indicator:
        """The indicator's specification."""
        return indicator_named(self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the output columns; a time frame and an age limit stand at their end. Ages come after all values."""
        names = self.indicator.columns(dict(self.parameters))
        if self.frame is not None:
            names = tuple(f"{name}_{self.frame.suffix}" for name in names)
        if self.last_within_us is None:
            return names
        held = tuple(f"{name}_last_{format_duration_us(self.last_within_us)}" for name in names)
        return (*held, *(f"{name}_age" for name in held))

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each column."""
        units = tuple(self.indicator.outputs.values())
        return units if self.last_within_us is None else (*units, *(AGE_UNIT for _ in units))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """What each column is computed from; an age from the value that it belongs to."""
        made = tuple(self.indicator.expressions(dict(self.parameters)))
        return made if self.last_within_us is None else (*made, *made)

    @property
    def holds(self) -> tuple[Hold | None, ...]:
        """For each column, what it shows of a last known value; None: nothing."""
        names = self.columns
        if self.last_within_us is None:
            return (None,) * len(names)
        values = names[: len(names) // 2]
        return tuple(Hold(name, self.last_within_us, is_age) for is_age in (False, True) for name in values)
