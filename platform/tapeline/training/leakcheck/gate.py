"""The gate: every check of every view of a feature service, on the real database, which it only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from tapeline.core.errors import EmptyDataError
from tapeline.core.timestamps import format_us
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.point_in_time import as_of_join
from tapeline.datasets.vintage import resolve_vintage
from tapeline.features.testing import run_checks
from tapeline.features.versions import Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.indicators import indicator_named
from tapeline.storage.feature_tables import RegisteredView, registered_views
from tapeline.training.leakcheck import futures, inputs, on_demand, outcomes, own, planted, truncation
from tapeline.training.leakcheck.on_demand import OnDemandView
from tapeline.training.leakcheck.own import OwnFeatures
from tapeline.training.leakcheck.report import Fault, LeakReport
from tapeline.training.leakcheck.subject import (
    Sampled,
    SampleSizes,
    Subject,
    choose_moments,
    fresh_moments,
    open_subject,
    specification,
)

CODE = "kernels"
_LOOK_AHEAD = "it does not look ahead"
_UTC = pa.timestamp("us", tz="UTC")


def leakcheck(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    *,
    on_demand_views: Sequence[OnDemandView] = (),
    own_features: Sequence[OwnFeatures] = (),
    sizes: SampleSizes | None = None,
    labels: str | None = None,
    as_of_us: int | None = None,
    notify: Callable[[str], object] = lambda _: None,
    advance: Callable[[int], object] = lambda _: None,
) -> LeakReport:
    """Look for values of a service that have seen the future.

    Nothing is written but temporary tables of this session.

    Parameters
    ----------
    connection
        The database; idle.
    plan
        The service.
    on_demand_views
        What it computes at request time.
    own_features
        How the values of views that are not Tapeline's are computed; without that, only what is stored can be checked.
    sizes
        How much to look at.
    labels
        Such as ``direction:5d``; none: what fits the source of prices.
    as_of_us
        The vintage, microseconds UTC; none: the safe horizon.
    notify
        Told what is being checked.
    advance
        Called with a number of steps done of `steps`.

    Returns
    -------
    LeakReport
        Every check's outcome and the faults; ``require_clean`` raises if there are any.

    Raises
    ------
    VintageError
        If `as_of_us` is later than the safe horizon.
    EmptyDataError
        If a view has no values: nothing would be tested.

    Examples
    --------
    >>> leakcheck(connection, retrieval_plan("feature_repo", "daily_model")).require_clean()  # doctest: +SKIP
    """
    started = time.perf_counter()
    sizes = sizes or SampleSizes()
    vintage_us = resolve_vintage(connection, as_of_us)
    report = LeakReport(plan.service, format_us(vintage_us))
    with connection.transaction():
        registered = registered_views(connection)
    functions = {each.view: each for each in own_features}
    samples: list[Sampled] = []
    fresh: list[tuple[list[str], Integers]] = []
    for selection in plan.views:
        notify(f"{selection.view}@{selection.version}")
        spec = specification(selection, registered)
        subject = open_subject(connection, selection, spec, vintage_us, sizes)
        entities, moments_us = choose_moments(subject, sizes)
        if not entities:
            raise EmptyDataError(
                "the view has no values, so nothing would be tested",
                where=f"feature view {subject.name}",
                remedy=f"Run: tapeline backfill {selection.view}",
            )
        sample = subject.join(entities, moments_us)
        samples.append(sample)
        fresh.append(fresh_moments(subject, sizes))
        _check_view(report, subject, sample, sizes, registered, functions, advance)
    notify("labels")
    if plan.entity_columns == ("symbol",):
        cases, faults, note = outcomes.check_labels(connection, plan, _entity_rows(fresh), labels, vintage_us)
        report.add(outcomes.LABELS, plan.service, cases, faults, note)
        rows = _entity_rows([(sample.entities, sample.moments_us) for sample in samples])
        for view in on_demand_views:
            notify(view.name)
            joined = as_of_join(connection, plan.views, rows, vintage_us=vintage_us)
            cases, faults = on_demand.check_on_demand(view, joined, sizes)
            report.add(on_demand.CHECK, view.name, cases, faults)
    else:
        faults = outcomes.check_names(plan)
        report.add(outcomes.LABELS, plan.service, len(plan.output_names), faults, "names only")
    advance(1)
    report.seconds = time.perf_counter() - started
    return report


def steps(plan: RetrievalPlan, sizes: SampleSizes) -> int:
    """How often `leakcheck` advances at most."""
    return len(plan.views) * (sizes.entities * (sizes.moments + sizes.futures) + 1) + 1


def _check_view(
    report: LeakReport,
    subject: Subject,
    sample: Sampled,
    sizes: SampleSizes,
    registered: Sequence[RegisteredView],
    functions: Mapping[str, OwnFeatures],
    advance: Callable[[int], object],
) -> None:
    name, values = subject.name, sample.values.size
    if subject.spec is not None and not (changed := _changed(subject, subject.spec, registered)):
        _check_code(report, subject.spec, name)
        report.add(truncation.CHECK, name, values, truncation.check_truncation(subject, sample, advance))
        cases, faults = futures.check_other_raw(subject, sample, sizes, advance)
        report.add(futures.OTHER_RAW, name, cases, faults)
        cases, faults = inputs.check_early(subject)
        report.add(inputs.EARLY, name, cases, faults)
        cases, faults = inputs.check_adjusted(subject)
        report.add(inputs.ADJUSTED, name, cases, faults, "" if cases else "no split is known")
        _check_planted(report, subject, sizes)
    elif subject.spec is not None:
        report.add(CODE, name, 1, changed)
    elif (function := functions.get(subject.selection.view)) is not None:
        report.add(own.CHECK, name, values, own.check_own(subject, sample, function))
    else:
        report.add(truncation.CHECK, name, 0, (), "not Tapeline's: what it was computed from is not known")
    cases, faults = futures.check_other_stored(subject, sample)
    report.add(futures.OTHER_STORED, name, cases, faults)
    cases, faults = futures.check_shuffled(subject, sample, sizes)
    report.add(futures.SHUFFLED, name, cases, faults)
    advance(1)


def _changed(subject: Subject, spec: FeatureViewSpec, registered: Sequence[RegisteredView]) -> list[Fault]:
    """Values of other kernels than today's cannot be computed again."""
    for view in registered:
        if (view.view, view.version) == (spec.name, spec.version) and view.plan_hash != spec.plan.hash:
            detail = f"the table holds values of plan {view.plan_hash[:12]}, the code is {spec.plan.hash[:12]}"
            return [Fault(CODE, subject.name, detail=detail)]
    return []


