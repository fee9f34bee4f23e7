"""The serving plan: which keys to read, where each value goes, and which kernels run, decided once at deploy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import LineageError, ModelNotReadyError
from tapeline.features.builders import BarBuilder, builder_of
from tapeline.features.plan import FeaturePlan
from tapeline.features.timeframes import FrameCalendar, TimeFrame, frames_of_inputs
from tapeline.features.view import FeatureViewSpec
from tapeline.registry.manifest import BundleManifest, ViewReference
from tapeline.storage.actions import actions_prefix
from tapeline.storage.keys import view_prefix
from tapeline.storage.packed import Layout
from tapeline.storage.state_codec import state_prefix


@dataclass(frozen=True)
class PlannedView:
    """One feature view of the model.

    Attributes
    ----------
    positions, columns
        For each feature of this view that the model takes: its place in the model's input, and among the view's columns.
    warm_up
        Rows that each of these features needs; of a longer time frame, more than any number.
    held, ages
        Which of these features show a last known value where the row has none, and the columns with its age.
    session_open_us, session_close_us
        The calendar around the end of training, int64; empty for views that need none.
    session_first
        Number, in the whole calendar, of the first of these sessions.
    """

    spec: FeatureViewSpec
    project: str
    lineage_hash: str
    ttl_us: int
    layout: Layout
    positions: NDArray[np.intp]
    columns: NDArray[np.intp]
    warm_up: NDArray[np.int64]
    held: NDArray[np.intp]
    ages: NDArray[np.intp]
    session_open_us: NDArray[np.int64]
    session_close_us: NDArray[np.int64]
    session_first: int

    @cached_property
    def into(self) -> slice | NDArray[np.intp]:
        """`positions` as an index into a vector: a slice, which is much cheaper, where they follow each other."""
        return _as_slice(self.positions)

    @cached_property
    def pick(self) -> slice | NDArray[np.intp]:
        """`columns` likewise."""
        return _as_slice(self.columns)

    @cached_property
    def closes(self) -> list[int]:
        """`session_close_us` as Python numbers, which are searched faster one at a time."""
        return [int(close_us) for close_us in self.session_close_us]

    @cached_property
    def plan(self) -> FeaturePlan:
        """The compiled kernels."""
        return self.spec.plan

    @property
    def name(self) -> str:
        """The view's name."""
        return self.spec.name

    @property
    def version(self) -> int:
        """The view's version."""
        return self.spec.version

    @cached_property
    def plan_hash(self) -> str:
        """Hash of the kernels, parameters and inputs."""
        return self.spec.plan.hash

    @cached_property
    def takes_trades(self) -> bool:
        """Whether live trades, rather than live bars, continue this view's states."""
        return self.spec.rows.raw == "trades"

    @cached_property
    def calendar(self) -> FrameCalendar:
        """Sessions of the bundle, for the bars of time frames."""
        return FrameCalendar(self.session_open_us, self.session_close_us)

    @cached_property
    def builder(self) -> BarBuilder | None:
        """Makes the bars of live trades; None for a view over stored bars."""
        return builder_of(self.spec.rows, self.calendar)

    @cached_property
    def frames(self) -> dict[str, TimeFrame]:
        """Row columns with the ends of frame bars."""
        return frames_of_inputs(self.spec.plan.inputs)

    @cached_property
    def value_prefix(self) -> bytes:
        """What the keys of packed values begin with; the entity's part follows."""
        return view_prefix(self.project, self.name, self.version)

    @cached_property
    def state_prefix(self) -> bytes:
        """What the keys of kernel states begin with; the entity's part follows."""
        return state_prefix(self.project, self.name, self.version)


@dataclass(frozen=True)
class ServingPlan:
    """Everything about a bundle that a request needs."""

    manifest: BundleManifest
    bundle_sha256: str
    views: tuple[PlannedView, ...]
    feature_names: tuple[str, ...]
    actions_prefix: bytes

    @classmethod
    def of(cls, manifest: BundleManifest, bundle_sha256: str, project: str) -> ServingPlan:
        """The plan of a verified bundle.

        Loads the compiled kernels of every view, or compiles them where the cache is cold.

        Raises
        ------
        LineageError
            If this installation's kernels are not those that the model was trained on.
        ModelNotReadyError
            If the bundle asks for a feature that its view does not have.
        """
        views = tuple(_planned(reference, manifest, project) for reference in manifest.views)
        several = len(views) > 1
        names = tuple(f"{f.view}:{f.name}" if several else f.name for f in manifest.features)
        return cls(manifest, bundle_sha256, views, names, actions_prefix(project))


def _as_slice(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return slice(int(places[0]), int(places[0]) + len(places))
    return places


def _rows_needed(plan: FeaturePlan, column: int) -> int:
    """Rows up to the first value. How many a longer time frame takes is not known: it counts as not warmed up until then."""
    return plan.warm_up[column] if plan.frames[column] is None else int(np.iinfo(np.int64).max)


def _planned(reference: ViewReference, manifest: BundleManifest, project: str) -> PlannedView:
    spec = FeatureViewSpec.from_definition(reference.definition)
    where = f"view {reference.view}@{reference.version} of {manifest.model}@{manifest.version}"
    if (spec.name, spec.version) != (reference.view, reference.version):
        raise ModelNotReadyError(f"the definition is that of {spec.name}@{spec.version}", where=where)
    if spec.plan.hash != reference.plan_hash:
        raise LineageError(
            f"the model was trained on kernels {reference.plan_hash[:12]}, this installation has {spec.plan.hash[:12]}",
            where=where,
            remedy="Serve it with the version of Tapeline that trained it, or train again",
        )
    wanted = [(i, f.name) for i, f in enumerate(manifest.features) if (f.view, f.version) == (spec.name, spec.version)]
    outputs = {name: column for column, name in enumerate(spec.plan.outputs)}
    if missing := [name for _, name in wanted if name not in outputs]:
        raise ModelNotReadyError(
            f"the view has no feature {', '.join(missing)}", where=where, remedy="Train the model again"
        )
    columns = np.array([outputs[name] for _, name in wanted], dtype=np.intp)
    holds = [(column, hold) for column, hold in enumerate(spec.plan.holds) if hold is not None]
    limits = {hold.column: hold.limit_us for _, hold in holds}
    for i, name in wanted:
        if manifest.features[i].last_within_us != limits.get(name):
            raise ModelNotReadyError(
                f"the bundle says that a last value of {name} may be {manifest.features[i].last_within_us} µs old, its"
                f" view says {limits.get(name)}",
                where=where,
                remedy="Train the model again",
            )
    age_of = {hold.column: column for column, hold in holds if hold.is_age}
    held = [place for place, (_, name) in enumerate(wanted) if name in age_of]
    sessions = reference.sessions
    return PlannedView(
        spec=spec,
        project=project,
        lineage_hash=reference.lineage_hash,
        ttl_us=reference.ttl_us,
        layout=Layout.of_floats(spec.name, spec.version, spec.plan.outputs),
        positions=np.array([position for position, _ in wanted], dtype=np.intp),
        columns=columns,
        warm_up=np.array([_rows_needed(spec.plan, column) for column in columns.tolist()], dtype=np.int64),
        held=np.array(held, dtype=np.intp),
        ages=np.array([age_of[wanted[place][1]] for place in held], dtype=np.intp),
        session_open_us=np.asarray(sessions.open_us if sessions else (), dtype=np.int64),
        session_close_us=np.asarray(sessions.close_us if sessions else (), dtype=np.int64),
        session_first=sessions.first_number if sessions else 0,
    )
