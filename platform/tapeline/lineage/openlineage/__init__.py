"""OpenLineage: what a job read and wrote, told to a catalogue such as Marquez as the job begins, ends or fails.

:func:`job_run` is all that a job needs. Nothing is imported and nothing happens unless the settings name a transport.
"""

from tapeline.lineage.openlineage.datasets import (
    backfill_datasets,
    deploy_datasets,
    export_datasets,
    ingest_datasets,
    materialize_datasets,
    train_datasets,
)
from tapeline.lineage.openlineage.description import JobDataset, JobDatasets
from tapeline.lineage.openlineage.run import JobRun, job_run

__all__ = [
    "JobDataset",
    "JobDatasets",
    "JobRun",
    "backfill_datasets",
    "deploy_datasets",
    "export_datasets",
    "ingest_datasets",
    "job_run",
    "materialize_datasets",
    "train_datasets",
]