def _check_code(report: LeakReport, spec: FeatureViewSpec, name: str) -> None:
    """User-written features, on rows cut off and altered; the built-in ones pass the same in the tests."""
    custom = sorted({request.name for request in spec.features if "." in request.name})
    if not custom:
        return
    faults = [
        Fault(CODE, name, feature, detail=check.detail)
        for feature in custom
        for check in run_checks(indicator_named(feature))
        if check.name == _LOOK_AHEAD and not check.passed
    ]
    report.add(CODE, name, len(custom), faults, f"custom: {', '.join(custom)}")


def _check_planted(report: LeakReport, subject: Subject, sizes: SampleSizes) -> None:
    result = planted.check_planted(subject, sizes)
    if result is None:
        report.add(planted.CHECK, subject.name, 0, (), "too few rows to plant on")
        return
    count = len(subject.selection.output_names)
    controls = ", ".join(f"{name} {found}/{count}" for name, found in result.controls.items())
    note = f"{result.units} rows; leaks on purpose found by: {controls}; by none: {len(result.blind)}"
    report.add(planted.CHECK, subject.name, result.tests, planted.faults_of(result, subject.name), note)


def _entity_rows(samples: Sequence[tuple[list[str], Integers]]) -> pa.Table:
    """Each entity and moment once, in order of time."""
    pairs = sorted(
        {
            (moment, entity)
            for entities, moments_us in samples
            for entity, moment in zip(entities, moments_us.tolist(), strict=True)
        }
    )
    moments = pa.array(np.array([moment for moment, _ in pairs], dtype=np.int64)).cast(_UTC)
    return pa.table({"symbol": pa.array([entity for _, entity in pairs], pa.string()), "event_timestamp": moments})
