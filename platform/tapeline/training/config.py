"""What can be chosen about a training."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tapeline.core.errors import ParameterError
from tapeline.training.selection import AnySelection


def _no_history(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("last"):
        raise ValueError(
            "a last value needs the rows before, so it belongs to the feature view: give the feature last_within there"
        )
    return value


Imputing = Annotated[
    Literal["none", "median"] | Annotated[float, Field(allow_inf_nan=False)], BeforeValidator(_no_history)
]


class TrainingConfig(BaseModel):
    """Choices of a training, each with a default; sizes count *steps*: distinct times of entity rows.

    In a data set of session closes a step is a session.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["lightgbm", "logistic"] = "lightgbm"
    parameters: dict[str, float | int | str | bool] = Field(
        default={}, description="LightGBM's names, and `rounds`; they replace the defaults one by one"
    )
    imputation: Imputing = Field(
        default="none", description="what replaces a missing value: `none`, `median` of the training rows, or a number"
    )
    imputations: dict[str, Imputing] = Field(default={}, description="the same for single features, by name")
    scaling: Literal["standard", "min_max", "robust", "quantile", "power"] | None = Field(
        default=None, description="how features are scaled, fitted on each training window alone"
    )
    selection: AnySelection | None = Field(
        default=None, description="which features the model sees, chosen on each training window alone; none: all"
    )
    window: Literal["expanding", "rolling"] = "expanding"
    train_steps: int = Field(default=756, ge=10, description="smallest (expanding) or only (rolling) training window")
    test_steps: int = Field(default=126, ge=1, description="length of each test window")
    embargo_steps: int = Field(default=1, ge=0, description="gap before a test window, beyond the purge")
    calibration_folds: int = Field(default=3, ge=1, description="first folds, used to calibrate and not evaluated")
    cost_bps: float = Field(default=5.0, ge=0, description="cost of trading, basis points of the traded value")
    resamples: int = Field(default=1_000, ge=100, le=20_000, description="of the block bootstrap")
    permutations: int = Field(default=1, ge=0, le=20, description="per feature and fold, for its importance; 0: none")
    significance: float = Field(default=0.05, gt=0, lt=0.5)
    moving_averages: tuple[str, str] | None = Field(
        default=None, description="fast and slow feature of the moving-average cross; none: the first fitting pair"
    )
    seed: int = Field(default=7, ge=0, lt=2**31)
    threads: int = Field(default=1, ge=1, le=64, description="of one fit; fixed, so that the model is always the same")
    workers: int = Field(default=2, ge=1, le=64, description="folds fitted at once; does not change any result")


def read_config(path: Path | None, **changes: Any) -> TrainingConfig:
    """The defaults, replaced by a TOML or JSON file, replaced by the changes that are not none.

    Raises
    ------
    ParameterError
        If the file is missing or malformed, or a value is out of range; the message names each.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise ParameterError(f"the training configuration cannot be read: {error}", where=str(path)) from None
    values |= {name: value for name, value in changes.items() if value is not None}
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ParameterError(
            f"the training configuration is wrong: {faults}", where=str(path) if path else None
        ) from None
