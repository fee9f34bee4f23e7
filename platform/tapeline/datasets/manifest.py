"""A data set's ``manifest.json``: what it holds and everything needed to build it again from the database."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from tapeline.core.errors import IntegrityError
from tapeline.datasets.fingerprint import FINGERPRINT_FORMAT
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.part_files import PartFile, PartitionBy
from tapeline.datasets.plan import RetrievalPlan

MANIFEST_NAME = "manifest.json"
DATA_NAME = "data"
ENTITIES_NAME = "entities"
FORMAT: Literal[2] = 2
_LIBRARIES = ("numpy", "polars", "pyarrow", "psycopg", "exchange_calendars", "tapeline")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetView(_Part):
    """A feature view version that the data set was joined from; hashes are none for a view that is not Tapeline's."""

    view: str
    version: int
    plan_hash: Sha256 | None = None
    lineage_hash: Sha256 | None = None
    definition: dict[str, JsonValue] | None = None


class DatasetColumn(_Part):
    """A column, its Arrow type, and the SHA-256 of its canonical content."""

    name: str
    type: str
    sha256: Sha256


class DatasetEntities(_Part):
    """The entity rows, kept beside the data in time order: ``entities/part-00000.parquet`` and so on."""

    description: str
    rows: int
    sha256: Sha256
    parts: int = 1


class DatasetLabels(_Part):
    """What the labels were made of, and what became of the rows."""

    spec: str
    source: str
    kind: Literal["bars", "trades"]
    calendar: str
    without_label: int = Field(description="rows without a label: no price, or an end past the data")
    kept_without_label: bool = False


class DatasetManifest(_Part):
    """The whole manifest.

    ``parts`` are the files of ``data/`` in the order of the rows. The fingerprints of other formats cannot be compared
    with this one's.
    """

    format: Literal[2] = FORMAT
    fingerprint_format: Literal[2] = FINGERPRINT_FORMAT
    service: str
    plan: dict[str, JsonValue]
    views: tuple[DatasetView, ...]
    as_of_us: int
    as_of: str
    entities: DatasetEntities
    labels: DatasetLabels | None
    row_count: int
    first_event: str
    last_event: str
    columns: tuple[DatasetColumn, ...]
    content_sha256: Sha256
    partition_by: PartitionBy = "none"
    parts: tuple[PartFile, ...]
    cpu: str
    libraries: dict[str, str]

    @property
    def retrieval_plan(self) -> RetrievalPlan:
        """The plan that the rows were joined by."""
        return RetrievalPlan.from_dict(self.plan)

    @property
    def label_spec(self) -> LabelSpec | None:
        """The parsed label."""
        return LabelSpec.parse(self.labels.spec) if self.labels else None

    @property
    def features(self) -> tuple[str, ...]:
        """Feature columns, in the order of the service."""
        return self.retrieval_plan.output_names

    def to_text(self) -> str:
        """Indented JSON, for people too."""
        return self.model_dump_json(indent=2) + "\n"


def read_manifest(path: Path) -> DatasetManifest:
    """Read a manifest from its file, or from the folder that holds it.

    Raises
    ------
    IntegrityError
        If it is missing, of an older format, or breaks a rule of the format; the message names each fault.
    """
    file = path / MANIFEST_NAME if path.is_dir() else path
    try:
        text = file.read_bytes()
        _refuse_other_format(text, file)
        return DatasetManifest.model_validate_json(text)
    except FileNotFoundError:
        raise IntegrityError(
            "there is no data set manifest", where=str(file), remedy="Make a data set with: tapeline export"
        ) from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()[:5])
        raise IntegrityError(f"the data set's manifest is wrong: {faults}", where=str(file)) from None


def _refuse_other_format(text: bytes, file: Path) -> None:
    try:
        found = json.loads(text)
    except ValueError:
        return  # the validation says what is wrong
    if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] != FORMAT:
        raise IntegrityError(
            f"the data set has format {found['format']}; this version of Tapeline writes and compares format {FORMAT}",
            where=str(file),
            remedy="Export it again with the manifest's as_of as --as-of",
        )


def library_versions(names: tuple[str, ...] = _LIBRARIES) -> dict[str, str]:
    """Installed versions of the libraries that can influence a result."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor as it names itself."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table_columns(types: dict[str, Any], digests: dict[str, str]) -> tuple[DatasetColumn, ...]:
    """Columns in the table's order."""
    return tuple(DatasetColumn(name=name, type=str(kind), sha256=digests[name]) for name, kind in types.items())
