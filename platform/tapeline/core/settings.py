"""Settings from the environment (``TAPELINE_…``) or from ``tapeline.toml``, the environment winning."""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tapeline.core.clock import Clock, clock_from
from tapeline.core.errors import ConfigurationError, UnknownNameError
from tapeline.core.home import nearest_home

_PREFIX = "TAPELINE_"
_FILE_VARIABLE = "TAPELINE_CONFIG"
_OTHER_VARIABLES = frozenset({
    "CONFIG",
    # of compose.yaml, which a shell or an .env file may hold
    "MODEL", "POSTGRES_CPUS", "POSTGRES_MEMORY", "POSTGRES_MEMORY_LIMIT", "POSTGRES_PASSWORD", "POSTGRES_PORT",
    "REDIS_MAXMEMORY", "REDIS_MEMORY_LIMIT", "REDIS_PASSWORD", "REDIS_PORT", "SERVE_CPUS", "SERVE_MEMORY_LIMIT",
    # of the test suite
    "REQUIRE_EDITIONS", "REQUIRE_REDIS", "TEST_DOWNLOADS",
})  # fmt: skip
"""What may stand in the environment beside the settings; anything else is a misspelt setting."""


class Settings(BaseSettings):
    """Everything that can be set from outside.

    Each field is read from the environment variable ``TAPELINE_<FIELD>``, else from ``tapeline.toml`` in the working
    folder (or the file that ``TAPELINE_CONFIG`` names), else has the default given here. The default data folder is the
    nearest ``.tapeline``, upward from the working folder.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    home: Path = Field(default_factory=nearest_home, description="data folder: servers, artifacts, compiled kernels")
    project: str = Field(default="tapeline", pattern=r"^[a-z][a-z0-9_]{0,62}$", description="prefix of online keys")
    postgres_url: str | None = Field(default=None, description="PostgreSQL URL; none: the embedded server of `home`")
    redis_url: str | None = Field(default=None, description="Redis URL; none: the embedded server of `home`")
    artifacts: str | None = Field(default=None, description="folder of content-addressed artifacts; none: in `home`")
    clock: str = Field(default="live", description="`live`, or an ISO 8601 moment at which to replay history")
    chunk_interval: str = Field(default="30d", description="time span of a TimescaleDB chunk")
    serve_host: str = Field(default="127.0.0.1", description="address the inference server binds to")
    serve_port: int = Field(default=50051, ge=0, le=65535, description="its port; 0 picks a free one")
    serve_when_store_is_away: Literal["degrade", "refuse"] = Field(
        default="degrade", description="start without Redis or PostgreSQL, or exit"
    )
    request_bytes_max: int = Field(default=4 << 20, gt=0, description="largest request the server accepts")
    entities_per_request_max: int = Field(default=1_000, gt=0)
    live_rows_per_request_max: int = Field(default=100_000, gt=0)
    feature_modules: str = Field(default="", description="modules of custom features to import, separated by commas")
    openlineage: Literal["none", "file", "http"] = Field(default="none", description="how OpenLineage events are told")
    openlineage_target: str | None = Field(default=None, description="their file, or their receiver's address")
    openlineage_timeout_ms: int = Field(default=2_000, ge=1, le=60_000, description="how long an event may take")
    openlineage_api_key: SecretStr | None = Field(default=None, description="sent to the receiver as a bearer token")
    quality_modules: str = Field(default="", description="modules of quality rules to import, separated by commas")
    quality_warn_below: float = Field(default=0.9, ge=0, le=1, description="a block that scores less is told of")
    quality_block_below: float = Field(default=0.0, ge=0, le=1, description="a block that scores less is refused")
    quality_override: str = Field(
        default="",
        description="views (NAME or NAME@VERSION, commas between) whose refused blocks are written all the same",
    )
    cache: Literal["none", "process", "shared"] = Field(
        default="none",
        description="what the inference server remembers: nothing, for itself, or in Redis for all servers",
    )
    cache_redis_url: str | None = Field(default=None, description="Redis of what is shared; none: the online store's")
    cache_bytes_max: int = Field(default=64 << 20, ge=0, description="what a server remembers for itself, in bytes")
    cache_compress_above_bytes: int = Field(default=8_192, ge=0, description="longer shared values are compressed")
    cache_predictions_s: int = Field(default=300, ge=1, le=86_400, description="how long a prediction is given again")
    cache_features_s: int = Field(default=900, ge=1, le=86_400, description="how long a stored value is not read again")
    cache_model_s: int = Field(default=3_600, ge=1, le=86_400, description="how long the model's description is used")
    cache_status_s: int = Field(default=60, ge=1, le=86_400, description="how long the deployment's status is used")
    cache_warm_entities: int = Field(
        default=1_000, ge=0, le=100_000, description="popular entities asked for at a start"
    )
    served_log_queue_max: int = Field(default=100_000, gt=0, description="served vectors waiting to be logged")

    @field_validator("clock")
    @classmethod
    def _check_clock(cls, value: str) -> str:
        clock_from(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = _settings_file()
        if _FILE_VARIABLE in os.environ and not file.is_file():
            raise ConfigurationError(
                f"settings file {file} does not exist",
                where=f"environment variable {_FILE_VARIABLE}",
                remedy="Create it, or unset the variable",
            )
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    def replaced(self, **changes: Any) -> Settings:
        """These settings with some changed, checked like those from outside.

        Raises
        ------
        ConfigurationError
            If a value is malformed.
        """
        return _checked(**(self.model_dump() | changes))

    def make_clock(self) -> Clock:
        """A new clock of the kind these settings ask for."""
        return clock_from(self.clock)

    @property
    def home_path(self) -> Path:
        """The data folder, absolute."""
        return self.home.expanduser().resolve()

    @property
    def artifacts_path(self) -> str:
        """Where content-addressed artifacts live: a folder or an fsspec URL."""
        return self.artifacts or str(self.home_path / "artifacts")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once; ``get_settings.cache_clear()`` reads them again.

    Raises
    ------
    UnknownNameError
        If a setting does not exist, in the environment or in the file.
    ConfigurationError
        If a setting is malformed; the message names each, its place and its value.
    """
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper().startswith(_PREFIX) and name not in _OTHER_VARIABLES:
            _require_field(name.lower(), f"environment variable {variable}")
    return _checked()


def _checked(**given: Any) -> Settings:
    """The settings, those given winning over environment and file."""
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"it is no TOML: {error}", where=str(_settings_file()), remedy='Write lines like project = "mine"'
        ) from None
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            place = str(_settings_file())
            if name in given:
                place = "given here"
            elif (_PREFIX + name).upper() in map(str.upper, os.environ):
                place = f"environment variable {_PREFIX}{name.upper()}"
            if fault["type"] == "extra_forbidden":
                _require_field(name, place)
            faults.append(f"{name} is {fault['input']!r} ({place}): {fault['msg']}")
        raise ConfigurationError("settings are wrong: " + "; ".join(faults), remedy="Correct or remove them") from None


def _require_field(name: str, where: str) -> None:
    if name not in Settings.model_fields:
        raise UnknownNameError("setting", name, Settings.model_fields, where=where)


def _settings_file() -> Path:
    return Path(os.environ.get(_FILE_VARIABLE, "tapeline.toml"))
