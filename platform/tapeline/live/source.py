"""What a live source is: venue, symbols, channels and limits, declared in a TOML or YAML file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tapeline.core.errors import ConfigurationError, MissingExtraError, ParameterError
from tapeline.core.timestamps import parse_duration_us
from tapeline.live.adapters.mapping_rules import Mapping

Channel = Literal["trades", "book", "quotes"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
SYMBOLS_MAX = 1_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Part):
    """Bounds of everything that can grow.

    Attributes
    ----------
    frame_bytes_max
        A longer message ends the connection.
    waiting_events_max
        Events that wait to be sent; beyond it nothing more is read from the venue.
    response_bytes_max
        A longer answer of the venue's history is given up.
    gap_trades_max
        A larger gap is not filled.
    clock_skew_s
        An event that lies further in the future is refused.
    """

    frame_bytes_max: int = Field(default=4 << 20, ge=1_024, le=256 << 20)
    waiting_events_max: int = Field(default=100_000, ge=100, le=10_000_000)
    response_bytes_max: int = Field(default=32 << 20, ge=1_024, le=256 << 20)
    gap_trades_max: int = Field(default=1_000_000, ge=1)
    clock_skew_s: Seconds = 60.0


class Timing(_Part):
    """When a connection counts as lost, and how it is tried again.

    Attributes
    ----------
    ping_s, pong_s
        How often the venue is pinged, and how long its answer may take.
    silence_s
        A connection without any message for so long is given up.
    open_s
        How long connecting may take.
    retry_s, retry_max_s
        Pause before the next try, at first and at most: it doubles, and half of it is random.
    stable_s
        A connection that lasted so long makes the pauses short again.
    """

    ping_s: Seconds = 20.0
    pong_s: Seconds = 20.0
    silence_s: Seconds = 60.0
    open_s: Seconds = 10.0
    retry_s: Seconds = 1.0
    retry_max_s: Seconds = 60.0
    stable_s: Seconds = 30.0


class Rest(_Part):
    """How the venue's history is asked.

    Attributes
    ----------
    interval_s
        Pause between two requests.
    timeout_s
        How long one may take.
    attempts_max
        Tries of one request.
    retry_s, retry_max_s
        Pause before the next try where the venue does not name one, as in :class:`Timing`.
    grace_s
        Pause before a gap's trades are asked for: history lags, and late trades may still come by themselves.
    empty_max
        Answers without any missing trade before a gap counts as unfillable.
    page
        Trades of one request.
    headers_from
        Header → environment variable that holds its value, such as an API key.
    """

    interval_s: Annotated[float, Field(ge=0, le=3_600)] = 0.25
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    attempts_max: int = Field(default=8, ge=1, le=100)
    retry_s: Seconds = 1.0
    retry_max_s: Seconds = 60.0
    grace_s: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    empty_max: int = Field(default=3, ge=1, le=100)
    page: int = Field(default=1_000, ge=1, le=100_000)
    headers_from: dict[str, str] = Field(default_factory=dict)


class LiveSource(_Part):
    """A live source.

    Attributes
    ----------
    name
        Name of the stream that its events go to.
    source
        Source under which raw rows are stored.
    adapter
        The venue's format: ``binance``, ``kraken`` or ``json`` (which needs ``mapping``).
    url, rest_url
        Where the WebSocket and the history are; none: the venue's own, or no history.
    symbols
        The venue's symbol → the symbol here.
    rest_symbols
        The venue's symbol → what its history calls it, where that differs.
    channels
        What to listen to.
    depth
        Levels a side of the book; none: the venue's default.
    partitions
        Of the stream.
    lag, calendar
        Of the source, as :class:`tapeline.storage.reference.Source` has them.
    limits, timing, rest
        Bounds.
    mapping
        For the adapter ``json``.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")
    source: str = Field(min_length=1, max_length=64)
    adapter: Literal["binance", "kraken", "json"]
    url: str | None = None
    rest_url: str | None = None
    symbols: dict[str, str] = Field(min_length=1, max_length=SYMBOLS_MAX)
    rest_symbols: dict[str, str] = Field(default_factory=dict)
    channels: tuple[Channel, ...] = ("trades",)
    depth: int | None = Field(default=None, ge=1, le=5_000)
    partitions: int = Field(default=16, ge=1, le=4_096)
    lag: str = "2s"
    calendar: str | None = None
    limits: Limits = Limits()
    timing: Timing = Timing()
    rest: Rest = Rest()
    mapping: Mapping | None = None

    @field_validator("url")
    @classmethod
    def _web_socket(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("ws://", "wss://")):
            raise ValueError("it begins with wss:// (or ws:// on a network of one's own)")
        return value

    @field_validator("rest_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("it begins with https:// (or http:// on a network of one's own)")
        return value

    @field_validator("symbols")
    @classmethod
    def _named(cls, value: dict[str, str]) -> dict[str, str]:
        for theirs, ours in value.items():
            if not 0 < len(theirs) <= 64 or not 0 < len(ours.encode()) <= 64:
                raise ValueError(f"{theirs!r} = {ours!r}: a symbol has 1 to 64 bytes")
        if len(set(value.values())) != len(value):
            raise ValueError("two symbols of the venue have the same name here")
        return value

    @field_validator("lag")
    @classmethod
    def _duration(cls, value: str) -> str:
        try:
            parse_duration_us(value)
        except ParameterError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> LiveSource:
        if (self.adapter == "json") != (self.mapping is not None):
            raise ValueError("the adapter json needs a mapping, and only it takes one")
        if self.adapter == "json" and self.url is None:
            raise ValueError("the adapter json needs a url")
        unknown = set(self.rest_symbols) - set(self.symbols)
        if unknown:
            raise ValueError(f"rest_symbols names {', '.join(sorted(unknown))}, which symbols does not")
        if len(set(self.channels)) != len(self.channels) or not self.channels:
            raise ValueError("channels names one twice, or none")
        return self

    def rest_symbol(self, symbol: str) -> str:
        """What the venue's history calls a symbol."""
        return self.rest_symbols.get(symbol, symbol)

    def headers(self) -> dict[str, str]:
        """Headers of requests for history, with their secret values.

        Raises
        ------
        ConfigurationError
            If an environment variable is not set.
        """
        missing = [name for name in self.rest.headers_from.values() if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(
                f"environment variable {missing[0]} is not set", where=f"rest.headers_from of {self.name}"
            )
        return {header: os.environ[name] for header, name in self.rest.headers_from.items()}


def read_source(path: Path) -> LiveSource:
    """The live source that a TOML or YAML file declares.

    Raises
    ------
    ConfigurationError
        If the file is missing or malformed; the message names every fault and its place.
    MissingExtraError
        If it is YAML and PyYAML is not installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the source file cannot be read: {error.strerror}", where=str(path)) from None
    return parse_source(_parsed(path, data), str(path))


def parse_source(content: Any, where: str) -> LiveSource:
    """The live source of a parsed file.

    Raises
    ------
    ConfigurationError
        If it is malformed.
    """
    try:
        return LiveSource.model_validate(content)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"])) or "the file"
            said = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{place}: {'there is no such key' if fault['type'] == 'extra_forbidden' else said}")
        raise ConfigurationError(
            "the live source is malformed: " + "; ".join(faults), where=where, remedy="docs/how-to/live.md shows one"
        ) from None


def _parsed(path: Path, data: bytes) -> Any:
    if path.suffix in {".yaml", ".yml"}:
        try:
            import yaml
        except ImportError:
            raise MissingExtraError("PyYAML", "live") from None
        try:
            return yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"it is no YAML: {error}", where=str(path)) from None
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"it is no TOML: {error}", where=str(path)) from None
