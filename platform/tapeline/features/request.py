"""A request for one indicator with given parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapeline.features.timeframes import TimeFrame
from tapeline.indicators import Indicator, indicator_named
from tapeline.indicators.expression import Constant


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

    Raises
    ------
    UnknownNameError, ParameterError
        If the indicator or a parameter does not exist, or a value is impossible.

    Examples
    --------
    >>> FeatureRequest.of("RSI", timeperiod=14).columns
    ('rsi_14',)
    >>> FeatureRequest.of("RSI", frame="1h", timeperiod=14).columns
    ('rsi_14_1h',)
    """

    name: str
    parameters: tuple[tuple[str, Constant], ...] = ()
    frame: TimeFrame | None = None

    def __post_init__(self) -> None:
        complete = self.indicator.complete(dict(self.parameters))
        given = dict(self.parameters)
        object.__setattr__(self, "parameters", tuple(sorted((name, complete[name]) for name in given)))

    @classmethod
    def of(cls, name: str, *, frame: str | TimeFrame | None = None, **parameters: Constant) -> FeatureRequest:
        """A request with parameters as keywords, and its time frame, such as ``1h``; see :class:`TimeFrame`."""
        return cls(name, tuple(parameters.items()), TimeFrame.parse(frame) if isinstance(frame, str) else frame)

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> FeatureRequest:
        """The request of a JSON definition; see :meth:`definition`."""
        parameters = definition.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise TypeError("parameters is not a mapping")
        frame = definition.get("frame")
        parsed = None if frame is None else TimeFrame.parse(str(frame))
        return cls(str(definition["name"]), tuple(parameters.items()), parsed)

    def definition(self) -> dict[str, object]:
        """JSON form, with every parameter spelled out, and the time frame if it has one."""
        frame = {} if self.frame is None else {"frame": self.frame.text}
        return {"name": self.name, "parameters": self.indicator.complete(dict(self.parameters)), **frame}

    @property
    def indicator(self) -> Indicator:
        """The indicator's specification."""
        return indicator_named(self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the output columns; a time frame stands at their end."""
        names = self.indicator.columns(dict(self.parameters))
        return names if self.frame is None else tuple(f"{name}_{self.frame.suffix}" for name in names)
