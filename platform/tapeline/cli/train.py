"""``tapeline train`` and ``models``: from a data set to a registered model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from tapeline.cli.app import JsonOption, console, emit, progress
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us

if TYPE_CHECKING:
    from tapeline.registry import ModelRecord

_IMPORTANCE_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)
    models = typer.Typer(help="Registered models.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("show")(show)
    models.command("alias")(alias)
    app.add_typer(models, name="models")


def train(
    data: Annotated[Path, typer.Option(help="Folder written by tapeline export.", show_default=False)],
    model: Annotated[str, typer.Option(help="Name of the model.", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="TOML or JSON file with choices; options win over it.")] = None,
    family: Annotated[str | None, typer.Option(help="lightgbm or logistic.")] = None,
    window: Annotated[str | None, typer.Option(help="expanding or rolling.")] = None,
    train_steps: Annotated[int | None, typer.Option(help="Sessions to train on before the first test.")] = None,
    test_steps: Annotated[int | None, typer.Option(help="Sessions in a test window.")] = None,
    embargo_steps: Annotated[int | None, typer.Option(help="Sessions between the last label's end and a test.")] = None,
    cost_bps: Annotated[float | None, typer.Option(help="Cost of trading in basis points.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random number.")] = None,
    version: Annotated[str | None, typer.Option(help="Version to register; the next one if none.")] = None,
    aliases: Annotated[list[str] | None, typer.Option("--alias", help="Alias to set, such as champion.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also keep the bundle in this folder.")] = None,
    register_model: Annotated[bool, typer.Option("--register/--no-register", help="Put it in the registry.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Train a model, compare it with baselines, calibrate it, export it to ONNX and register it.

    The model is judged on purged walk-forward predictions; the verdict says in words what the numbers allow to conclude.
    """
    from tapeline.registry import Registry
    from tapeline.storage.postgres import connect
    from tapeline.training import read_config
    from tapeline.training import train as train_model

    choices = read_config(
        config,
        family=family,
        window=window,
        train_steps=train_steps,
        test_steps=test_steps,
        embargo_steps=embargo_steps,
        cost_bps=cost_bps,
        seed=seed,
    )
    from tapeline.lineage.openlineage import job_run, train_datasets

    with tempfile.TemporaryDirectory(prefix="tapeline-train-") as scratch, job_run(f"train.{model}") as told:
        bundle = out or Path(scratch) / "bundle"
        with _Stages() as stages:
            trained = train_model(data, model, bundle, config=choices, notify=stages)
        record = None
        if register_model:
            with connect() as connection:
                registry = Registry(connection, get_settings().artifacts_path)
                record = registry.register(bundle, version=version, aliases=aliases or ())
        address = record.bundle_sha256 if record else trained.manifest.address
        described_by = trained.manifest.model_dump(mode="json")
        told.describe(lambda: train_datasets(data, described_by, address, get_settings() if record else None))
    metrics: dict[str, Any] = trained.manifest.model_dump(mode="json")["metrics"]
    described: dict[str, Any] = {
        "model": model,
        "version": record.version if record else None,
        "bundle_sha256": address,
        "dataset_sha256": trained.manifest.dataset_sha256,
        "aliases": list(record.aliases) if record else [],
        "folder": str(out) if out else None,
        "parity_rows": trained.parity.rows,
        "parity_difference_max": trained.parity.probability_difference_max,
    }
    if selection := metrics.get("selection"):
        described |= {"selection": selection["method"], "selection_stability": selection["stability"]}
    if as_json:
        described |= {"verdict": trained.verdict, "metrics": metrics, "training": dict(trained.manifest.training)}
        emit(described, as_json=True)
        return
    emit(_metric_rows(metrics), as_json=False, title="Walk-forward, 95 % intervals")
    emit(trained.importance[:_IMPORTANCE_SHOWN], as_json=False, title="Features that matter most")
    if selection:
        emit(_selection_rows(selection), as_json=False, title="Selected features")
    emit(described, as_json=False, title="Model")
    console.print(trained.verdict, style="italic", highlight=False)


