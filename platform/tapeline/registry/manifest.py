"""A bundle's ``manifest.json``: what a model needs, what it gives, and where it came from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, model_validator

from tapeline.core.errors import IntegrityError
from tapeline.core.hashing import canonical_json, sha256_json

MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
SAMPLE_NAME = "sample.npz"
UNREGISTERED = "0.0.0"
"""The version of a bundle that no registry has numbered yet."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
MODEL_NAME_FORM = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME_FORM.pattern)]
# Plain names only: a manifest must not be able to point outside its folder.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureReference(_Part):
    """One input of the model; the order of the list is the order of the input's columns."""

    view: str
    version: int = Field(ge=1)
    name: str
    dtype: Literal["float64"] = "float64"
    imputation: Literal["none", "constant", "median"] = Field(
        default="none", description="what the model's graph puts in the place of a missing value"
    )
    last_within_us: int | None = Field(
        default=None,
        ge=1,
        exclude_if=lambda limit: limit is None,
        description="before that, and outside the graph: the age up to which the feature's last known value stands in",
    )

    def __str__(self) -> str:
        return f"{self.view}@v{self.version}:{self.name}"


class Sessions(_Part):
    """The trading sessions around the end of the training data, so that a server needs no calendar library.

    ``first_number`` is the number of the first one in the whole calendar (``SessionTimes.number_of``), so that kernels
    that reset with the session number sessions alike in batch and at a request.
    """

    calendar: str
    first_number: int = Field(default=0, ge=0)
    open_us: tuple[int, ...]
    close_us: tuple[int, ...]

    @model_validator(mode="after")
    def _check(self) -> Sessions:
        if len(self.open_us) != len(self.close_us):
            raise ValueError("open_us and close_us differ in length")
        pairs = list(zip(self.open_us, self.close_us, strict=True))
        if any(start >= end for start, end in pairs):
            raise ValueError("a session closes before it opens")
        if any(later <= earlier for earlier, later in zip(self.close_us, self.close_us[1:], strict=False)):
            raise ValueError("close_us is not increasing")
        return self


class ViewReference(_Part):
    """A feature view version with the hashes that its values must have."""

    view: str
    version: int = Field(ge=1)
    plan_hash: Sha256
    lineage_hash: Sha256
    ttl_us: int = Field(ge=0, description="0: values never grow stale")
    definition: dict[str, JsonValue]
    sessions: Sessions | None = None


class BundleManifest(_Part):
    """The whole manifest.

    The input is float32 of shape (rows, features), NaN meaning missing; each output is float32 of shape (rows,).
    """

    format: Literal[1] = 1
    model: ModelName
    version: Version = UNREGISTERED
    service: str
    features: tuple[FeatureReference, ...] = Field(min_length=1)
    views: tuple[ViewReference, ...] = Field(min_length=1)
    input_name: str = "features"
    outputs: tuple[str, ...] = ("probability", "score")
    label: dict[str, JsonValue]
    metrics: dict[str, JsonValue] = {}
    dataset_sha256: Sha256
    training: dict[str, JsonValue] = Field(default={}, description="family, parameters, rows, folds")
    libraries: dict[str, str] = {}
    parent: Sha256 | None = None
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _check(self) -> BundleManifest:
        views = [(view.view, view.version) for view in self.views]
        if len(set(views)) != len(views):
            raise ValueError("a view version is named twice")
        names = [str(feature) for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("a feature is named twice")
        strangers = {(f.view, f.version) for f in self.features} - set(views)
        if strangers:
            raise ValueError(f"features of views that are not described: {sorted(strangers)}")
        missing = {MODEL_NAME, SAMPLE_NAME} - set(self.files)
        if missing or MANIFEST_NAME in self.files:
            raise ValueError(f"files must name {MODEL_NAME} and {SAMPLE_NAME}, and not {MANIFEST_NAME}")
        return self

    @property
    def address(self) -> str:
        """The bundle's SHA-256: that of this manifest's canonical JSON, which holds the SHA-256 of every file."""
        return sha256_json(self.model_dump(mode="json"))

    def to_bytes(self) -> bytes:
        """The canonical JSON that :attr:`address` is the SHA-256 of."""
        return canonical_json(self.model_dump(mode="json"))


def read_manifest(folder: Path) -> BundleManifest:
    """Parse and check the manifest of a bundle folder.

    Raises
    ------
    IntegrityError
        If it is missing, is no JSON, or breaks a rule of the format; the message names each fault.
    """
    path = folder / MANIFEST_NAME
    try:
        return BundleManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(
            "the bundle has no manifest", where=str(path), remedy="Fetch it again, or train again"
        ) from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()[:5])
        raise IntegrityError(
            f"the bundle's manifest is wrong: {faults}", where=str(path), remedy="Fetch it again, or train again"
        ) from None
