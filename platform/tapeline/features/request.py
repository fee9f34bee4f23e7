"""A request for one indicator with given parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

    Raises
    ------
    UnknownNameError, ParameterError
        If the indicator or a parameter does not exist, or a value is impossible.

    Examples
    --------
    >>> FeatureRequest.of("RSI", timeperiod=14).columns
    ('rsi_14',)
    """

    name: str
    parameters: tuple[tuple[str, Constant], ...] = ()

    def __post_init__(self) -> None:
        complete = self.indicator.complete(dict(self.parameters))
        given = dict(self.parameters)
        object.__setattr__(self, "parameters", tuple(sorted((name, complete[name]) for name in given)))

    @classmethod
    def of(cls, name: str, **parameters: Constant) -> FeatureRequest:
        """A request with parameters as keywords."""
        return cls(name, tuple(parameters.items()))

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> FeatureRequest:
        """The request of a JSON definition; see :meth:`definition`."""
        parameters = definition.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise TypeError("parameters is not a mapping")
        return cls(str(definition["name"]), tuple(parameters.items()))

    def definition(self) -> dict[str, object]:
        """JSON form, with every parameter spelled out."""
        return {"name": self.name, "parameters": self.indicator.complete(dict(self.parameters))}

    @property
    def indicator(self) -> Indicator:
        """The indicator's specification."""
        return indicator_named(self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the output columns."""
        return self.indicator.columns(dict(self.parameters))
