"""From descriptions to OpenLineage's own events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from openlineage.client import event_v2, facet_v2
from openlineage.client.uuid import generate_new_uuid

from tapeline import __version__
from tapeline.lineage.openlineage.description import InputColumn, JobDataset, JobDatasets

PRODUCER = f"urn:tapeline:{__version__}"
ERROR_LETTERS_MAX = 2_000

State = Literal["START", "COMPLETE", "FAIL"]


def new_run_id() -> str:
    """An identity for a run."""
    return str(generate_new_uuid())


def run_event(
    state: State, run_id: str, namespace: str, job: str, datasets: JobDatasets, error: BaseException | None = None
) -> event_v2.RunEvent:
    """One event of a run.

    Parameters
    ----------
    state
        What happened.
    run_id
        The same for all events of a run.
    namespace, job
        The job.
    datasets
        What it read and wrote, as far as is known by now.
    error
        Why it failed.
    """
    run_facets: dict[str, Any] = {
        "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet(
            version=__version__, name="tapeline", producer=PRODUCER
        )
    }
    if error is not None:
        run_facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(
            message=f"{type(error).__name__}: {error}"[:ERROR_LETTERS_MAX],
            programmingLanguage="python",
            producer=PRODUCER,
        )
    job_type = facet_v2.job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration="TAPELINE", jobType=job.partition(".")[0].upper(), producer=PRODUCER
    )
    return event_v2.RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        producer=PRODUCER,
        eventType=event_v2.RunState[state],
        run=event_v2.Run(run_id, facets=run_facets),
        job=event_v2.Job(namespace, job, facets={"jobType": job_type}),
        inputs=[event_v2.InputDataset(d.namespace, d.name, facets=_facets(d)) for d in datasets.inputs],
        outputs=[_output(d) for d in datasets.outputs],
    )


def _output(dataset: JobDataset) -> event_v2.OutputDataset:
    statistics: dict[str, Any] = {}
    if dataset.rows is not None:
        statistics["outputStatistics"] = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=dataset.rows, producer=PRODUCER
        )
    return event_v2.OutputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), outputFacets=statistics)


def _facets(dataset: JobDataset) -> dict[str, Any]:
    """Data source always; schema, version and column lineage where they are known."""
    facets: dict[str, Any] = {
        "dataSource": facet_v2.datasource_dataset.DatasourceDatasetFacet(
            name=dataset.namespace,
            uri=dataset.namespace if "://" in dataset.namespace else f"{dataset.namespace}://{dataset.name}",
            producer=PRODUCER,
        )
    }
    if dataset.columns:
        facets["schema"] = facet_v2.schema_dataset.SchemaDatasetFacet(
            fields=[
                facet_v2.schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in dataset.columns
            ],
            producer=PRODUCER,
        )
    if dataset.version is not None:
        facets["version"] = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(
            datasetVersion=dataset.version, producer=PRODUCER
        )
    if dataset.lineage:
        column_lineage = facet_v2.column_lineage_dataset
        facets["columnLineage"] = column_lineage.ColumnLineageDatasetFacet(
            fields={
                name: column_lineage.Fields(inputFields=[_input_field(part) for part in parts])
                for name, parts in dataset.lineage.items()
            },
            producer=PRODUCER,
        )
    return facets


def _input_field(part: InputColumn) -> Any:
    transformation = facet_v2.column_lineage_dataset.Transformation(
        type="DIRECT" if part.direct else "INDIRECT",
        subtype="TRANSFORMATION" if part.direct else "WINDOW",
        description=part.how or "",
        masking=False,
    )
    return facet_v2.column_lineage_dataset.InputField(
        namespace=part.namespace, name=part.name, field=part.column, transformations=[transformation]
    )