def list_models(
    model: Annotated[str | None, typer.Argument(help="Only versions of this model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List registered versions."""
    from tapeline.registry import Registry
    from tapeline.storage.postgres import connect

    with connect() as connection:
        registry = Registry(connection, get_settings().artifacts_path)
        records = registry.records(model)
        if model is not None and not records:
            registry.resolve(model)
    rows = [_row(record) for record in records]
    if not as_json:
        rows = [row | {name: row[name][:12] for name in ("bundle_sha256", "dataset_sha256")} for row in rows]
    emit(rows, as_json=as_json, title="Models", empty="No model is registered yet. Make one with: tapeline train")


def show(
    model: Annotated[str, typer.Argument(help="name, name@version or name@alias.")], as_json: JsonOption = False
) -> None:
    """Show a version: where it came from, what it needs, how good it is. Its artifact is verified on the way."""
    from tapeline.registry import Registry, parse_reference
    from tapeline.storage.postgres import connect

    name, selector = parse_reference(model)
    with connect() as connection:
        registry = Registry(connection, get_settings().artifacts_path)
        record = registry.resolve(name, selector)
        manifest = registry.manifest(record)
    content = manifest.model_dump(mode="json")
    if as_json:
        emit(_row(record) | {"manifest": content}, as_json=True)
        return
    emit(
        _row(record)
        | {
            "parent": record.parent_sha256,
            "service": manifest.service,
            "label": manifest.label.get("spec"),
            "features": [str(feature) for feature in manifest.features],
            "libraries": manifest.libraries,
        },
        as_json=False,
        title=model,
    )
    if "model" in content["metrics"]:
        emit(_metric_rows(content["metrics"]), as_json=False, title="Walk-forward, 95 % intervals")
    if verdict := content["metrics"].get("verdict"):
        console.print(verdict, style="italic", highlight=False)


def alias(
    model: Annotated[str, typer.Argument(help="name, name@version or name@alias: what the alias will name.")],
    name: Annotated[str, typer.Argument(help="The alias, such as champion.")],
    as_json: JsonOption = False,
) -> None:
    """Let an alias name a version from now on."""
    from tapeline.lineage.openlineage import deploy_datasets, job_run
    from tapeline.registry import Registry, parse_reference
    from tapeline.storage.postgres import connect

    model_name, selector = parse_reference(model)
    settings = get_settings()
    with job_run(f"deploy.{model_name}@{name}", settings) as told, connect() as connection:
        registry = Registry(connection, settings.artifacts_path)
        record = registry.set_alias(model_name, name, registry.resolve(model_name, selector).version)
        told.describe(lambda: deploy_datasets(settings, model_name, record.version, name, record.bundle_sha256))
    emit(_row(record), as_json=as_json, title="Alias")


class _Stages:
    """Shows one progress bar for each stage of a training, the next replacing the last."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def __call__(self, stage: str, total: int | None) -> Callable[[], object]:
        self._open.close()
        advance: Callable[[], object] = self._open.enter_context(progress(f"Training: {stage}", total))
        return advance


def _row(record: ModelRecord) -> dict[str, Any]:
    return {
        "model": record.model,
        "version": record.version,
        "aliases": list(record.aliases),
        "registered": format_us(record.created_us),
        "bundle_sha256": record.bundle_sha256,
        "dataset_sha256": record.dataset_sha256,
    }


def _selection_rows(selection: dict[str, Any]) -> list[dict[str, str]]:
    frequency = selection["frequency"]
    return [{"feature": name, "folds that select it": f"{frequency[name]:.0%}"} for name in selection["features"]]


def _metric_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    predictors = {"model": metrics["model"]} | metrics["baselines"]
    rows = []
    for name, scores in predictors.items():
        row = {"predictor": name.replace("_", " ")}
        for metric, estimate in scores.items():
            row[metric.replace("_", " ")] = "–" if estimate["value"] is None else _interval(estimate)
        rows.append(row)
    return rows


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"
